"""Original AVT checkpoints (facebookresearch/AVT, and the distillation code built on it) as `AVTForAnticipation`."""

import logging
import pickle
import re
from pathlib import Path

import torch
import yaml
from transformers import PreTrainedConfig, ViTConfig

from modeling_avt import AVTConfig, AVTForAnticipation, AVTVideoProcessor
from modeling_avt.numbers_avt import check_weights

from .runs.texts import read_user_text

logger = logging.getLogger(__name__)

# Key of one experiment line -> AVTConfig field. Older releases name the feature loss "gpt2".
EXPERIMENT_FIELDS = {
    "model.future_predictor.n_head": "head_num_heads",
    "model.dropout": "classifier_dropout",
    "model.classifier_on_past": "classify_past",
    "model.use_cls_mappings": "use_class_mappings",
    "data_train.num_frames": "num_frames",
    "data_train.frame_rate": "frame_rate",
    "data_eval.num_frames": "num_frames",
    "data_eval.frame_rate": "frame_rate",
    "dataset_eval.conv_to_anticipate_fn.tau_a": "tau_a",
    "dataset_eval.conv_to_anticipate_fn.tau_o": "tau_o",
    "train.train_one_epoch_fn.loss_wts.past_cls_action": "past_loss_weight",
    "train.train_one_epoch_fn.loss_wts.feat": "feature_loss_weight",
    "train.train_one_epoch_fn.loss_wts.gpt2": "feature_loss_weight",
}
LABEL_FIELDS = {"action": "id2label", "verb": "verb_id2label", "noun": "noun_id2label"}  # of `AVTConfig`
# The reference's defaults for keys missing in an experiment file (its conf/config.yaml).
EXPERIMENT_DEFAULTS = {"classify_past": False, "classifier_dropout": 0.0, "past_loss_weight": 0.0}
# Fields that cannot be read from the weights: AVTConfig's defaults are used with a warning unless given.
NOT_IN_WEIGHTS = ("num_frames", "frame_rate", "tau_a", "tau_o", "classify_past", "id2label")

