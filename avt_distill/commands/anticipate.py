r"""Predicts which actions start next in a video: as a table, JSON, a picture or a video.

    avt-distill anticipate cooking.mp4 --model checkpoint/
    avt-distill anticipate cooking.mp4 --model checkpoint/ --at 12.5 --top_k 3
    avt-distill anticipate cooking.mp4 --model checkpoint/ --every 1 --json out.json --timeline out.png \
        --video out.mp4

The model is a folder or a name on the Hub; it runs with the code of this project, not with the checkpoint's. Picture
and video need matplotlib: the extra `plots`.

A checkpoint with a reader (`avt-distill fit_reader`) also reports what it has recognized so far. For this, even for one
moment, it decodes and encodes every frame that the reader reads, from the beginning of the video on: `--read_from_s`
makes that less, `--no_reader` leaves the reader out.
"""

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..runs.arguments import CommandParser

if TYPE_CHECKING:
    from modeling_avt import ActionAnticipationPipeline

    from ..pictures.timeline import Film

FILM_SHORT_SIDE_PX = 180
SHOWN = 3  # actions of a moment that have a column, and a line in the annotated video
RECOGNIZED = 5  # past actions that are printed


def main(argv: Sequence[str]):
    args = parse(argv)

    from ..pictures.annotated_video import write_annotated_video
    from ..pictures.timeline import draw_timeline
    from ..runs.folder import write_json

    anticipate = load_pipeline(args)
    moments = ask(anticipate, args)
    config = anticipate.model.config
    print(f"{args.video_file}, answers of {args.model} (tau_a {config.tau_a:g} s, tau_o {config.tau_o:g} s)")
    lines = table(moments, args.top_k) if args.every is not None else answer_lines(moments[0])
    print("\n".join([*lines, *history_lines(moments[-1])]))
    if args.json is not None:
        source = {"video": str(args.video_file), "model": args.model, "tau_a": config.tau_a, "tau_o": config.tau_o}
        write_json(args.json, {**source, "moments": moments})
        print(f"written to {args.json}")
    if args.timeline is not None:
        title = f"{args.video_file.name}: what {Path(args.model).name} anticipates, {config.tau_a:g} s ahead"
        draw_timeline(moments, film(args.video_file, moments), title, args.timeline)
        print(f"drawn to {args.timeline}")
    if args.video is not None:
        write_annotated_video(args.video_file, moments, args.video, min(args.top_k, SHOWN))
        print(f"Video saved to {args.video}")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("anticipate", __doc__)
    parser.add_argument("video_file", type=Path, metavar="VIDEO", help="the video file")
    parser.add_argument("--model", required=True, help="folder of a checkpoint, or its name on the Hub")
    moment = parser.add_mutually_exclusive_group()
    moment.add_argument("--at", type=float, help="end of the observed window in seconds; default: end of the video")
    moment.add_argument("--every", type=float, help="seconds between the moments of a timeline")
    parser.add_argument("--top_k", type=int, default=5, help="how many actions")
    parser.add_argument("--no_reader", action="store_true", help="answer with the model alone, without its reader")
    parser.add_argument("--read_from_s", type=float, help="where its reader begins, in seconds; default: 0")
    parser.add_argument("--json", type=Path, help="JSON to write")
    parser.add_argument("--timeline", type=Path, help="PNG to write; with --every")
    parser.add_argument("--video", type=Path, help="mp4 to write: the video and what was anticipated; with --every")
    parser.add_argument("--device", help="such as cpu or cuda:0; default: the first accelerator, else the CPU")
    parser.add_argument("--dtype", default="auto", help="such as bfloat16; default: as the checkpoint was saved")
    args = parser.parse(argv)
    if args.no_reader and args.read_from_s is not None:
        raise ValueError("--read_from_s sets where the reader begins, and --no_reader leaves it out: give one of them.")
    for name in ("json", "timeline", "video"):
        path = getattr(args, name)
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"--{name}: there is no folder {path.parent}.")
    pictures = [f"--{name}" for name in ("timeline", "video") if getattr(args, name) is not None]
    if pictures and args.every is None:
        raise ValueError(f"{pictures[0]} shows moments along the video: give --every, such as --every 1.")
    if pictures and importlib.util.find_spec("matplotlib") is None:
        raise ValueError(f"{pictures[0]} needs matplotlib: pip install 'avt-distill[plots]'.")
    return args


