r"""Predicts which actions start next in a video or a live stream: as a table, JSON or pictures.

    avt-distill anticipate cooking.mp4 --model checkpoint/
    avt-distill anticipate cooking.mp4 --model checkpoint/ --at 12.5 --top_k 3
    avt-distill anticipate cooking.mp4 --model checkpoint/ --every 1 --json out.json --timeline out.png \
        --video out.mp4
    avt-distill anticipate cooking.mp4 --model checkpoint/ --num_actions 5 --num_sequences 3
    avt-distill anticipate cooking.mp4 --model checkpoint/ --horizon_s 60
    avt-distill anticipate /dev/video0 --model checkpoint/
    avt-distill anticipate rtsp://camera/stream --model checkpoint/ --json - > answers.jsonl
    ffmpeg -i anything -f mpegts - | avt-distill anticipate - --model checkpoint/

The model is a folder or a name on the Hub. It runs with the code of this project, not with the checkpoint's. --timeline
and --video need matplotlib: the extra `plots`.

A checkpoint with a reader (`avt-distill fit_reader`) also reports the actions recognized so far. For this, even for a
single moment, every frame that the reader reads is decoded and encoded from the beginning of the video: limit that
with `--read_from_s`, or disable the reader with `--no_reader`.

Live sources are webcams (/dev/video0; on Windows video=NAME, on macOS video=NUMBER), rtsp://, http:// and https://
URLs, and `-`, a pipe on standard input. Answers are printed immediately, `--every` seconds apart: the model's frame
interval, which is the default, or that divided by a whole number. Camera frames that arrive while the model is busy are
dropped; those of pipes and of videos over HTTP wait. Ctrl-C ends the command with status 130. If a source breaks off,
the command ends with an error after the answers so far.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runs.arguments import CommandParser
from ..runs.outputs import OVERWRITE, check_different, check_output, has_mark, is_json_with, mark_of

if TYPE_CHECKING:
    from modeling_avt import ActionAnticipationPipeline

    from ..pictures.timeline import Film

FILM_SHORT_SIDE_PX = 180
SHOWN = 3  # actions per moment in the table and in the annotated video
RECOGNIZED = 5  # number of past actions to print
STDOUT = Path("-")
ENDINGS = {"timeline": ".png", "video": ".mp4"}
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")
OF_WHOLE_FILES = ("at", "read_from_s", "timeline", "video")
HEADER = "    observed (s)  starts at  likeliest first"
WIDEST_LABEL = 30  # in a live table, whose column widths are fixed before the first answer


def main(argv: Sequence[str]):
    args = parse(argv)

    from ..data.camera import is_live

    if is_live(args.source):
        watch(args)
    else:
        answer_file(args)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    from ..data.camera import is_live, source_name

    parser = CommandParser("anticipate", __doc__)
    parser.add_argument("source", metavar="VIDEO", help="the video file, a device, a URL, or - for standard input")
    parser.add_argument("--model", required=True, help="folder of a checkpoint, or its name on the Hub")
    moment = parser.add_mutually_exclusive_group()
    moment.add_argument("--at", type=float, help="end of the observed window in seconds; default: end of the video")
    moment.add_argument("--every", type=float, help="seconds between the moments of a timeline")
    rate = "of a folder of numbered pictures, which states no rate"
    parser.add_argument("--frames_per_second", type=float, help=rate)
    parser.add_argument("--top_k", type=int, default=5, help="how many actions")
    further = parser.add_mutually_exclusive_group()
    further.add_argument("--num_actions", type=int, help="sequences of so many next actions instead")
    further.add_argument("--horizon_s", type=float, help="what happens when, for so many seconds, instead")
    parser.add_argument("--num_sequences", type=int, help="with --num_actions: how many sequences; default: 5")
    parser.add_argument(
        "--do_sample", action="store_true", help="with --num_actions: draw them; default: the likeliest"
    )
    parser.add_argument("--no_reader", action="store_true", help="answer with the model alone, without its reader")
    parser.add_argument("--read_from_s", type=float, help="where its reader begins, in seconds; default: 0")
    parser.add_argument("--json", type=Path, help="JSON to write; - prints one object a moment, and nothing else")
    parser.add_argument("--timeline", type=Path, help="PNG to write; with --every")
    parser.add_argument("--video", type=Path, help="mp4 to write: the video and what was anticipated; with --every")
    parser.add_argument("--overwrite", action="store_true", help=OVERWRITE)
    parser.add_argument("--device", help="such as cpu or cuda:0; default: the first accelerator, else the CPU")
    as_saved = "default: auto, as the checkpoint was saved"
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help=f"numbers of the weights; {as_saved}")
    args = parser.parse(argv)
    if is_live(args.source):
        for name in OF_WHOLE_FILES:
            if getattr(args, name) is not None:
                raise ValueError(
                    f"--{name} needs the whole file, but {source_name(args.source)} is a live source: leave it out, "
                    "or record the video first."
                )
    if args.frames_per_second is not None:
        args.source = with_rate(args.source, args.frames_per_second)
    if args.num_actions is None and (args.num_sequences is not None or args.do_sample):
        raise ValueError("--num_sequences and --do_sample need sequences: give --num_actions, such as 5.")
    if args.no_reader and args.read_from_s is not None:
        raise ValueError("--read_from_s sets where the reader begins, and --no_reader disables it: give one of them.")
    for name in ("json", "timeline", "video"):
        path = getattr(args, name)
        if path is not None and not path.parent.is_dir():
            raise ValueError(
                f"--{name} is {path}, but there is no folder {path.parent}: create it, or give another path."
            )
    if not is_live(args.source):
        check_outputs(args)
    pictures = [f"--{name}" for name in ("timeline", "video") if getattr(args, name) is not None]
    if pictures and (args.num_actions is not None or args.horizon_s is not None):
        raise ValueError(f"{pictures[0]} shows next actions: leave --num_actions and --horizon_s out.")
    if pictures and args.every is None:
        raise ValueError(f"{pictures[0]} shows moments along the video: give --every, such as --every 1.")
    if pictures and importlib.util.find_spec("matplotlib") is None:
        raise ValueError(f"{pictures[0]} needs matplotlib: pip install 'avt-distill[plots]'.")
    return args


def check_outputs(args: argparse.Namespace):
    """Raises `ValueError` if an output would replace the video, the model, another output or a file of another
    command."""
    from ..data.camera import source_name

    outputs = {name: getattr(args, name) for name in ("json", "timeline", "video")}
    check_different({f"--{name}": path for name, path in outputs.items()})
    same = {"video": source_name(args.source), "model": args.model}
    recognized = {"json": is_json_with("moments", **same)}
    for name, path in outputs.items():
        made_here = recognized.get(name, has_mark(mark(args)))
        inputs = {"VIDEO": args.source, "--model": args.model}
        checks = {"made_here": made_here, "ending": ENDINGS.get(name)}
        check_output(f"--{name}", path, inputs, overwrite=args.overwrite, **checks)


def mark(args: argparse.Namespace) -> str:
    from ..data.camera import source_name

    return mark_of("anticipate", source_name(args.source), args.model)


def with_rate(source: str, frames_per_second: float) -> str:
    """Returns a folder of pictures with its rate; raises `ValueError` for other sources, which have their own clock."""
    if not Path(source).is_dir():
        raise ValueError(f"--frames_per_second is only for folders of pictures, and {source} is not one: leave it out.")
    from modeling_avt.video_io_avt import PictureFolder

    return str(PictureFolder(source, frames_per_second))


def answer_file(args: argparse.Namespace):
    from ..pictures.annotated_video import write_annotated_video
    from ..pictures.timeline import draw_timeline
    from ..runs.folder import write_json

    anticipate, video = load_pipeline(args), Path(args.source)
    moments = ask(anticipate, args)
    config, say = anticipate.model.config, messages_to(args)
    say(title(args, config))
    if args.json == STDOUT:
        for moment in moments:
            print_json(moment)
    else:
        lines = table(moments, args.top_k) if args.every is not None else answer_lines(moments[0])
        print("\n".join([*lines, *history_lines(moments[-1])]))
    if args.json not in (None, STDOUT):
        write_json(args.json, {**origin(args, config), "moments": moments})
        say(f"JSON saved to {args.json}")
    if args.timeline is not None:
        title_of_picture = f"{video.name}: what {Path(args.model).name} anticipates, {config.tau_a:g} s ahead"
        draw_timeline(moments, film(video, moments), title_of_picture, args.timeline, mark=mark(args))
        say(f"Timeline saved to {args.timeline}")
    if args.video is not None:
        write_annotated_video(video, moments, args.video, min(args.top_k, SHOWN), mark=mark(args))
        say(f"Video saved to {args.video}")


def watch(args: argparse.Namespace):
    """Anticipates from a live source until it ends, breaks off or Ctrl-C is pressed."""
    from ..data.camera import live_frames

    frames = live_frames(args.source)
    anticipate = load_pipeline(args)
    config = anticipate.model.config
    if config.backbone_config is None:
        raise ValueError(
            f"{args.model} has no backbone: it needs features, but a live source delivers frames. Write a checkpoint "
            f"with its encoder first: avt-distill attach_encoder {args.model}."
        )
    options = {"every": args.every, "reader": False if args.no_reader else None, **question(args)}
    stream = anticipate.model.stream(anticipate.video_processor, **options)
    messages_to(args)(title(args, config))
    time_s = 0.0
    with closing(frames):
        first = next(frames)  # opened before any output, so that a source that cannot be opened changes no files
        check_outputs(args)
        with live_output(args, config) as give:
            for frame, time_s in chain([first], frames):
                if answer := stream.push(frame, time_s):
                    give(moment_of(answer, stream.start_s, config))
            # The source has ended, so its last frame is trusted even after a long gap.
            if time_s > stream.time_s and (answer := stream.advance(time_s)):
                give(moment_of(answer, stream.start_s, config))


def moment_of(answer: Sequence[Mapping], start_s: float, config) -> dict:
    """Returns an answer of a stream in the form of the pipeline's timelines, with `expected_in_s` if a reader reads."""
    from modeling_avt.answers_avt import observed_for

    at_s, of_reader = answer[0]["at_s"], ("history", "expected_in_s")
    times = {"observed_from_s": max(at_s - config.tau_o, start_s), "observed_until_s": at_s}
    times["starts_at_s"] = at_s + config.tau_a
    entries = [{key: entry[key] for key in entry if key not in ("at_s", *of_reader)} for entry in answer]
    actions = [entry | observed_for(entry, times) for entry in entries]
    read = {key: answer[0][key] for key in of_reader if key in answer[0]}
    return {"at_s": at_s, "starts_at_s": times["starts_at_s"], "anticipated": actions, **read}


