"""Adapts a language model to sequences of actions in recipes.

    python scripts/adapt_language_model.py --model_name_or_path bert-base-uncased --recipes recipe_actions.jsonl.gz \
        --output_dir bert_recipes
    torchrun --nproc_per_node 2 scripts/adapt_language_model.py run.yaml --bf16 --output_dir bert_recipes

A run's arguments are written in a YAML file, on the command line, or on both, where the command line counts. Those of
transformers' TrainingArguments are known too. The output folder is for AutoModel, AutoModelForMaskedLM or
AutoModelForCausalLM and AutoTokenizer; adaptation.json in it tells the perplexity before and after. An interrupted run
continues with --resume_from_checkpoint true.
"""

import sys

from avt_distill.recipes.adaptation import AdaptationArguments, adapt
from avt_distill.runs.arguments import parse_run
from avt_distill.runs.folder import check_processes


def main(argv: list[str] | None = None):
    try:
        args = parse_run(AdaptationArguments, argv, description=__doc__)
        check_processes(args.world_size)
        result = adapt(args)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
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


if __name__ == "__main__":
    main()
