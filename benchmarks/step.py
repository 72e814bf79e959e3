"""Measures the time and peak memory of one step, compared with a plain implementation of the same architecture.

    python -m benchmarks.step --output step.json
    python -m benchmarks.step --device cuda --peak_tflops 989 --models avt_b     # on an H100
    python -m benchmarks.step --models avt_b --ways ours_bf16 ours_bf16_compiled --steps training --batch_size 3

There are two models: `egtea_features`, the published AVT on TSN features (10 x 1,024, a 2-layer head, 106 actions,
batch 64), and `avt_b`, ViT-B/16 with a 6-layer head (10 frames, batch 1). Inference is a forward pass; training adds
losses, the backward pass and SGD.

- `plain`: follows the papers' figures literally: GPT-2 blocks with attention as a softmax of a product, a ViT with
  eager attention, float32.
- `ours`: the same weights in this project's model with default settings (sdpa). Variants: `compiled` by
  torch.compile, `bf16` under bfloat16 autocast, `flash` with flash_attention_2 in the frame encoder.

All variants must compute the same model: their training losses are compared, and their logits are recorded. Each runs
in a separate process, one after the other, which measures its peak memory.

`--peak_tflops` adds the share of the device's peak. It counts the floating-point operations of the architecture's
matrix products and convolutions, regardless of what a variant computes in addition.
"""

import argparse
import gc
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils import is_flash_attn_2_available

from benchmarks.measure import (
    add_common_arguments,
    describe_machine,
    in_own_process,
    print_times,
    take_turns,
    write_result,
)
from modeling_avt import AVTConfig, AVTForAnticipation


@dataclass(frozen=True)
class Way:
    """One variant of a step.

    Args:
        is_plain, is_bf16, has_flash, is_compiled (`bool`, *optional*): See the module's docstring.
    """

    is_plain: bool = False
    is_bf16: bool = False
    has_flash: bool = False
    is_compiled: bool = False