@contextmanager
def live_output(args: argparse.Namespace, config) -> Iterator[Callable[[dict], None]]:
    """Yields a function that outputs one answered moment; at the end, prints the recognized history."""
    from ..runs.folder import growing_json

    last = None
    width = 8 + min(max(map(len, config.id2label.values())), WIDEST_LABEL)

    def to_table(moment: dict):
        nonlocal last
        if is_further(moment):
            last = moment
            print("\n".join(answer_lines(moment)), flush=True)
            return
        if last is None:
            print(header(moment))
        last = moment
        print(table_line(moment, [width] * len(cells(moment))), flush=True)

    if args.json == STDOUT:
        yield print_json
        return
    try:
        if args.json is None:
            yield to_table
        else:
            with growing_json(args.json, origin(args, config), "moments") as append:

                def to_both(moment: dict):
                    append(moment)
                    to_table(moment)

                yield to_both
    finally:
        print("\n".join(history_lines(last or {})), end="\n" if last and "history" in last else "")
        if args.json is not None:
            print(f"JSON saved to {args.json}")


def messages_to(args: argparse.Namespace) -> Callable[[str], None]:
    """Returns the function that prints messages: to standard error if standard output is reserved for JSON."""
    return partial(print, file=sys.stderr if args.json == STDOUT else sys.stdout, flush=True)


