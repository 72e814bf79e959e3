r"""Adapts a language model to sequences of actions in recipes.

    avt-distill adapt_language_model --model_name_or_path bert-base-uncased --recipes recipe_actions.jsonl.gz \
        --output_dir bert_recipes
    accelerate launch -m avt_distill adapt_language_model run.yaml --bf16 --output_dir bert_recipes

The output folder loads with AutoModel, AutoModelForMaskedLM or AutoModelForCausalLM, and AutoTokenizer; its
adaptation.json holds the perplexity before and after. If interrupted, rerun with --resume_from_checkpoint true.
"""

from collections.abc import Sequence

from ..recipes.arguments import AdaptationArguments
from ..runs.arguments import parse_run


def main(argv: Sequence[str]):
    args = parse_run(AdaptationArguments, argv, description=__doc__, command="adapt_language_model")

    from ..recipes.adaptation import adapt
    from ..runs.folder import check_processes

    check_processes(args.world_size)
    result = adapt(args)
    if args.should_save:
        print(summary(result, args.output_dir))


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
