"""Compares text models with and without words, as teachers and in a reader, by number of training videos.

    python -m benchmarks.words --dataset breakfast --data_dir breakfast --encoder minilm --output_dir runs/words
    python -m benchmarks.words --dataset epic_tent --data_dir epic_tent --output_dir runs/tent

- `true`: predicts the next action from the annotated history of each test row, as with a perfect recognizer.
- `reader`: predicts it from a recognizer's output for each frame.
- `student`: trains students on each model's soft labels, alongside identical baselines without a teacher, on the same
  recognizer's output.

Except for `fifty_salads`, whose frame scores are real, the recognizer is SIMULATED
(`benchmarks.simulation.CausalRecognizer`): such numbers compare text models, and are not accuracies on videos.
`epic_tent`, and `fifty_salads` with `--noise`, compare the simulated recognizer with the real one.

`counts` is the mixture of unigram, bigram, trigram and a log-linear model; each model with words is mixed with these.
All options and weights are chosen on held-out training videos, and test rows are read once per cell. Each cell is a
file in `--output_dir`. Rerun the command to resume, or change `--parts` or `--num_videos` to add cells.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from avt_distill.data.benchmarks.epic_tent import GOPRO_FPS, STEPS, recognized_steps
from avt_distill.runs.fingerprints import columns_digest
from avt_distill.runs.folder import keep_settings, write_json
from avt_distill.runs.lock import locked
from avt_distill.teacher.soft_labels import rows_fingerprint
from benchmarks.measure import describe_machine
from benchmarks.simulation import CausalRecognizer, error_statistics

from .curves import Curves, Draw
from .data import SETTINGS, words_data
from .parts import LossOptions, StudentOptions, groups_of
from .report import TITLES, report
from .texts import MODELS, LanguageModels, TextModels

ALL_VIDEOS, NOISE_DRAWS = 0, 20
DEFAULT_MODELS = ("unigram", "bigram", "trigram", "log-linear", "vectors", "vectors, scrambled")


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(SETTINGS)}, epic_tent, or a folder")
    parser.add_argument("--data_dir", help="folder with its annotations")
    parser.add_argument("--config_name", help="configuration of the data set (default: split 1)")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=TITLES, default=["true"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(DEFAULT_MODELS))
    parser.add_argument(
        "--num_videos", type=int, nargs="+", default=[ALL_VIDEOS], help="numbers of training videos; 0: all"
    )
    parser.add_argument("--draws", type=int, default=3, help="draws of each number of videos below all")
    parser.add_argument(
        "--noise", action="store_true", help="compare the simulated recognizer with the real one of 50 Salads"
    )
    parser.add_argument("--accuracy", type=float, help="share of frames that the simulated recognizer labels correctly")
    parser.add_argument("--encoder", help="folder of a language model, such as all-MiniLM-L6-v2")
    parser.add_argument("--of_recipes", help="the encoder after avt-distill adapt_language_model")
    parser.add_argument("--decoder", help="folder of a decoder, such as SmolLM2-135M")
    parser.add_argument("--recipes", help="file written by avt-distill extract_recipe_actions")
    parser.add_argument("--tuning_epochs", type=float, default=5.0, help="epochs of fine-tuned language models")
    parser.add_argument("--reader_videos", type=int, help="number of test videos for readers (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the students")
    parser.add_argument("--student_epochs", type=float, default=16)
    parser.add_argument("--student_frames", type=int, default=6, help="number of frames in the observed window")
    parser.add_argument("--student_frame_rate", type=float, default=0.2)
    losses = "temperature:weight[:top_k] for soft labels; the best on held-out training videos is used"
    parser.add_argument("--losses", type=LossOptions.parse, nargs="+", default=[LossOptions()], help=losses)
    parser.add_argument("--threads", type=int, help="number of CPU threads (default: PyTorch's choice)")
    args = parser.parse_args(arguments)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with locked(args.output_dir):
        print(_compare_noise(args) if args.noise or args.dataset == "epic_tent" else _measure(args))


def _measure(args: argparse.Namespace) -> str:
    data = words_data(args.dataset, args.data_dir, accuracy=args.accuracy, config_name=args.config_name)
    settings = {"dataset": args.dataset, "config_name": data.setting.config_name, "accuracy": data.setting.accuracy}
    # Cells are not reused after the annotations have changed.
    settings["segments"] = {split: columns_digest(dict(segments.items())) for split, segments in data.segments.items()}
    settings["rows"] = {"train": rows_fingerprint(data.training_rows), "test": rows_fingerprint(data.rows)}
    keep_settings(args.output_dir / "settings.json", settings, what="a table")
    rows = {
        "labels": data.rows["action"].tolist(),
        "groups": groups_of(data.rows).tolist(),
        "verb_noun": data.verb_noun.tolist(),
        "videos": len(data.training_videos),
        "machine": describe_machine("torch", "transformers", threads=torch.get_num_threads()),
    }
    write_json(args.output_dir / "rows.json", rows)
    names = ("encoder", "of_recipes", "decoder", "recipes")
    language_models = LanguageModels(**{name: getattr(args, name) for name in names}, epochs=args.tuning_epochs)
    text_models = TextModels(data, language_models, args.output_dir)
    curves = Curves(data, text_models, args.output_dir, args.reader_videos)
    draws = [Draw(count or None, number) for count in args.num_videos for number in range(args.draws if count else 1)]
    options = StudentOptions(tuple(args.seeds), args.student_epochs, args.student_frames, args.student_frame_rate)
    for part in args.parts:
        curves.measure(part, args.models, draws, options, args.losses)
    return report(args.output_dir, simulated=data.setting.accuracy is not None, title=data.builder.TITLE)


def _compare_noise(args: argparse.Namespace) -> str:
    """Returns a table of the errors of a real recognizer and of a simulated one of the same accuracy."""
    reported, shown, num_actions, action_parts = _real_frames(args)
    real = error_statistics(reported, shown, 1.0)
    recognizer = CausalRecognizer.of_accuracy(real["right"], shown, num_actions, action_parts)
    draws = []
    for draw in range(NOISE_DRAWS):
        simulated = [recognizer.log_probs(true, 1000 * draw + seed).argmax(1) for seed, true in enumerate(shown)]
        draws.append(error_statistics(simulated, shown, 1.0))
    lines = [f"{args.dataset}, 1 frame/s | real | SIMULATED, mean of {NOISE_DRAWS} | least | most"]
    for name, value in _flat(real).items():
        values = [_flat(draw)[name] for draw in draws]
        lines.append(f"{name} | {value:.3f} | {np.mean(values):.3f} | {min(values):.3f} | {max(values):.3f}")
    write_json(args.output_dir / "noise.json", {"real": real, "simulated": draws})
    return "\n".join(lines)


def _real_frames(args: argparse.Namespace) -> tuple[list[np.ndarray], list[np.ndarray], int, np.ndarray | None]:
    """Returns the reported and true classes of each video at 1 frame/s, the number of actions and their parts."""
    if args.dataset == "epic_tent":
        steps = recognized_steps(args.data_dir).values()
        pairs = [(reported, true, np.arange(0, len(true), GOPRO_FPS).astype(int)) for reported, true in steps]
        return [reported[at] for reported, _, at in pairs], [true[at] for _, true, at in pairs], len(STEPS), None
    data = words_data(args.dataset, args.data_dir, config_name=args.config_name)
    if data.setting.accuracy is not None:
        raise ValueError(
            f"--noise compares the simulated recognizer with a real one, and {args.dataset} has none: use fifty_salads."
        )
    names = data.training_videos
    shown = [data.frames[name].labels for name in names]
    return [data.recognized[name].argmax(1) for name in names], shown, data.num_actions, data.verb_noun


def _flat(statistics: dict) -> dict[str, float]:
    found = {}
    for name, value in statistics.items():
        found |= {f"{name} {key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


if __name__ == "__main__":
    main()
