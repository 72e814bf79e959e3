"""A page that shows what a model of action anticipation expects in a video, moment by moment.

    python space/app.py --model checkpoint/
    AVT_MODEL=user/name python space/app.py      # as a Space of Hugging Face starts it

Any checkpoint of type `avt` that sees videos; it runs with the code that it brings.
"""

import argparse
import importlib
import os
import sys

import gradio as gr
from timeline import timeline_html
from transformers import Pipeline, pipeline
from uploads import CHECKED_EVERY_S, DELETED_AFTER_S, LARGEST_MB, LONGEST_S, check_length, forget

TOP_K = 5
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # none is fetched


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("AVT_MODEL"), help="folder, or name on the Hub")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between moments (default: 1)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    args = parser.parse_args(arguments)
    if args.model is None:
        parser.error("there is no model: give --model, or set AVT_MODEL")
    try:
        anticipate = pipeline("action-anticipation", model=args.model, trust_remote_code=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if anticipate.model.config.backbone_config is None:
        sys.exit(f"error: {args.model} takes features and not videos: give a checkpoint with a backbone.")
    page = build_page(anticipate, os.path.basename(os.path.normpath(args.model)), args.every)
    page.launch(server_port=args.port, theme=THEME, max_file_size=f"{LARGEST_MB}mb")


def build_page(anticipate: Pipeline, name: str, every: float) -> gr.Blocks:
    """Returns the page. What a visitor uploads is kept in the visitor's own session alone, and deleted after use."""
    config = anticipate.model.config
    read_frames, probe = (getattr(code_beside(anticipate, "video_io_avt"), name) for name in ("read_frames", "probe"))

    def watch(video: str | None, earlier: dict | None):
        """Works a video through, shows its first moment, and deletes the visitor's earlier video."""
        if earlier is not None and earlier["video"] != video:
            forget(earlier["video"])
        if video is None:
            raise gr.Error("There is no video yet: upload one first.", print_exception=False)
        try:
            check_length(probe(video).duration_s)
            moments = anticipate(video, every=every, top_k=TOP_K)
        except (ValueError, OSError) as error:
            forget(video)
            said = str(error).replace(video, os.path.basename(video))
            raise gr.Error(said, print_exception=False) from error
        if not moments:
            raise gr.Error(f"The video is shorter than {every:g} s.", print_exception=False)
        times = [moment["at_s"] for moment in moments]
        slider = gr.Slider(minimum=times[0], maximum=max(times[-1], times[0] + every), step=every, value=times[0])
        return {"video": video, "moments": moments}, slider, gr.Column(visible=True), *show(video, moments, 0)

    def scrub(seen: dict | None, at_s: float):
        """Shows the moment that is nearest to a time."""
        if seen is None:
            return [gr.skip()] * 4
        moments = seen["moments"]
        nearest = min(range(len(moments)), key=lambda index: abs(moments[index]["at_s"] - at_s))
        if not os.path.exists(seen["video"]):
            raise gr.Error("The video was deleted: upload it again.", print_exception=False)
        return show(seen["video"], moments, nearest)

    def show(video: str, moments: list[dict], chosen: int) -> tuple:
        answers = moments[chosen]["anticipated"]
        first = answers[0]
        window = f"{first['observed_from_s']:g} s to {first['observed_until_s']:g} s"
        said = f"Saw **{window}**, and anticipates what starts at **{first['starts_at_s']:g} s**."
        (frame,) = read_frames(video, [first["observed_until_s"]], resize_short_side=360)
        return timeline_html(moments, chosen), frame, said, {answer["label"]: answer["score"] for answer in answers}

    # Checkpoints whose code is older have no reader to ask for.
    band = " Below it: what had been recognized by the moment chosen." if getattr(config, "reader", None) else ""
    # What a visitor leaves behind is deleted after a while, frames that were shown too.
    kept = {"delete_cache": (CHECKED_EVERY_S, DELETED_AFTER_S), "analytics_enabled": False}
    with gr.Blocks(title=f"Action anticipation: {name}", **kept) as page:
        gr.Markdown(
            f"# What happens next?\n`{name}` watches {config.tau_o:g} s of video at a time, and says which of "
            f"{config.num_labels} actions starts {config.tau_a:g} s later.\n\nVideos of up to {LARGEST_MB} MB and "
            f"{LONGEST_S:g} s. Yours is deleted when you upload another, when you close the page, or after "
            f"{DELETED_AFTER_S // 60} minutes."
        )
        seen = gr.State(
            time_to_live=DELETED_AFTER_S, delete_callback=lambda last: forget(last["video"] if last else None)
        )
        video = gr.Video(label="Video", sources=["upload"], height=300)
        button = gr.Button("Anticipate", variant="primary", elem_id="anticipate")
        with gr.Column(visible=False) as results:
            gr.Markdown(f"The likeliest action, at the time at which it is to start; the higher, the surer.{band}")
            line = gr.HTML(elem_id="timeline")
            moment = gr.Slider(label="Seen until (s)", minimum=0, maximum=1, step=every, elem_id="moment")
            with gr.Row():
                frame = gr.Image(label="The last frame seen", interactive=False, height=300, buttons=[])
                with gr.Column():
                    said = gr.Markdown(elem_id="said")
                    best = gr.Label(label="What starts next", num_top_classes=TOP_K, show_heading=False, elem_id="best")
        shown = [line, frame, said, best]
        video.change(lambda: gr.Column(visible=False), None, results, api_name=False)
        button.click(watch, [video, seen], [seen, moment, results, *shown], api_name=False)
        moment.change(scrub, [seen, moment], shown, show_progress="hidden", trigger_mode="always_last", api_name=False)
    return page


def code_beside(anticipate: Pipeline, name: str):
    """Returns a module of the checkpoint's own code."""
    package = type(anticipate).__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


if __name__ == "__main__":
    main()
