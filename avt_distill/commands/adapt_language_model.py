r"""Adapts a language model to sequences of actions in recipes.

    avt-distill adapt_language_model --model_name_or_path bert-base-uncased --recipes recipe_actions.jsonl.gz \
        --output_dir bert_recipes
    accelerate launch -m avt_distill adapt_language_model run.yaml --bf16 --output_dir bert_recipes

The output folder loads with AutoModel, AutoModelForMaskedLM or AutoModelForCausalLM, and AutoTokenizer; its
adaptation.json holds the perplexity before and after. --push_to_hub true uploads it at the end and, unless
--hub_strategy end, whenever it is saved. If interrupted, rerun with --resume_from_checkpoint true; a finished model is
then kept.
"""

from collections.abc import Sequence
from pathlib import Path

from ..recipes.arguments import AdaptationArguments
from ..runs.arguments import parse_run


def main(argv: Sequence[str]):
    args = parse_run(AdaptationArguments, argv, description=__doc__, command="adapt_language_model")

    from accelerate import PartialState
    from transformers.training_args import HubStrategy

    from ..recipes.adaptation import adapt
    from ..runs.folder import check_processes

    check_processes(args.world_size)
    if args.push_to_hub:
        from ..sharing.hub import PushingAdaptationTrainer

        args.hub_model_id = repo_id = repository(args)  # before training, so that a wrong name or token fails at once
        args.push_to_hub = args.hub_strategy != HubStrategy.END  # while it trains
        result = adapt(args, PushingAdaptationTrainer)
    else:
        repo_id, result = None, adapt(args)
    PartialState().wait_for_everyone()  # all processes must have finished writing before the folder is pushed
    if args.should_save:
        print(summary(result, str(args.output_dir)))
        if repo_id is not None:
            print(f"Pushed to {push(str(args.output_dir), repo_id)}")


def repository(args: AdaptationArguments) -> str:
    """Returns the full name of the repository to push to. The main process creates it if it does not exist."""
    from ..sharing.hub import create_repository

    name = args.hub_model_id or Path(str(args.output_dir)).resolve().name
    return create_repository(name, private=bool(args.hub_private_repo)) if args.should_save else name


def push(folder: str, repo_id: str) -> str:
    """Uploads the language model with a generated card, or the user's own, and returns the repository's full name."""
    from ..sharing.cards import language_model_card, write_card
    from ..sharing.hub import push_folder

    write_card(Path(folder), language_model_card(folder, repo_id))
    return push_folder(folder, repo_id, commit_message="A language model adapted to recipes, and its perplexity")


def summary(result: dict, folder: str) -> str:
    before, after, training = result["before"], result["after"], result["training"]
    return "\n".join(
        [
            f"perplexity before: {before['perplexity']:.2f} ({result['before_is_of']})",
            f"perplexity after:  {after['perplexity']:.2f}",
            f"on {after['predicted_tokens']} predicted tokens of {result['recipes']['held_out']} recipes held out; "
            f"{training['steps']} steps on {result['recipes']['train']} recipes, "
            f"{training['tokens_per_second']:.0f} tokens/s",
            f"written to {folder}",
        ]
    )
