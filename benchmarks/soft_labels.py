"""The time to label a training set with a fine-tuned teacher, compared with one padded pass over all histories.

    python -m benchmarks.soft_labels --teacher teachers/ek55 --data_dir annotations/ek55 --output soft_labels.json

Each variant computes the logits of every row of EPIC-Kitchens-55's training set with the same teacher, in one run.
The variants take turns, `--repeats` times.

- `padded_pass`: processes the rows in their order, in batches of `--batch_size`, padded to the longest history of
  all.
- `ours`: computes each distinct history once, in batches of similar length. In float32, it must agree with the padded
  pass; the largest difference is reported.
- `ours_bfloat16`: the same in bfloat16, as `avt-distill export_soft_labels --bf16_full_eval true` does.
"""

import argparse

import numpy as np
import torch

from avt_distill.data import anticipation_builder
from avt_distill.teacher.prediction import TeacherScorer, different_histories, encode_histories
from benchmarks.measure import add_common_arguments, describe_machine, print_times, take_turns, write_result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="folder written by avt-distill finetune_teacher")
    parser.add_argument("--data_dir", required=True, help="folder with the annotations of EPIC-Kitchens-55")
    parser.add_argument("--batch_size", type=int, default=16, help="histories per padded batch; the reference uses 16")
    parser.add_argument("--history_cutoff", help="rule of histories (default: that of the teacher's training)")
    parser.add_argument("--num_rows", type=int, help="label only this number of rows (default: all)")
    add_common_arguments(parser, repeats=1)
    args = parser.parse_args()
    write_result(measure(args), args.output)


def measure(args: argparse.Namespace) -> dict:
    scorer, rounded = (TeacherScorer.from_pretrained(args.teacher, dtype=d) for d in (torch.float32, torch.bfloat16))
    config = scorer.model.config
    options = {"history_cutoff": args.history_cutoff or config.history_cutoff, "tau_a": config.tau_a}
    rows = anticipation_builder("epic_kitchens_55", data_dir=args.data_dir, **options).rows("train")
    histories = list(rows["history"])[: args.num_rows]
    ways = {
        "padded_pass": lambda: padded_pass(scorer, histories, args.batch_size),
        "ours": lambda: scorer.logits(histories),
        "ours_bfloat16": lambda: rounded.logits(histories),
    }
    logits, times = take_turns(ways, args.repeats)
    print_times(f"{len(histories)} rows", times, baseline="padded_pass")
    lengths = [len(ids) for ids in encode_histories(histories, config, scorer.tokenizer)]
    expected = logits["padded_pass"]
    agreement = {
        "largest_difference": {name: float(np.abs(values - expected).max()) for name, values in logits.items()},
        "same_first_choice": {name: float((v.argmax(1) == expected.argmax(1)).mean()) for name, v in logits.items()},
    }
    print(agreement)
    return {
        "history_cutoff": options["history_cutoff"],
        "rows": len(histories),
        "different_histories": len(different_histories(histories, config.history_length)[0]),
        "tokens_mean_and_longest": [round(float(np.mean(lengths)), 1), max(lengths)],
        "tokens_per_s": {name: 1000 * sum(lengths) / measured["median_ms"] for name, measured in times.items()},
        "times": times,
        **agreement,
        "machine": describe_machine("torch", "transformers", threads=torch.get_num_threads()),
    }


@torch.inference_mode()
def padded_pass(scorer: TeacherScorer, histories: list, batch_size: int) -> np.ndarray:
    """Returns the logits of all histories `(N, A)`, computed in order and padded to the longest of all."""
    ids = encode_histories(histories, scorer.model.config, scorer.tokenizer)
    batch = scorer.tokenizer.pad({"input_ids": ids}, padding="longest", return_tensors="pt")
    logits = []
    for start in range(0, len(ids), batch_size):
        part = {name: batch[name][start : start + batch_size] for name in ("input_ids", "attention_mask")}
        logits.append(scorer.model(**{name: values.to(scorer.model.device) for name, values in part.items()}).logits)
    return torch.cat(logits).float().cpu().numpy()


if __name__ == "__main__":
    main()
