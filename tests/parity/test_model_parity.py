"""The converted model compared with outputs and gradients recorded from the reference implementation.

Tolerances: outputs 1e-5 absolute, gradients 1e-4 relative (they hold across library versions).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.places import SHARED
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, kl_div

from avt_distill.conversion import convert_avt_checkpoint

FIXTURES = Path(__file__).parent / "fixtures"
GOLDEN = SHARED / "golden" / "model"
TRIMMED = sorted(path.stem for path in FIXTURES.glob("*.safetensors"))
RECORDED = sorted(path.parent.name for path in GOLDEN.glob("*/meta.json"))
CASES = [("fixtures", name) for name in TRIMMED] + [("recordings", name) for name in RECORDED]
# A training step was recorded for these cases, too.
TRAINED = [
    case for case in CASES if case[1].startswith(("i_", "ii_", "iii_")) or "last" in case[1] or "avg3" in case[1]
]


@dataclass
class Case:
    """One recorded run: the original checkpoint, its configuration, inputs and outputs."""

    name: str
    checkpoint: Path
    tensors: dict[str, torch.Tensor]
    meta: dict

    @property
    def overrides(self) -> dict:
        model, weights = self.meta["model_cfg"], self.meta["train"].get("loss_wts") or {}
        overrides = {
            "head_num_heads": model["future_predictor"]["n_head"],
            "classify_past": model["classifier_on_past"],
            "label_types": list(self.meta["num_classes"]),
            "head_dropout": 0.0,
            "classifier_dropout": 0.0,
            "past_loss_weight": weights.get("past_cls_action", 0.0),
            "feature_loss_weight": weights.get("feat", 0.0),
        }
        if self.meta["vit"] is not None:
            overrides["backbone_num_attention_heads"] = self.meta["vit"]["num_heads"]
        return overrides

    def inputs(self, name: str) -> dict[str, torch.Tensor]:
        """Returns our input for a recorded `(B, #clips, [#crops], C, T, H, W)`: a frame per clip, or one clip."""
        recorded = self.tensors[f"in/{name}"]
        one_clip = name == "single"
        frames = recorded[:, 0].transpose(1, 2) if one_clip else recorded.squeeze(-3)  # (B, T, [V], C, H, W)
        if self.meta["vit"] is None:
            return {"video_features": frames.flatten(2)}
        return {"pixel_values_videos": frames.transpose(1, 2) if frames.ndim == 6 else frames}

    def num_future_steps(self, name: str) -> int:
        """Returns the length of the reference's roll-out in evaluation; a 3-D target overrides the configured one."""
        head, target = self.meta["model_cfg"]["future_predictor"], self.meta["eval"][name]["target_shape"]
        if len(target) == 3:
            return target[1]
        return head["output_len_eval"] if head["output_len_eval"] > 0 else head["output_len"]


def load_case(source: str, name: str, folder: Path) -> Case:
    if source == "recordings":
        tensors = load_file(GOLDEN / name / "eval.safetensors")
        if (GOLDEN / name / "train.safetensors").exists():
            tensors.update(load_file(GOLDEN / name / "train.safetensors"))
        return Case(
            name, GOLDEN / name / "checkpoint.pth", tensors, json.loads((GOLDEN / name / "meta.json").read_text())
        )
    tensors = load_file(FIXTURES / f"{name}.safetensors")
    state = {key.removeprefix("checkpoint/"): value for key, value in tensors.items() if key.startswith("checkpoint/")}
    return Case(name, save_checkpoint(state, folder), tensors, json.loads((FIXTURES / f"{name}.json").read_text()))


