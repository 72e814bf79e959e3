"""A web page that shows the actions that a model anticipates in a video or camera stream.

    python space/app.py --model checkpoint/
    AVT_MODEL=user/name python space/app.py      # as a Hugging Face Space starts it

Accepts any checkpoint of type `avt` with a backbone, which runs with its own remote code.
"""

import argparse
import base64
import html
import importlib
import io
import math
import os
import signal
import sys
import tempfile
import threading

import gradio as gr
import live
import numpy as np
from PIL import Image
from timeline import clock, recognized_html, timeline_html
from transformers import Pipeline, pipeline
from uploads import DELETED_AFTER_S, LARGEST_MB, LONGEST_S, Uploads, check_length, keep_deleting
from zero_gpu import device, is_lent, loan_s, on_gpu, result_or_reason

TOP_K = 5
WAITING = "Nothing has been seen yet: open your camera and press Record."
DELETED = "The video was deleted: upload it again."
# Local fonts: none are downloaded.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=os.environ.get("AVT_MODEL"), help="folder, or name on the Hub")
    parser.add_argument("--every", type=seconds, default=1.0, help="seconds between moments (default: 1)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    args = parser.parse_args(arguments)
    if args.model is None:
        parser.error("there is no model: give --model, or set AVT_MODEL")
    try:
        anticipate = pipeline("action-anticipation", model=args.model, trust_remote_code=True, device=device())
        watch_live = anticipate
        if is_lent():  # a GPU call per frame would use up a visitor's quota in minutes, so streams stay on the CPU
            watch_live = pipeline("action-anticipation", model=args.model, trust_remote_code=True, device="cpu")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyError:  # a model of transformers that has no such task
        sys.exit(f"error: {args.model} does not anticipate actions: give a checkpoint of type avt.")
    if anticipate.model.config.backbone_config is None:
        attach = f"avt-distill attach_encoder {args.model}"
        sys.exit(f"error: {args.model} reads features, not videos: give the checkpoint that `{attach}` writes.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # a normal exit, so that uploads are deleted
    parent = os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="uploads-", dir=os.path.realpath(parent)) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # gradio's default folder is shared with other programs
        uploads, streams = Uploads(folder), live.LiveStreams(lambda: new_stream(watch_live))
        threading.Thread(target=keep_deleting, args=(uploads, streams), daemon=True).start()
        page = build_page(anticipate, os.path.basename(os.path.normpath(args.model)), args.every, uploads, streams)
        # gradio would otherwise store runs, including uploads, in the visitor's browser.
        page.launch(server_port=args.port, theme=THEME, max_file_size=f"{LARGEST_MB}mb", run_history=False)


def seconds(text: str) -> float:
    """Returns a time that was given as an option."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} s: give a finite time above 0")
    return value


def new_stream(anticipate: Pipeline):
    """Returns a new stream of a pipeline's model."""
    return anticipate.model.stream(anticipate.video_processor, top_k=TOP_K)


def build_page(anticipate: Pipeline, name: str, every: float, uploads: Uploads, streams: live.LiveStreams) -> gr.Blocks:
    """Returns the page. Uploads and camera frames are visible to the visitor's own session only, and deleted after
    use."""
    config = anticipate.model.config
    # Older checkpoints' configurations have no field `reader`.
    reads = bool(getattr(config, "reader", None))
    with gr.Blocks(title=f"Action anticipation: {name}", analytics_enabled=False) as page:
        gr.Markdown(
            f"# What happens next?\n`{name}` watches {config.tau_o:g} s of video at a time, and says which of "
            f"{config.num_labels} actions starts {config.tau_a:g} s later."
        )
        with gr.Tab("A video"):
            video_tab(page, anticipate, every, uploads, reads)
        with gr.Tab("Your camera"):
            camera_tab(page, config, streams, reads)
    return page


def camera_tab(page: gr.Blocks, config, streams: live.LiveStreams, reads: bool):
    """Adds the tab with the visitor's camera and its anticipated actions."""

    def see(picture: np.ndarray | None, request: gr.Request):
        """Pushes a frame into the visitor's stream, and shows its answer."""
        if picture is None:
            return gr.skip(), gr.skip(), gr.skip()
        try:
            seen_s, answer = streams.push(request.session_hash, live.rgb(picture))
        except ValueError as error:
            streams.close(request.session_hash)
            raise gr.Error(html.escape(str(error)), print_exception=False) from error
        if answer is None:
            return gr.skip(), gr.skip(), gr.skip()
        first = answer[0]
        starts_in = f"{first['starts_in_s']:g} s"
        summary = f"Has watched for **{clock(round(seen_s))}**, and anticipates what starts in **{starts_in}**."
        return summary, {entry["label"]: entry["score"] for entry in answer}, recognized_html(first)

    def leave(request: gr.Request):
        """Deletes the stream of a visitor who has closed the page."""
        streams.close(request.session_hash)

    gr.Markdown(
        f"Let your camera watch: the answer is renewed every {1 / config.frame_rate:g} s. Nothing is recorded: "
        "pictures are sent to this page's machine and never written to a disk. What the model remembers of them is "
        "deleted when you close the page, or within a minute after you stop the camera."
    )
    with gr.Row():
        with gr.Column():
            camera = gr.Image(
                label="Your camera",
                sources=["webcam"],
                streaming=True,
                type="numpy",
                height=360,
                webcam_options=gr.WebcamOptions(mirror=False),  # not mirrored, like the model's input
                elem_id="camera",
            )
        with gr.Column():
            summary = gr.Markdown(WAITING, elem_id="live-said")
            best = gr.Label(label="What starts next", num_top_classes=TOP_K, show_heading=False, elem_id="live-best")
            history = gr.HTML(elem_id="live-history", visible=reads)
    shown = [summary, best, history]
    camera.stream(
        see,
        camera,
        shown,
        stream_every=live.sent_every_s(config.frame_rate),
        time_limit=live.LONGEST_S,
        concurrency_limit=live.MOST_VISITORS,
        show_progress="hidden",
        api_name=False,
    )
    page.unload(leave)


def video_tab(page: gr.Blocks, anticipate: Pipeline, every: float, uploads: Uploads, reads: bool):
    """Adds the tab with a video upload and its timeline of anticipated actions."""
    read_frames, probe = (getattr(code_beside(anticipate, "video_io_avt"), name) for name in ("read_frames", "probe"))

    def loan(video: str, duration_s: float) -> int:
        return loan_s(duration_s / every)

    @on_gpu(duration=loan)
    @result_or_reason
    def moments_of(video: str, duration_s: float) -> list[dict]:
        return anticipate(video, every=every, top_k=TOP_K)

    def take(video: str | None, request: gr.Request):
        """Deletes the visitor's earlier video, and hides its results."""
        uploads.hold(request.session_hash, video)
        return gr.Column(visible=False)

    def leave(request: gr.Request):
        """Deletes the video of a visitor who has closed the page."""
        uploads.hold(request.session_hash, None)

    def watch(video: str | None, request: gr.Request):
        """Runs the pipeline on a video, and shows its first moment."""
        if video is None:
            raise gr.Error("There is no video yet: upload one first.", print_exception=False)
        try:
            duration_s = probe(video).duration_s
            check_length(duration_s, every)
            moments, reason = moments_of(video, duration_s)
            if reason is not None:
                raise ValueError(reason)
            first = show(video, moments, 0)
        except (ValueError, OSError) as error:
            raise refused(video, error, request) from error
        times = [moment["at_s"] for moment in moments]
        slider = gr.Slider(minimum=times[0], maximum=max(times[-1], times[0] + every), step=every, value=times[0])
        return {"video": video, "moments": moments}, slider, gr.Column(visible=True), *first

    def scrub(watched: dict | None, at_s: float, request: gr.Request):
        """Shows the moment that is nearest to a time."""
        if watched is None:
            raise gr.Error(DELETED, print_exception=False)
        moments = watched["moments"]
        nearest = min(range(len(moments)), key=lambda index: abs(moments[index]["at_s"] - at_s))
        try:
            return show(watched["video"], moments, nearest)
        except (ValueError, OSError) as error:
            raise refused(watched["video"], error, request) from error

    def refused(video: str, error: Exception, request: gr.Request) -> gr.Error:
        """Deletes a video that cannot be shown, and returns the reason."""
        reason = str(error).replace(video, os.path.basename(video)) if os.path.exists(video) else DELETED
        uploads.refuse(request.session_hash, video)
        return gr.Error(html.escape(reason), print_exception=False)  # escaped, since gradio renders HTML in errors

    def show(video: str, moments: list[dict], chosen: int) -> tuple:
        answers = moments[chosen]["anticipated"]
        first = answers[0]
        window = f"{first['observed_from_s']:g} s to {first['observed_until_s']:g} s"
        summary = f"Saw **{window}**, and anticipates what starts at **{first['starts_at_s']:g} s**."
        (frame,) = read_frames(video, [first["observed_until_s"]], resize_short_side=360)
        return (
            timeline_html(moments, chosen),
            picture_html(frame),
            summary,
            {answer["label"]: answer["score"] for answer in answers},
        )

    band = " Below it: what had been recognized by the moment chosen." if reads else ""
    gr.Markdown(
        f"Videos of up to {LARGEST_MB} MB and {LONGEST_S:g} s. Yours is deleted when you upload another, when you "
        f"close the page, or after {DELETED_AFTER_S // 60} minutes."
    )
    watched = gr.State(time_to_live=DELETED_AFTER_S)
    video = gr.Video(label="Video", sources=["upload"], height=300)
    button = gr.Button("Anticipate", variant="primary", elem_id="anticipate")
    with gr.Column(visible=False) as results:
        gr.Markdown(f"The likeliest action, at the time at which it is to start; the higher, the surer.{band}")
        line = gr.HTML(elem_id="timeline")
        moment = gr.Slider(label="Seen until (s)", minimum=0, maximum=1, step=every, elem_id="moment")
        with gr.Row():
            with gr.Column():
                frame = gr.HTML(elem_id="frame")
            with gr.Column():
                summary = gr.Markdown(elem_id="said")
                best = gr.Label(label="What starts next", num_top_classes=TOP_K, show_heading=False, elem_id="best")
    shown = [line, frame, summary, best]
    video.change(take, video, results, api_name=False)
    page.unload(leave)  # `gr.State` would be deleted an hour later only
    button.click(watch, video, [watched, moment, results, *shown], api_name=False)
    moment.change(scrub, [watched, moment], shown, show_progress="hidden", trigger_mode="always_last", api_name=False)


def picture_html(frame: np.ndarray) -> str:
    """Returns a frame `(H, W, 3)` as inline HTML, since `gr.Image` would store a file of each frame."""
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "webp")
    data = base64.b64encode(content.getvalue()).decode()
    return (
        '<figure style="margin: 0"><figcaption>The last frame seen</figcaption><img alt="The last frame seen" '
        f'style="max-width: 100%; max-height: 300px; margin: 0.5em auto" src="data:image/webp;base64,{data}"></figure>'
    )


def code_beside(anticipate: Pipeline, name: str):
    """Returns a module of the checkpoint's own code."""
    package = type(anticipate).__module__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name}")


if __name__ == "__main__":
    main()