def load_pipeline(args: argparse.Namespace) -> "ActionAnticipationPipeline":
    from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTVideoProcessor
    from modeling_avt.rules_avt import TOP_K
    from modeling_avt.temporal_avt import checked_every

    TOP_K("top_k", args.top_k)  # refused now, and not after a model was loaded
    if args.every is not None:
        checked_every(args.every)
    model = AVTForAnticipation.from_pretrained(args.model, dtype=args.dtype)
    processor = None if model.config.backbone_config is None else AVTVideoProcessor.from_pretrained(args.model)
    return ActionAnticipationPipeline(model, video_processor=processor, device=args.device)


def ask(anticipate: "ActionAnticipationPipeline", args: argparse.Namespace) -> list[dict]:
    """Returns the answers at each moment: of a single one too, as a timeline of one."""
    if args.read_from_s is not None and anticipate.model.reader is None:
        raise ValueError(f"--read_from_s sets where the reader begins, but {args.model} has none: leave it out.")
    reading = {"reader": False if args.no_reader else None, "read_from_s": args.read_from_s}
    answers = anticipate(args.video_file, at=args.at, every=args.every, top_k=args.top_k, **reading)
    if args.every is not None:
        return answers
    read = {"history": answers[0]["history"]} if "history" in answers[0] else {}
    answers = [{name: value for name, value in answer.items() if name != "history"} for answer in answers]
    times = {"at_s": answers[0]["observed_until_s"], "starts_at_s": answers[0]["starts_at_s"]}
    return [{**times, "anticipated": answers, **read}]


def answer_lines(moment: Mapping) -> list[str]:
    times = "observed: {observed_from_s:.1f} to {observed_until_s:.1f} s; starting at {starts_at_s:.1f} s:"
    lines = [times.format(**moment["anticipated"][0])]
    return lines + [f"{100 * answer['score']:6.1f} %  {answer['label']}" for answer in moment["anticipated"]]


def history_lines(moment: Mapping) -> list[str]:
    """Returns the last actions recognized by a moment, oldest first, as text; nothing where no reader has read."""
    if "history" not in moment:
        return []
    history, until = moment["history"], f"recognized until {moment['at_s']:.1f} s"
    if not history:
        return [f"{until}: no action yet"]
    which = f" (the last {RECOGNIZED} of {len(history)} actions)" if len(history) > RECOGNIZED else ""
    lines = [f"{until}, with when each action began{which}:"]
    return lines + [
        f"{100 * entry['probability']:6.1f} %  {entry['start_s']:6.1f} s  {entry['label']}"
        for entry in history[-RECOGNIZED:]
    ]


def table(moments: Sequence[Mapping], top_k: int) -> list[str]:
    """Returns a line a moment, with the likeliest actions side by side, and the last one recognized if any are."""
    rows = [[f"{100 * a['score']:5.1f} % {a['label']}" for a in moment["anticipated"][:SHOWN]] for moment in moments]
    header = "    observed (s)  starts at  likeliest first"
    if "history" in moments[0]:
        rows = [[*row, f"| {_last_recognized(moment)}"] for row, moment in zip(rows, moments, strict=True)]
        header += "; after |: the last action recognized"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [header]
    for moment, row in zip(moments, rows, strict=True):
        answers = "  ".join(words.ljust(width) for words, width in zip(row, widths, strict=True)).rstrip()
        observed = f"{moment['anticipated'][0]['observed_from_s']:6.1f} to {moment['at_s']:6.1f}"
        lines.append(f"{observed}  {moment['starts_at_s']:7.1f} s  {answers}")
    if min(top_k, len(moments[0]["anticipated"])) > SHOWN:
        lines.append(f"(the {SHOWN} likeliest; all {len(moments[0]['anticipated'])} are in the JSON)")
    return lines


def _last_recognized(moment: Mapping) -> str:
    if not moment["history"]:
        return "none yet"
    last = moment["history"][-1]
    return f"{100 * last['probability']:5.1f} % {last['label']}"


def film(video: Path, moments: Sequence[Mapping]) -> "Film":
    from modeling_avt.video_io_avt import probe, read_frames

    from ..pictures.timeline import Film, film_times

    info = probe(video)
    times = film_times(moments, info.duration_s, info.width / info.height)
    return Film(read_frames(video, times, resize_short_side=FILM_SHORT_SIDE_PX), times, info.duration_s)