# Patterns of whole keys. transformers' stable on-disk names for a timm ViT block; `qkv` is split in three.
_VIT_NAMES = (
    (r"cls_token", "embeddings.cls_token"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed\.proj\.(weight|bias)", r"embeddings.patch_embeddings.projection.\1"),
    (r"blocks\.(\d+)\.norm1\.(weight|bias)", r"encoder.layer.\1.layernorm_before.\2"),
    (r"blocks\.(\d+)\.norm2\.(weight|bias)", r"encoder.layer.\1.layernorm_after.\2"),
    (r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", r"encoder.layer.\1.attention.attention.{}.\2"),
    (r"blocks\.(\d+)\.attn\.proj\.(weight|bias)", r"encoder.layer.\1.attention.output.dense.\2"),
    (r"blocks\.(\d+)\.mlp\.fc1\.(weight|bias)", r"encoder.layer.\1.intermediate.dense.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(weight|bias)", r"encoder.layer.\1.output.dense.\2"),
    (r"norm\.(weight|bias)", r"layernorm.\1"),
)
_HEAD_NAMES = (
    (r"mapper_to_inter\.weight", "avt.mapper.weight"),
    (r"future_predictor\.(encoder|decoder)\.weight", r"avt.\1.weight"),
    (r"future_predictor\.gpt_model\.(wpe\.weight|ln_f\.(?:weight|bias))", r"avt.head.\1"),
    (r"future_predictor\.gpt_model\.(h\.\d+\.ln_[12]\.(?:weight|bias))", r"avt.head.\1"),
    (r"future_predictor\.gpt_model\.(h\.\d+\.attn\.c_(?:attn|proj)\.(?:weight|bias))", r"avt.head.\1"),
    (r"future_predictor\.gpt_model\.(h\.\d+\.mlp\.c_(?:fc|proj)\.(?:weight|bias))", r"avt.head.\1"),
    (r"classifiers\.(action|verb|noun)\.(weight|bias)", r"classifiers.\1.\2"),
)  # fmt: skip
_NAMES = (*((rf"backbone\.model\.{theirs}", f"avt.backbone.{ours}") for theirs, ours in _VIT_NAMES), *_HEAD_NAMES)
_ALWAYS_THERE = (
    "future_predictor.encoder.weight",
    "future_predictor.decoder.weight",
    "future_predictor.gpt_model.wpe.weight",
    "future_predictor.gpt_model.h.0.ln_1.weight",
    "classifiers.action.weight",
)
_MATRICES = (*_ALWAYS_THERE[:3], "mapper_to_inter.weight", "classifiers.action.weight", "patch_embed.proj.weight")
# GPT-2's causal mask and its fill value are constants; the class maps become `action_to_verb_noun`.
_NOT_WEIGHTS = r"future_predictor\.gpt_model\.h\.\d+\.attn\.(bias|masked_bias)|cls_map_(verb|noun)_action"


def convert_avt_checkpoint(
    path: str | Path,
    *,
    config_overrides: dict | None = None,
    experiment_config: str | Path | None = None,
) -> AVTForAnticipation:
    """Returns the model of an original AVT checkpoint, in evaluation mode, with the original's outputs to within 1e-5.

    All dimensions are inferred from the tensors. The rest (head counts, label names, `tau_a`, frame rate, whether the
    observed frames are classified) comes from `config_overrides`, or else from the original experiment's file. Losses
    use the reference's reduction (`past_loss_normalizer="all"`).

    Args:
        path (`str` or `Path`): The original `checkpoint.pth`. It is read with `weights_only=True`, so that no objects
            are unpickled.
        config_overrides (`dict`, *optional*): `AVTConfig` fields, and `backbone_num_attention_heads` for a ViT
            backbone. They take precedence over `experiment_config`.
        experiment_config (`str` or `Path`, *optional*): The original experiment's file, such as AVT's
            `expts/12_egtea_avt.txt`.

    Returns:
        `AVTForAnticipation`: The converted model.

    Raises:
        ValueError: If the file holds keys that are not part of AVT (all are listed), if a head count is missing,
            if an override contradicts the weights, or if these are not finite.
    """
    state = _load_state(Path(path))
    weights, unknown = _rename(state)
    if unknown:
        raise ValueError(
            f"{path} holds {len(unknown)} keys that are not part of AVT with a ViT backbone or with features: "
            f"{', '.join(unknown)}."
        )
    fields = {} if experiment_config is None else read_experiment_config(experiment_config)
    fields.update(config_overrides or {})
    config = _build_config(state, fields)
    model, report = AVTForAnticipation.from_pretrained(
        None, config=config, state_dict=weights, output_loading_info=True, dtype=torch.float32
    )
    not_loaded = sorted(report["missing_keys"]) + sorted(report["unexpected_keys"])
    if not_loaded:
        raise ValueError(
            f"{path} does not hold a whole AVT model; these weights are missing: {', '.join(not_loaded)}. Give the "
            "original checkpoint.pth."
        )
    check_weights(model, str(path))
    return model.eval()


def read_experiment_config(path: str | Path) -> dict:
    """Returns the `AVTConfig` fields, and `backbone_num_attention_heads`, that an original experiment file sets.

    Args:
        path (`str` or `Path`): A file with one hydra override `key=value` per line; `#` begins a comment, `+` and `~`
            add and remove keys.

    Raises:
        ValueError: If a line has no `=`, or a sweep of several values is given for a key that needs one value.
    """
    settings = {}
    for number, line in enumerate(read_user_text(path).splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        if not line or line.startswith("~"):
            continue
        key, separator, value = line.lstrip("+").partition("=")
        if not separator:
            raise ValueError(f"{path}, line {number}: '{line}' is not of the form key=value: correct the line.")
        settings[key.strip()] = value.strip()

    fields = dict(EXPERIMENT_DEFAULTS)
    for key, field in EXPERIMENT_FIELDS.items():
        if key in settings:
            fields[field] = _experiment_value(path, key, settings)
    for key in settings:
        if re.fullmatch(r"dataset\.\w+\.common\.label_type", key):
            label_types = _experiment_value(path, key, settings)
            fields["label_types"] = [label_types] if isinstance(label_types, str) else label_types
    backbone = settings.get("model/backbone", "")
    if re.match(r"avt_b|timm_vit_base", backbone):
        fields["backbone_num_attention_heads"] = 12
    elif re.match(r"timm_vit_large", backbone):
        fields["backbone_num_attention_heads"] = 16
    return fields


def _experiment_value(path, key: str, settings: dict[str, str]):
    value = settings[key]
    while (reference := re.fullmatch(r"\$\{(.+)\}", value)) and reference[1] in settings:
        value = settings[reference[1]]
    if "," in value and not value.startswith("["):
        raise ValueError(
            f"{path}: {key}={value} is a sweep of several values: keep the one that this checkpoint was trained with."
        )
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: the value of {key}={value} cannot be read: correct it.") from error


def _load_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # on other files the unpickler may raise any kind of error
        known = isinstance(error, (RuntimeError, pickle.UnpicklingError))
        reason = re.split(r"(?<=[a-z])[.:] |\n", str(error))[0] if known else "it is empty, or another kind of file"
        raise ValueError(
            f"{path} cannot be read as a PyTorch checkpoint of plain tensors ({reason}): it is damaged, incomplete or "
            "holds Python objects. Fetch it again, or give another file."
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        raise ValueError(
            f"{path} is not an AVT checkpoint: it has no 'model' entry with a state dict. Give the original "
            "checkpoint.pth."
        )
    state = checkpoint["model"]
    others = [key for key, tensor in state.items() if not isinstance(key, str) or not torch.is_tensor(tensor)]
    if others:
        raise ValueError(
            f"{path} is not an AVT checkpoint: its '{others[0]}' is not a named tensor. Give the original "
            "checkpoint.pth."
        )
    missing = [key for key in _ALWAYS_THERE if key not in state]
    if missing:
        raise ValueError(f"{path} is not an AVT checkpoint: it lacks {', '.join(missing)}.")
    flat = [key for key, tensor in state.items() if key.endswith(_MATRICES) and tensor.ndim < 2]
    if flat:
        raise ValueError(f"{path} is not an AVT checkpoint: '{flat[0]}' has the shape {tuple(state[flat[0]].shape)}.")
    return state


def _rename(state: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Returns the weights under the names of `AVTForAnticipation`, and the keys that have no counterpart."""
    weights, unknown = {}, []
    for key, tensor in state.items():
        if re.fullmatch(_NOT_WEIGHTS, key):
            continue
        matches = ((re.fullmatch(theirs, key), ours) for theirs, ours in _NAMES)
        name = next((match.expand(ours) for match, ours in matches if match), None)
        if name is None:
            unknown.append(key)
        elif "{}" in name:
            for part, rows in zip(("query", "key", "value"), tensor.chunk(3, dim=0), strict=True):
                weights[name.format(part)] = rows.clone()
        else:
            weights[name] = tensor
    return weights, unknown


def _build_config(state: dict[str, torch.Tensor], given: dict) -> AVTConfig:
    given = dict(given)
    backbone_heads = given.pop("backbone_num_attention_heads", None)
    if given.get("head_num_heads") is None:
        raise ValueError(
            "The number of attention heads cannot be inferred from the weights: give "
            "config_overrides={'head_num_heads': ...} (4 or 8 in AVT's experiments), or experiment_config."
        )
    backbone_config = _backbone_config(state, backbone_heads)
    dimensions = _dimensions(state)
    for name, value in dimensions.items():
        if given.get(name, value) != value:
            raise ValueError(f"config_overrides say {name}={given[name]}, but the weights have {value}: leave it out.")
    labels = _labels(state, given)
    for name in ("action", "verb", "noun"):  # before the configuration's own checks, which know no files of names
        names, rows = given.get(LABEL_FIELDS[name]), _num_classes(state, name)
        if isinstance(names, dict) and rows and rows != len(names):
            raise ValueError(
                f"The checkpoint has {rows} {name} classes, but there are {len(names)} {name} names: give one name per "
                f"class, in order of id, in {LABEL_FIELDS[name]} or in the file of --{name}_names."
            )
    fields = {"backbone_config": backbone_config, "past_loss_normalizer": "all", **dimensions, **labels, **given}
    config = AVTConfig(**fields)
    for name, size in config.num_classes.items():
        rows = _num_classes(state, name)
        if rows != size:
            raise ValueError(f"The checkpoint has {rows} {name} classes but the {name} names given are {size}.")
    missing = [name for name in NOT_IN_WEIGHTS if name not in given]
    if missing:
        defaults = ", ".join(f"{name}={getattr(config, name)!r:.40}" for name in missing)
        logger.warning(
            "The weights do not determine these fields, which got their defaults: %s. Pass them as config_overrides.",
            defaults,
        )
    return config


def _dimensions(state: dict[str, torch.Tensor]) -> dict:
    encoder = state["future_predictor.encoder.weight"]  # (H, C)
    mapper = state.get("mapper_to_inter.weight")  # (C, D)
    return {
        "feature_dim": (encoder if mapper is None else mapper).shape[1],
        "intermediate_dim": None if mapper is None else mapper.shape[0],
        "head_hidden_size": encoder.shape[0],
        "head_num_layers": _count(state, r"future_predictor\.gpt_model\.h\.(\d+)\."),
        "head_num_positions": state["future_predictor.gpt_model.wpe.weight"].shape[0],
    }


def _backbone_config(state: dict[str, torch.Tensor], num_heads: int | None) -> PreTrainedConfig | None:
    patches = state.get("backbone.model.patch_embed.proj.weight")  # (D, 3, patch, patch)
    if patches is None:
        return None
    if num_heads is None:
        raise ValueError(
            "The number of the backbone's attention heads cannot be inferred from the weights: give "
            "config_overrides={'backbone_num_attention_heads': ...} (12 for ViT-B), or experiment_config."
        )
    patch_size = patches.shape[-1]
    num_patches = state["backbone.model.pos_embed"].shape[1] - 1  # less the class token
    return ViTConfig(
        hidden_size=patches.shape[0],
        num_hidden_layers=_count(state, r"backbone\.model\.blocks\.(\d+)\."),
        num_attention_heads=num_heads,
        intermediate_size=state["backbone.model.blocks.0.mlp.fc1.weight"].shape[0],
        patch_size=patch_size,
        image_size=round(num_patches**0.5) * patch_size,
        layer_norm_eps=1e-6,  # timm's
    )


def _labels(state: dict[str, torch.Tensor], given: dict) -> dict:
    """Returns the label types and, as far as the weights determine them, numbered names and each action's verb and
    noun."""
    classified = [key.split(".")[1] for key in state if re.fullmatch(r"classifiers\.\w+\.weight", key)]
    label_types = given.get("label_types", classified)
    fields = {"label_types": label_types}
    if "id2label" not in given:
        fields["num_labels"] = state["classifiers.action.weight"].shape[0]
    maps = {name: state.get(f"cls_map_{name}_action") for name in ("verb", "noun")}  # (A, V), (A, N): 0 or 1
    for name in maps:
        if size := _num_classes(state, name):
            fields[f"{name}_id2label"] = {index: f"{name.upper()}_{index}" for index in range(size)}
    if all(mapping is not None and bool((mapping.sum(1) == 1).all()) for mapping in maps.values()):
        fields["action_to_verb_noun"] = torch.stack([mapping.argmax(1) for mapping in maps.values()], dim=1).tolist()
        fields["use_class_mappings"] = any(name in label_types and name not in classified for name in maps)
    return fields


def _num_classes(state: dict[str, torch.Tensor], name: str) -> int:
    """Returns the number of actions, verbs or nouns in the classifiers; 0 if there is no classifier."""
    if f"classifiers.{name}.weight" in state:
        return state[f"classifiers.{name}.weight"].shape[0]
    return state.get(f"cls_map_{name}_action", torch.empty(0, 0)).shape[1]


def _count(state: dict[str, torch.Tensor], pattern: str) -> int:
    return 1 + max(int(match[1]) for key in state if (match := re.match(pattern, key)))


def reference_processor(config) -> AVTVideoProcessor:
    """Returns AVT's own preprocessing: short side 248 for crops of 224, no antialiasing, pixels to -1..1."""
    crop = config.backbone_config.image_size
    size = crop * 248 // 224
    return AVTVideoProcessor(
        size=size,
        crop_size=crop,
        train_size=(size, crop * 280 // 224),
        antialias=False,
        num_frames=config.num_frames,
        frame_rate=config.frame_rate,
        tau_o=config.tau_o,
    )


@torch.inference_mode()
def largest_difference(model: AVTForAnticipation, folder: str | Path) -> float:
    """Returns the largest absolute difference between the scores of a model and of its saved checkpoint, on random
    features."""
    config = model.config
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, config.num_frames, config.feature_dim, generator=generator)  # (B, T, D)
    saved = AVTForAnticipation.from_pretrained(folder)
    return (saved(video_features=features).logits - model(video_features=features).logits).abs().max().item()
