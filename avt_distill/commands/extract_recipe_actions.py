"""Extracts the actions of recipes as (verb, object) pairs, in the order of the text.

    avt-distill extract_recipe_actions recipes.jsonl.gz --output actions.jsonl
    avt-distill extract_recipe_actions recipe1m/layer1.json --output actions.parquet --num_proc 8

Reads one JSON object per line, `{"id": ..., "title": ..., "instructions": ["...", ...]}`, or a JSON list of them such
as Recipe1M's `layer1.json`, whose instructions are `{"text": "..."}`; plain or gzip. Writes one row per recipe, in the
same order, as JSONL or, for outputs named .parquet, Parquet: `{"id": ..., "title": ..., "actions": [["preheat",
"oven"], ...]}`. Recipes without an action are kept, with an empty list, and counted.

If interrupted, rerun the command to resume: until it is complete, the output is stored as `<output>.unfinished`. A JSON
list is loaded into memory, JSONL is streamed. What counts as an action:
`avt_distill.recipes.actions`.
"""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..runs.arguments import CommandParser


def main(argv: Sequence[str]):
    parser = CommandParser("extract_recipe_actions", __doc__)
    parser.add_argument("recipes", type=Path, help="JSONL or a JSON list, plain or gzip")
    parser.add_argument("--output", type=Path, required=True, help="file to write, .jsonl or .parquet")
    parser.add_argument("--parser", help="an installed spaCy model, or its folder; default: a small English one")
    parser.add_argument("--num_proc", type=int, default=1, help="processes that parse")
    args = parser.parse(argv)
    if args.num_proc < 1:
        raise ValueError(f"--num_proc is {args.num_proc}: give 1 or more.")

    from ..recipes.extraction import count_actions, count_left_out, extract_file

    started = time.perf_counter()
    extracted = extract_file(args.recipes, args.output, parser_name=args.parser, num_proc=args.num_proc)
    rate = extracted / (time.perf_counter() - started)
    recipes, without, pairs = count_actions(args.output)
    verbs = Counter()
    for (verb, _), count in pairs.items():
        verbs[verb] += count
    print(f"recipes: {recipes}, of which without an action: {without}; {rate:.0f} recipes/s")
    left_out, total = count_left_out(args.recipes)
    if left_out:
        print(f"left out: {left_out} of {total} instructions that are not English")
    print(f"actions: {pairs.total()}, {pairs.total() / recipes:.1f} a recipe; {len(pairs)} different")
    print("verbs:   " + ", ".join(f"{verb} {count}" for verb, count in verbs.most_common(10)))
    print("actions: " + ", ".join(f"{verb} {name} {count}" for (verb, name), count in pairs.most_common(10)))
