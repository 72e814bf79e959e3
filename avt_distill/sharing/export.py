"""Exporting checkpoints with `torch.export` and ONNX as programs that run without this project's code."""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.reader_avt import HistoryReader
from modeling_avt.temporal_avt import CLIP_CONTRACT, TIME_CONTRACT, sample_frame_times
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..runs.folder import whole_files
from ..runs.lock import locked
from ..runs.outputs import is_json_with

LARGEST_DIFFERENCE = 1e-4
CONTRACT, READER = "programs.json", "reader.safetensors"
SUFFIXES = (".pt2", ".onnx")
HOW_TO_CALIBRATE = (
    "Divide scores by the temperature before the softmax. With an error_rate, withhold the answer if its probability "
    "is below the threshold, or if there is no threshold."
)
HOW_TO_READ = (
    "Build modeling_avt's HistoryReader(ReaderSettings.from_config(settings), number of labels) and load the tables "
    "in the file; from the beginning of a video, let it read log_softmax of frame_logits, settings.frame_rate times a "
    "second; its next_action(tau_a), joined with logits by pool(logits, next_action, settings.fusion_weights), is the "
    "answer, to which settings.calibration applies, if there is one. " + HOW_TO_CALIBRATE
)


class FeatureModel(nn.Module):
    """Exportable module from the features of a window to the scores of the next action.

    `forward` accepts `video_features` float32 `(B, T, D)` and `frame_mask` bool `(B, T)`, `False` for moments before
    the video; it returns `logits` `(B, A)`, and `verb_logits`, `noun_logits` and `frame_logits` `(B, T, A + 1)` if the
    model has them.
    """

    def __init__(self, model: AVTForAnticipation):
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        self.model.avt.backbone = None  # otherwise its weights would be exported, too

    def forward(self, video_features: torch.Tensor, frame_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(video_features=video_features, frame_mask=frame_mask)
        return tuple(outputs[name] for name in score_names(self.model.config))

    def inputs(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Returns random inputs; the first half of the last window is padding."""
        config = self.model.config
        mask = torch.ones(batch_size, config.num_frames, dtype=torch.bool)
        mask[-1, : config.num_frames // 2] = False
        features = torch.randn(batch_size, config.num_frames, config.feature_dim)
        return {"video_features": features, "frame_mask": mask}

    def outputs(self) -> list[str]:
        return score_names(self.model.config)


class StreamingStep(nn.Module):
    """Exportable module for one moment of a live stream, given a frame and the features of earlier ones.

    `forward` accepts `pixel_values` float32 `(B, 3, H, W)`, frames as `AVTVideoProcessor` prepares them (for a video
    model the clip that ends at the moment, `(B, L, 3, H, W)`; for one without backbone `features` `(B, D)`), `window`
    float32 `(B, T, D)` and `frame_mask` bool `(B, T)`. It returns what `FeatureModel` does, of `frame_logits` those of
    the new frame, `(B, A + 1)`, and `next_window` and `next_frame_mask`. A stream begins with zeros and `False`; frames
    come at the model's frame rate. The scores are those of `AVTStream` without a reader.
    """

    def __init__(self, model: AVTForAnticipation, height: int, width: int):
        super().__init__()
        config = model.config
        self.model, self.height, self.width = model, height, width
        # tau_o may cover fewer than num_frames moments.
        late_s = 2 * config.tau_o + config.num_frames / config.frame_rate
        window = (late_s - config.tau_o, late_s, config.frame_rate, config.frame_rate, config.num_frames)
        self.register_buffer("observed", torch.from_numpy(sample_frame_times(*window)[1]))

    def forward(self, frame: torch.Tensor, window: torch.Tensor, frame_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = frame if self.model.config.backbone_config is None else self.model.encode_frames(frame)
        window = torch.cat([window[:, 1:], features[:, None]], dim=1)
        frame_mask = torch.cat([frame_mask[:, 1:], torch.ones_like(frame_mask[:, :1])], dim=1)
        outputs = self.model(video_features=window, frame_mask=frame_mask & self.observed)
        scores = {name: outputs[name] for name in score_names(self.model.config)}
        if "frame_logits" in scores:
            scores["frame_logits"] = scores["frame_logits"][:, -1]
        return *scores.values(), window, frame_mask

    def inputs(self, batch_size: int) -> dict[str, torch.Tensor]:
        """Returns random inputs; the last stream has just begun."""
        config = self.model.config
        mask = torch.ones(batch_size, config.num_frames, dtype=torch.bool)
        mask[-1] = False
        window = torch.randn(batch_size, config.num_frames, config.feature_dim) * mask[..., None]
        name, shape = ("features", (config.feature_dim,))
        if config.backbone_config is not None:
            length = () if config.clip_num_frames is None else (config.clip_num_frames,)
            name, shape = "pixel_values", (*length, 3, self.height, self.width)
        return {name: torch.randn(batch_size, *shape), "window": window, "frame_mask": mask}

    def outputs(self) -> list[str]:
        return [*score_names(self.model.config), "next_window", "next_frame_mask"]


def score_names(config) -> list[str]:
    names = ["logits", *(f"{kind}_logits" for kind in ("verb", "noun") if kind in config.label_types)]
    return [*names, "frame_logits"] if config.recognizes_frames else names


def export_model(
    model: AVTForAnticipation,
    folder: str | Path,
    *,
    video_processor: AVTVideoProcessor | None = None,
    onnx: bool = False,
    revision: str | None = None,
) -> dict[str, float]:
    """Writes `feature_model` and `streaming_step` as `.pt2` and optionally `.onnx`, and `programs.json`.

    `programs.json` describes inputs, outputs, moments, the names of the actions, and the calibration, which is not part
    of the programs: they return uncalibrated scores. A reader is not exported as a program, since it is a beam search:
    its tables are written to `reader.safetensors`, and its settings and use to `programs.json`.

    All programs accept any batch size. Each is checked on random input before the files are moved to the folder. Files
    of another model's programs are removed.

    Args:
        model (`AVTForAnticipation`): The checkpoint; exported in float32 and evaluation mode.
        folder (`str` or `Path`): Folder to write to.
        video_processor (`AVTVideoProcessor`, *optional*): Prepares frames; needed by a model with a backbone.
        onnx (`bool`, *optional*, defaults to `False`): Whether to also write ONNX; needs the extra `export`.
        revision (`str`, *optional*): What identifies the checkpoint, recorded in `programs.json`; see `revision_of`.

    Returns:
        `dict[str, float]`: The largest difference between each file's scores and the model's.

    Raises:
        ValueError: If a processor is needed and missing, if the head is a probe, or if a program's scores differ by
            more than 1e-4.
        ImportError: If a package for ONNX is missing.
    """
    if model.config.backbone_config is not None and video_processor is None:
        raise ValueError(
            "video_processor is None: a model with a backbone takes frames as its processor prepares them."
        )
    if model.config.head_type == "probe":
        raise ValueError(
            "The checkpoint's head is a probe, whose tokens no program takes yet: export one with AVT's head."
        )
    if onnx:
        _check_onnx()
    model = copy.deepcopy(model).eval().float().cpu()
    reader, model.reader = model.reader, None  # not part of the programs; its tables would be exported with each
    crop = {"height": 0, "width": 0} if video_processor is None else video_processor.crop_size
    programs = {"feature_model": FeatureModel(model), "streaming_step": StreamingStep(model, **crop)}
    folder, differences = Path(folder), {}
    folder.mkdir(parents=True, exist_ok=True)
    is_same = revision is not None and is_json_with(revision=revision)(folder / CONTRACT)
    of_another = [] if is_same else [READER, *(f"{name}{suffix}" for name in programs for suffix in SUFFIXES)]
    with (
        locked(folder),
        whole_files(folder, last=CONTRACT, replaces=of_another) as unfinished,
        torch.random.fork_rng(),
    ):
        torch.manual_seed(0)
        for name, program in programs.items():
            for path in _write(program.eval(), unfinished / name, onnx):
                differences[path.name] = _difference(program, path)
        description = _describe(programs, model.config, video_processor)
        description["reader"] = None if reader is None else _write_reader(reader, model.config, unfinished)
        description["revision"] = revision
        text = json.dumps(description, indent=1) + "\n"
        (unfinished / CONTRACT).write_text(text, encoding="utf-8", newline="\n")
    return differences


def _write(program: FeatureModel | StreamingStep, path: Path, onnx: bool) -> list[Path]:
    """Writes a program under a path without a suffix, and returns its files."""
    inputs = tuple(program.inputs(batch_size=2).values())
    batch = torch.export.Dim("batch", min=1, max=2**31 - 1)  # torch 2.7 requires an upper bound
    exported = torch.export.export(program, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)
    files = [path.with_suffix(".pt2")]
    torch.export.save(exported, files[0])
    if onnx:
        files.append(path.with_suffix(".onnx"))
        names = {"input_names": list(program.inputs(1)), "output_names": program.outputs()}
        torch.onnx.export(exported, dynamo=True, verbose=False, **names).save(files[1])
    return files


def _write_reader(reader: HistoryReader, config, folder: Path) -> dict:
    """Writes a reader's tables, and returns its entry in `programs.json`."""
    save_file({name: table.contiguous() for name, table in reader.state_dict().items()}, folder / READER)
    return {"file": READER, "settings": config.reader, "tau_a": config.tau_a, "use": HOW_TO_READ}


def _difference(program: FeatureModel | StreamingStep, path: Path) -> float:
    """Returns the largest difference between a written program's outputs and the model's, on another batch size."""
    inputs = program.inputs(batch_size=3)
    with torch.inference_mode():
        expected = program(*inputs.values())
        if path.suffix == ".onnx":
            outputs = _run_onnx(path, inputs)
        else:
            outputs = torch.export.load(path).module()(*inputs.values())
    pairs = zip(expected, outputs, strict=True)
    difference = max((theirs.float() - ours.float()).abs().max().item() for ours, theirs in pairs)
    if not difference <= LARGEST_DIFFERENCE:
        raise ValueError(f"{path.name} differs from the model by {difference:.1e}: nothing was written.")
    return difference


def _run_onnx(path: Path, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return [torch.from_numpy(v) for v in session.run(None, {name: value.numpy() for name, value in inputs.items()})]


def _check_onnx():
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ONNX needs {error.name}: pip install 'avt-distill[export]', or leave it out.") from error


def _describe(programs: dict[str, nn.Module], config, video_processor: AVTVideoProcessor | None) -> dict:
    """Returns a description for users who only have the files."""
    described = {}
    for name, program in programs.items():
        inputs = program.inputs(1)
        outputs = dict(zip(program.outputs(), program(*inputs.values()), strict=True))
        described[name] = {"inputs": _shapes(inputs), "outputs": _shapes(outputs)}
    labels = {"labels": config.id2label, "verb_labels": config.verb_id2label, "noun_labels": config.noun_id2label}
    return {
        "programs": described,
        **{name: getattr(config, name) for name in (*TIME_CONTRACT, *CLIP_CONTRACT)},
        **{name: None if value is None else [value[i] for i in sorted(value)] for name, value in labels.items()},
        "calibration": None if config.calibration is None else {**config.calibration, "use": HOW_TO_CALIBRATE},
        "video_processor": None if video_processor is None else video_processor.to_dict(),
    }


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, list]:
    """Returns type and shape of each tensor, the batch size left open."""
    return {n: [str(t.dtype).removeprefix("torch."), ["batch", *t.shape[1:]]] for n, t in tensors.items()}