def print_json(moment: Mapping):
    print(json.dumps(moment), flush=True)  # ASCII only, since the encoding of standard output depends on the system


def title(args: argparse.Namespace, config) -> str:
    from ..data.camera import source_name

    return f"{source_name(args.source)}, answers of {args.model} (tau_a {config.tau_a:g} s, tau_o {config.tau_o:g} s)"


def origin(args: argparse.Namespace, config) -> dict:
    from ..data.camera import source_name

    return {"video": source_name(args.source), "model": args.model, "tau_a": config.tau_a, "tau_o": config.tau_o}


def load_pipeline(args: argparse.Namespace) -> "ActionAnticipationPipeline":
    from modeling_avt import ActionAnticipationPipeline, AVTForAnticipation, AVTVideoProcessor
    from modeling_avt.futures_avt import Question
    from modeling_avt.temporal_avt import checked_every

    from ..runs.devices import checked_device

    Question(**question(args))  # raises before the model is loaded
    device = checked_device(args.device)
    if args.every is not None:
        checked_every(args.every)
    model = AVTForAnticipation.from_pretrained(args.model, dtype=args.dtype)
    processor = None if model.config.backbone_config is None else AVTVideoProcessor.from_pretrained(args.model)
    return ActionAnticipationPipeline(model, video_processor=processor, device=device)


def question(args: argparse.Namespace) -> dict:
    """Returns the arguments of pipelines and streams that select the kind of answer."""
    asked = {"top_k": args.top_k, "num_actions": args.num_actions, "horizon_s": args.horizon_s}
    num_sequences = {} if args.num_sequences is None else {"num_sequences": args.num_sequences}
    return asked | num_sequences | {"do_sample": args.do_sample}