def save_checkpoint(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """Writes a state dict as the reference's training does, causal-mask constants included."""
    num_layers = sum(key.endswith("ln_1.weight") for key in state)
    constants = {
        f"future_predictor.gpt_model.h.{i}.attn.bias": torch.ones(1, 1, 8, 8).tril().byte() for i in range(num_layers)
    }
    constants |= {f"future_predictor.gpt_model.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(num_layers)}
    torch.save(
        {"model": {**state, **constants}, "optimizer": {}, "lr_scheduler": {}, "epoch": 1}, folder / "checkpoint.pth"
    )
    return folder / "checkpoint.pth"


@pytest.fixture
def case(request, tmp_path) -> Case:
    return load_case(*request.param, tmp_path)


@pytest.mark.parametrize("case", CASES, indirect=True, ids="-".join)
def test_outputs_equal_the_reference(case):
    model = convert_avt_checkpoint(case.checkpoint, config_overrides=case.overrides)
    for name in case.meta["inputs"]:
        steps = case.num_future_steps(name)
        with torch.no_grad():
            outputs = model(**case.inputs(name), num_future_steps=steps)
        expected = {
            key.split("/", 3)[3]: value for key, value in case.tensors.items() if key.startswith(f"eval/{name}/out/")
        }
        logits = outputs.logits[:, None] if steps == 1 else outputs.future_logits  # (B, K, A)
        assert_last_steps_equal(case, logits, expected["logits/action"])
        assert_last_steps_equal(case, outputs.future_features, expected["future"])
        assert_close(outputs.logits, logits[:, -1])
        assert_close(outputs.past_features, expected["past"])
        assert_close(outputs.feature_loss, case.tensors[f"eval/{name}/aux/feat"].mean())
        assert (outputs.past_logits is not None) == ("past_logits/action" in expected)
        for key, ours in (("logits/verb", outputs.verb_logits), ("logits/noun", outputs.noun_logits)):
            assert (ours is not None) == (key in expected)
            if ours is not None:
                assert_close(ours, expected[key])
        for label_type, classifier in model.classifiers.items():
            if f"past_logits/{label_type}" in expected:
                assert_close(classifier(outputs.past_features), expected[f"past_logits/{label_type}"])
        if outputs.past_logits is not None:
            assert_close(outputs.past_logits, expected["past_logits/action"])


def assert_last_steps_equal(case: Case, ours: torch.Tensor, expected: torch.Tensor):
    """Compares our K steps with the roll-out of the reference: the last step, the mean, or all (after the inputs)."""
    average = case.meta["model_cfg"]["future_predictor"]["avg_last_n"]
    if average > 0:
        assert_close(ours[:, -average:].mean(1), expected)
    else:
        assert_close(ours, expected[:, -ours.shape[1] :])


@pytest.mark.parametrize("case", TRAINED, indirect=True, ids="-".join)
def test_losses_and_gradients_equal_the_reference(case, tmp_path):
    train, num_steps = case.meta["train"], case.meta["model_cfg"]["future_predictor"]["output_len"]
    model = convert_avt_checkpoint(case.checkpoint, config_overrides=case.overrides).train()
    past_labels = case.tensors.get("target_subclips/action")
    outputs = model(
        **case.inputs(train["input"]),
        labels=case.tensors["target/action"],
        verb_labels=case.tensors.get("target/verb"),
        noun_labels=case.tensors.get("target/noun"),
        past_labels=None if past_labels is None else past_labels.squeeze(-1).where(past_labels.squeeze(-1) >= 0, -100),
        num_future_steps=num_steps,
    )
    total = outputs.loss
    if num_steps > 1:  # the reference classified the mean of the steps; `loss` holds the last one's
        total = total - outputs.action_loss
        outputs.action_loss = cross_entropy(outputs.future_logits.mean(1), case.tensors["target/action"])
        total = total + outputs.action_loss
    losses = {
        "cls_action": outputs.action_loss,
        "cls_verb": outputs.verb_loss,
        "cls_noun": outputs.noun_loss,
        "past_cls_action": outputs.past_loss,
        "feat": outputs.feature_loss,
    }
    for name, expected in train["losses_mean"].items():
        if name not in ("distill", "past_cls_verb", "past_cls_noun"):  # the last two have weight 0
            assert losses[name].item() == pytest.approx(expected, abs=1e-5)
    if train["loss_wts"].get("distill"):
        total = total + train["loss_wts"]["distill"] * element_mean_kl(outputs.logits, case.tensors["lm_pred"], 10.0)
    assert total.item() == pytest.approx(train["total_loss"], rel=1e-5)
    total.backward()

    # The recorded gradients have the checkpoint's names and shapes, so that they convert like one.
    gradients = {key.removeprefix("train/grad/"): value for key, value in case.tensors.items() if "train/grad/" in key}
    maps = torch.load(case.checkpoint, weights_only=True)["model"]
    gradients |= {key: value for key, value in maps.items() if key.startswith("cls_map_")}
    expected = convert_avt_checkpoint(save_checkpoint(gradients, tmp_path), config_overrides=case.overrides)
    for (name, parameter), (_, gradient) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        # Softmax cancels biases of keys, whose gradients are rounding noise: hence the absolute tolerance.
        error, largest = (parameter.grad - gradient).abs().max().item(), gradient.abs().max().item()
        assert error <= 1e-4 * largest + 1e-7, f"{name}: off by {error:.1e}, gradients up to {largest:.1e}"


def element_mean_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Returns the reference's distillation term (kld_lm.py), which is also divided by the number of classes."""
    student, teacher = (torch.log_softmax(scores / temperature, -1) for scores in (student, teacher))
    return temperature**2 * kl_div(student, teacher, reduction="none", log_target=True).mean()


def assert_close(ours: torch.Tensor, expected: torch.Tensor):
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