WAYS = {
    "plain": Way(is_plain=True),
    "ours": Way(),
    "ours_compiled": Way(is_compiled=True),
    "ours_bf16": Way(is_bf16=True),
    "ours_bf16_compiled": Way(is_bf16=True, is_compiled=True),
    "ours_bf16_flash": Way(is_bf16=True, has_flash=True),
    "ours_bf16_flash_compiled": Way(is_bf16=True, has_flash=True, is_compiled=True),
}
DEFAULT_WAYS = ["plain", "ours", "ours_compiled", "ours_bf16"]
STEPS = ("inference", "training")
MODELS = {
    "egtea_features": {"batch": 64, "config": {"backbone_config": None, "feature_dim": 1024, "head_num_layers": 2}},
    "avt_b": {"batch": 1, "config": {"head_num_layers": 6}},
    "tiny": {
        "batch": 2,
        "config": {
            "backbone_config": None,
            "feature_dim": 16,
            "head_hidden_size": 32,
            "head_num_layers": 2,
            "initializer_range": 0.1,
        },
    },
    "tiny_video": {
        "batch": 2,
        "config": {
            "backbone_config": {
                "model_type": "vit",
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "image_size": 32,
                "patch_size": 8,
            },
            "head_hidden_size": 32,
            "head_num_layers": 2,
            "initializer_range": 0.1,
        },
    },
}
NO_DROPOUT = {"head_dropout": 0.0, "classifier_dropout": 0.0}
AS_EQUAL, AS_EQUAL_BF16 = 1e-3, 0.1


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    result = {"machine": describe_machine("torch", "transformers", device=args.device, threads=args.threads)}
    for model in args.models:
        result[model] = {}
        for way in args.ways:
            one_way = argparse.Namespace(**{**vars(args), "models": [model], "ways": [way]})
            result[model][way] = in_own_process(run, one_way)
        report(model, result[model])
    write_result(result, args.output)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=["egtea_features", "avt_b"])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=DEFAULT_WAYS)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--compile_backend", default="inductor", help="backend of torch.compile (default: inductor)")
    parser.add_argument("--batch_size", type=int, help="default: 64 for egtea_features, 1 for avt_b")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="number of CPU threads (default: PyTorch's choice)")
    parser.add_argument("--peak_tflops", type=float, help="peak of the device in bfloat16, to report its share")
    add_common_arguments(parser, repeats=5)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> dict:
    """Measures one variant of one model in this process.

    Raises:
        ValueError: If the variant is not available for this model or on this machine.
    """
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    (name,), (way_name,) = args.models, args.ways
    if reason := unavailable(name, way_name, args.device):
        raise ValueError(reason)
    way, device = WAYS[way_name], torch.device(args.device)
    batch_size = args.batch_size or MODELS[name]["batch"]
    torch.manual_seed(0)
    config = make_config(name)
    with device:
        model = AVTForAnticipation(config)
    if way.has_flash:
        model.avt.backbone.set_attn_implementation("flash_attention_2")
    model = (plain_copy(model) if way.is_plain else model).to(device)
    batch = {key: value.to(device) for key, value in make_batch(config, batch_size).items()}
    step = torch.compile(model, backend=args.compile_backend) if way.is_compiled else model
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=way.is_bf16)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, momentum=0.9, nesterov=True)  # weights stay comparable

    def inference():
        model.eval()
        with torch.inference_mode(), autocast:
            return step(**batch).logits.cpu()  # waits for the device

    def training():
        model.train()
        with autocast:
            loss = step(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach().cpu()

    take_step = {"inference": inference, "training": training}
    results, times, peak_mb = {}, {}, {}
    for kind in args.steps:
        forget_peak_memory(device)
        last_results, times_of_kind = take_turns({kind: take_step[kind]}, args.repeats)
        results |= last_results
        times |= times_of_kind
        peak_mb[kind] = peak_memory_mb(device)
    measured = {"times": times, "peak_mb": peak_mb, "batch_size": batch_size}
    if "inference" in results:
        measured["logits"] = [round(value, 6) for value in results["inference"][0, :4].float().tolist()]
    if "training" in results:
        measured["loss"] = results["training"].item()
        measured |= throughput(config, batch_size, times["training"]["median_ms"] / 1000, args.peak_tflops)
    return measured


def unavailable(model: str, way: str, device: str) -> str | None:
    """Returns the reason why a variant cannot be measured here, as a sentence, or `None` if it can."""
    if not WAYS[way].has_flash:
        return None
    if MODELS[model]["config"].get("backbone_config", {}) is None:
        # The published configurations have heads of 512 columns. The limit is from Dao-AILab/flash-attention, README.
        return (
            f"{model} has no frame encoder, and flash_attention_2 supports heads of up to 256 columns, fewer than the "
            "published head has: measure it with sdpa."
        )
    if torch.device(device).type != "cuda" or not is_flash_attn_2_available():
        return "flash_attention_2 needs an NVIDIA GPU and the package flash-attn: install it to measure this variant."
    return None


def make_config(name: str) -> AVTConfig:
    return AVTConfig(**MODELS[name]["config"], **NO_DROPOUT, num_labels=106, past_loss_normalizer="all")


def throughput(config: AVTConfig, batch_size: int, seconds: float, peak_tflops: float | None) -> dict[str, float]:
    """Returns the clips, frames and TFLOP per second of training steps, and the share of the peak if it is given."""
    tflops = batch_size * training_tflop(config) / seconds
    share = {} if peak_tflops is None else {"share_of_peak": tflops / peak_tflops}
    clips_per_s = batch_size / seconds
    return {"clips_per_s": clips_per_s, "frames_per_s": clips_per_s * config.num_frames, "tflops": tflops, **share}


def training_tflop(config: AVTConfig) -> float:
    """Returns the number of operations of a forward and backward pass on one clip, in TFLOP."""
    with torch.device("meta"):
        model = AVTForAnticipation(config)
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes only: nothing is computed
        model.to_empty(device="cpu")
        batch = {name: torch.empty_like(value) for name, value in make_batch(config, 1).items()}
        del batch["labels"], batch["past_labels"]  # removed, since the model checks their values

        def forward_and_backward():
            output = model(**batch)
            (output.logits.sum() + output.past_logits.sum()).backward()

        return count_tflop(forward_and_backward)


def count_tflop(compute: Callable) -> float:
    """Returns the number of operations in the matrix products and convolutions of a function, in TFLOP.

    Attention is computed as matrix products here, because the fused kernels of some devices are not counted.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        compute()
    return counter.get_total_flops() / 1e12


def forget_peak_memory(device: torch.device):
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak, on Linux only


def peak_memory_mb(device: torch.device) -> float:
    """Returns the peak memory since `forget_peak_memory` in MB: that of the process, or that allocated on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


def make_batch(config: AVTConfig, size: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shape = (size, config.num_frames, config.feature_dim or 0)
    name = "video_features"
    if config.backbone_config is not None:
        side = config.backbone_config.image_size
        name, shape = "pixel_values_videos", (size, config.num_frames, 3, side, side)
    labels = torch.randint(0, config.num_labels, (size, 1 + config.num_frames), generator=generator)
    inputs = torch.randn(shape, generator=generator)
    return {name: inputs, "labels": labels[:, 0], "past_labels": labels[:, 1:]}


def report(model: str, ways: dict[str, dict]):
    baseline = next(iter(ways))
    for step in ways[baseline]["times"]:
        print_times(f"{model}, {step}", {way: measured["times"][step] for way, measured in ways.items()}, baseline)
        peaks = ", ".join(f"{way} {measured['peak_mb'][step]:.0f} MB" for way, measured in ways.items())
        print(f"peak memory: {peaks}")
    for way, measured in ways.items():
        if "loss" not in measured:
            continue
        share = f", {100 * measured['share_of_peak']:.1f} % of peak" if "share_of_peak" in measured else ""
        print(f"{way}: loss {measured['loss']:.6f}, {measured['frames_per_s']:.1f} frames/s{share}")
        check_loss(way, measured["loss"], ways[baseline]["loss"])


def check_loss(way: str, loss: float, expected: float):
    """Raises an `AssertionError` if the loss of a variant is not that of the same model."""
    difference = abs(loss - expected)
    if not difference <= (AS_EQUAL_BF16 if WAYS[way].is_bf16 else AS_EQUAL):
        raise AssertionError(f"{way} does not compute the same model: its loss differs by {difference:.1e}.")


# The plain architecture. Its modules have the same names as ours, so that it can load the same weights.


class PlainAttention(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        q, k, v = self.c_attn(x).chunk(3, dim=-1)
        q, k, v = (part.view(B, T, self.num_heads, -1).transpose(1, 2) for part in (q, k, v))
        scores = q @ k.transpose(-2, -1) / math.sqrt(D // self.num_heads)
        mask = torch.tril(torch.ones(T, T, dtype=torch.bool, device=x.device))
        weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)
        return self.c_proj((weights @ v).transpose(1, 2).reshape(B, T, D))


class PlainBlock(nn.Module):
    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = PlainAttention(width, num_heads)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        hidden = self.mlp.c_fc(self.ln_2(x))
        hidden = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
        return x + self.mlp.c_proj(hidden)


class PlainAVT(nn.Module):
    """AVT as in the paper's figure: frame encoder, projection, GPT-2 blocks, projection back, classifier."""

    def __init__(self, config: AVTConfig, backbone: nn.Module | None):
        super().__init__()
        self.config, self.backbone = config, backbone
        width = config.head_hidden_size
        self.encoder = nn.Linear(config.feature_dim, width, bias=False)
        blocks = [PlainBlock(width, config.head_num_heads) for _ in range(config.head_num_layers)]
        positions = nn.Embedding(config.head_num_positions, width)
        self.head = nn.ModuleDict({"wpe": positions, "h": nn.ModuleList(blocks), "ln_f": nn.LayerNorm(width)})
        self.decoder = nn.Linear(width, config.feature_dim, bias=False)
        self.classifiers = nn.ModuleDict({"action": nn.Linear(config.feature_dim, config.num_labels)})

    def forward(self, labels, past_labels, video_features=None, pixel_values_videos=None) -> CausalLMOutput:
        features = video_features
        if features is None:
            B, T = pixel_values_videos.shape[:2]
            features = self.backbone(pixel_values_videos.flatten(0, 1)).last_hidden_state[:, 0].view(B, T, -1)
        x = self.encoder(features) + self.head.wpe(torch.arange(features.shape[1], device=features.device))
        for block in self.head.h:
            x = block(x)
        predicted = self.decoder(self.head.ln_f(x))  # (B, T, D): each predicts the next frame
        classify = self.classifiers.action
        logits = classify(predicted[:, -1])
        past = torch.cat([features[:, :1], predicted[:, :-1]], dim=1)
        loss = nn.functional.cross_entropy(logits, labels)
        past_loss = nn.functional.cross_entropy(classify(past).flatten(0, 1), past_labels.flatten())
        feature_loss = nn.functional.mse_loss(past[:, 1:], features[:, 1:])
        total = loss + self.config.past_loss_weight * past_loss + self.config.feature_loss_weight * feature_loss
        return CausalLMOutput(logits=logits, loss=total)


def plain_copy(model: AVTForAnticipation) -> PlainAVT:
    """Returns the plain architecture with the same weights."""
    backbone = model.avt.backbone
    if backbone is not None:
        backbone.set_attn_implementation("eager")
    weights = {}
    for name, value in model.state_dict().items():
        # GPT-2's "Conv1D" is a linear layer with a transposed weight.
        is_convolution = name.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight"))
        weights[name.removeprefix("avt.")] = value.T if is_convolution else value
    plain = PlainAVT(model.config, backbone)
    plain.load_state_dict(weights)
    return plain


if __name__ == "__main__":
    main()