def ask(anticipate: "ActionAnticipationPipeline", args: argparse.Namespace) -> list[dict]:
    """Returns the answers as a timeline, which has one entry for a single moment."""
    if args.read_from_s is not None and anticipate.model.reader is None:
        raise ValueError(f"--read_from_s sets where the reader begins, but {args.model} has no reader: leave it out.")
    reading = {"reader": False if args.no_reader else None, "read_from_s": args.read_from_s}
    # The declared return type of transformers' pipelines does not cover a list for one video.
    answers: Any = anticipate(args.source, at=args.at, every=args.every, **reading, **question(args))
    if args.every is not None:
        return answers
    read = {"history": answers[0]["history"]} if "history" in answers[0] else {}
    answers = [{name: value for name, value in answer.items() if name != "history"} for answer in answers]
    at_s = answers[0]["observed_until_s"]
    times = {"at_s": at_s, "starts_at_s": at_s + anticipate.model.config.tau_a}
    return [{**times, "anticipated": answers, **read}]


def answer_lines(moment: Mapping) -> list[str]:
    first = moment["anticipated"][0]
    observed = "observed: {observed_from_s:.1f} to {observed_until_s:.1f} s; ".format(**first)
    if "ends_at_s" in first:
        return [f"{observed}expected:", *further_lines(moment)]
    if "actions" in first:
        return [f"{observed}sequences of the next {len(first['actions'])} actions:", *further_lines(moment)]
    lines = [f"{observed}starting at {first['starts_at_s']:.1f} s:"]
    lines += [f"{100 * answer['score']:6.1f} %  {answer['label']}" for answer in moment["anticipated"]]
    if "says" in first:
        lines.append(f"answer: {first['says'] or 'withheld, as no action is likely enough'}")
    return lines


def further_lines(moment: Mapping) -> list[str]:
    """Returns a line for each sequence of actions, or for each action of a timeline."""
    lines = []
    for entry in moment["anticipated"]:
        if "actions" in entry:
            names = " > ".join(action["label"] for action in entry["actions"])
            lines.append(f"{100 * entry['score']:6.1f} %  {names}")
        else:
            what = entry["label"] or "(no action)"
            lines.append(
                f"{entry['starts_at_s']:8.1f} to {entry['ends_at_s']:.1f} s {100 * entry['score']:6.1f} %  {what}"
            )
    return lines


def is_further(moment: Mapping) -> bool:
    """Returns whether a moment's answer goes beyond the next action: sequences or a timeline."""
    return not moment["anticipated"][0].keys().isdisjoint(("actions", "ends_at_s"))


def history_lines(moment: Mapping) -> list[str]:
    """Returns the last actions recognized by a moment as text, oldest first; an empty list without a reader."""
    if "history" not in moment:
        return []
    history, until = moment["history"], f"recognized until {moment['at_s']:.1f} s"
    if not history:
        return [f"{until}: no action yet"]
    which = f" (the last {RECOGNIZED} of {len(history)} actions)" if len(history) > RECOGNIZED else ""
    lines = [f"{until}, with the start of each action{which}:"]
    return lines + [
        f"{100 * entry['probability']:6.1f} %  {entry['start_s']:6.1f} s  {entry['label']}"
        for entry in history[-RECOGNIZED:]
    ]


def table(moments: Sequence[Mapping], top_k: int) -> list[str]:
    """Returns one line per moment with its likeliest actions and, with a reader, the last recognized one.

    Sequences and timelines have several lines per moment.
    """
    if is_further(moments[0]):
        return [line for moment in moments for line in answer_lines(moment)]
    widths = [max(map(len, column)) for column in zip(*map(cells, moments), strict=True)]
    lines = [header(moments[0]), *(table_line(moment, widths) for moment in moments)]
    if min(top_k, len(moments[0]["anticipated"])) > SHOWN:
        lines.append(f"(the {SHOWN} likeliest; the JSON holds all {len(moments[0]['anticipated'])})")
    return lines


def header(moment: Mapping) -> str:
    return f"{HEADER}; after |: the last action recognized" if "history" in moment else HEADER


def cells(moment: Mapping) -> list[str]:
    likeliest = [f"{100 * action['score']:5.1f} % {action['label']}" for action in moment["anticipated"][:SHOWN]]
    return [*likeliest, f"| {_last_recognized(moment)}"] if "history" in moment else likeliest


def table_line(moment: Mapping, widths: Sequence[int]) -> str:
    answers = "  ".join(words.ljust(width) for words, width in zip(cells(moment), widths, strict=True)).rstrip()
    observed = f"{moment['anticipated'][0]['observed_from_s']:6.1f} to {moment['at_s']:6.1f}"
    return f"{observed}  {moment['starts_at_s']:7.1f} s  {answers}"


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
