"""Options of a run: the student's architecture and input, and its training."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from transformers import TrainingArguments

from ..data.arguments import DatasetArguments
from ..runs.arguments import mapping, option


@dataclass
class StudentArguments:
    """Options of a student's architecture and input. Times and labels come from the data set.

    Args:
        model_name_or_path (`str`, *optional*): AVT checkpoint to start from, a folder or a name on the Hub. Default: a
            new student.
        model_options (`dict` or `str`, *optional*): `AVTConfig` fields of a new student; text is parsed as JSON.
        backbone (`str`, *optional*): Pretrained image or video model for a new student of videos; see `load_backbone`.
        freeze_backbone (`bool`, *optional*, defaults to `False`): Whether to train everything except the frame encoder,
            which then stays in evaluation mode.
        encode_once (`bool`, *optional*, defaults to `True`): Whether to run a frozen encoder only once per observed
            moment, before training, instead of in every epoch.
        processor_options (`dict` or `str`, *optional*): `AVTVideoProcessor` fields; text is parsed as JSON.
        features (`str`, *optional*): Feature store of a student of features; see `open_feature_store`.
        feature_frame_rate (`float`, *optional*): Rows per second of `.npz` and `.npy` files.
        feature_missing (`str`, *optional*, defaults to `"error"`): `"error"` or `"search_back"`; see `FeatureStore`.
        start_from_probe (`bool`, *optional*, defaults to `False`): Whether to add the frozen scores of a logistic probe
            of the last frame, so that the head learns the rest. For students of features.
        probe (`bool`, *optional*): Whether to compare students of features with a logistic probe of the last frame.
            Default: unless it would take more than minutes, see `probe.is_affordable`.
        evaluation_crops (`int`, *optional*, defaults to 1): 1: the center crop; 3: AVT's crops, averaged.
        evaluation_flips (`bool`, *optional*, defaults to `False`): Whether to also average over mirrored crops.

    Raises:
        ValueError: If an option is out of range, or options contradict each other.
    """

    # `dict | str | None` below: `HfArgumentParser` parses a field annotated `dict | str` as a plain `dict` and fails.
    TITLE: ClassVar[str] = "student"

    model_name_or_path: str | None = option("An AVT checkpoint to start from.")
    model_options: dict | str | None = option('AVTConfig fields of a new student, such as {"head_num_layers": 2}.')
    backbone: str | None = option("Pretrained encoder: an image or video model.")
    freeze_backbone: bool = option("Train all but the frame encoder.", False)
    encode_once: bool = option("Run a frozen encoder once for each moment.", True)
    processor_options: dict | str | None = option('AVTVideoProcessor fields, such as {"size": 64, "crop_size": 56}.')
    features: str | None = option("Feature store of a student of features: a folder, .npz file or RULSTM's LMDB.")
    feature_frame_rate: float | None = option("Rows per second of .npz and .npy files.")
    feature_missing: str = option("error; or search_back for the row before one that is not stored.", "error")
    start_from_probe: bool = option(
        "Students of features: keep a probe's scores, and train the head on the rest.", False
    )
    probe: bool | None = option("Fit a logistic probe too. Default: if quick.")
    evaluation_crops: int = option("1, the center; or AVT's 3, averaged.", 1)
    evaluation_flips: bool = option("Average over mirrored crops too.", False)

    def __post_init__(self):
        self.model_options = mapping("model_options", self.model_options)
        self.processor_options = mapping("processor_options", self.processor_options)
        if self.evaluation_crops not in (1, 3):
            raise ValueError(f"evaluation_crops is {self.evaluation_crops}: give 1 or 3.")
        if self.freeze_backbone and self.encode_once and (self.evaluation_crops > 1 or self.evaluation_flips):
            raise ValueError(
                "evaluation_crops and evaluation_flips ask for several views, but a frozen encoder runs once, on the "
                "center: leave them out, or give --encode_once false."
            )
        if self.features is not None and self.backbone is not None:
            raise ValueError(
                "features and backbone are both given: give features for a student of stored features, or backbone "
                "for videos."
            )
        if self.start_from_probe and self.features is None:
            raise ValueError(
                "start_from_probe is set without features, which the probe reads: give --features, or leave it out."
            )
        if self.start_from_probe and self.probe is False:
            raise ValueError("start_from_probe is set, but probe is False: leave one of them out.")
        if self.model_name_or_path is not None and (self.start_from_probe or self.model_options or self.backbone):
            raise ValueError(
                "model_name_or_path is given with model_options, backbone or start_from_probe: a checkpoint has its "
                "own, so give either."
            )


# In addition to `runs.options.UNUSED`, which none of the trainers reads.
UNUSED = {
    "remove_unused_columns": (False, "the collator reads all columns"),
    "include_num_input_tokens_seen": (False, "students read no tokens"),
    "average_tokens_across_devices": (True, "each loss is a mean over all processes in any case"),
    "use_liger_kernel": (False, "its kernels are not for students"),
    "use_cache": (False, "students generate nothing"),
}


USED = ("label_smoothing_factor",)  # options that other trainers refuse but students support


@dataclass
class DistillationArguments(TrainingArguments):
    """`TrainingArguments` with the options of distillation.

    The default temperature and weight are those of the paper's EGTEA Gaze+ student: 10, and 150 over 106 classes. Its
    EPIC-Kitchens-55 student uses 5, and 20 over the teacher's best 50: weight 0.4, `distill_top_k` 50.

    Args:
        distill_weight (`float`, *optional*, defaults to 1.415): Weight of the distillation loss, 0 or more. 0 trains
            the baseline.
        distill_temperature (`float`, *optional*, defaults to 10.0): Temperature of the teacher's and the student's
            softmax, above 0; see `distillation_loss`.
        distill_top_k (`int`, *optional*): Compare only the teacher's k best classes. Default: all.
        distill_reduction (`str`, *optional*, defaults to `"batchmean"`): `"batchmean"` or `"elementmean"`; see
            `distillation_loss`.
        distill_warmup_steps (`int`, *optional*, defaults to 0): Optimizer steps over which the weight rises linearly
            to `distill_weight`.
        label_smoothing_factor (`float`, *optional*, defaults to 0.0): In training, the share of the next action's
            label that is spread uniformly over all actions.
        remove_unused_columns (`bool`, *optional*, defaults to `False`): Must stay `False`, since the collator reads all
            columns.

    All other arguments are those of `TrainingArguments`.

    Raises:
        ValueError: If an option is out of range, or is one that the trainer does not use.
    """

    TITLE: ClassVar[str] = "distillation"

    distill_weight: float = option("Weight of the teacher's soft labels; 0: baseline.", 1.415)
    distill_temperature: float = option("Temperature that softens both sides.", 10.0)
    distill_top_k: int | None = option("Compare the teacher's best k classes alone.")
    distill_reduction: str = option("batchmean, or elementmean: divided by the number of classes too.", "batchmean")
    distill_warmup_steps: int = option("Steps over which the weight rises from 0; the learning rate has its own.", 0)
    label_smoothing_factor: float = option("In training, share of the next action's label given to all actions.", 0.0)
    remove_unused_columns: bool = option("Rows keep what the collator reads.", False)

    def __post_init__(self):
        # Imported here, since they import torch, which --help does not need.
        from modeling_avt.rules_avt import TOP_K, OrNone

        from ..losses import REDUCTIONS
        from ..runs.library_options import check_built, check_given
        from ..runs.options import SHARE, check_numbers, refuse_unused

        refuse_unused(self, UNUSED, used=USED)
        check_given(self)
        if self.train_sampling_strategy == "group_by_length":
            raise ValueError(
                "train_sampling_strategy is 'group_by_length', but all windows have equal length: leave it out."
            )
        super().__post_init__()
        check_numbers(self, {"distill_top_k": OrNone(TOP_K), "label_smoothing_factor": SHARE})
        check_built(self)
        if self.distill_weight < 0:
            raise ValueError(f"distill_weight is {self.distill_weight}: give 0 for none, or more.")
        if self.distill_temperature <= 0:
            raise ValueError(f"distill_temperature is {self.distill_temperature}: give a number above 0.")
        if self.distill_reduction not in REDUCTIONS:
            raise ValueError(f"distill_reduction is '{self.distill_reduction}': give one of {REDUCTIONS}.")
        if self.distill_warmup_steps < 0:
            raise ValueError(f"distill_warmup_steps is {self.distill_warmup_steps}: give 0 or more.")


@dataclass
class RunArguments(DatasetArguments, StudentArguments, DistillationArguments):
    """Options of `avt-distill distill`: data set, student, training, and those below.

    Args:
        soft_labels (`list[str]`, *optional*): Soft-label tables; several are averaged. Required unless
            `distill_weight` is 0.
        missing_soft_labels (`str`, *optional*, defaults to `"raise"`): How to handle training rows without soft labels:
            `"raise"`, or `"mask"`, which trains them on their labels only.
        balance_soft_labels (`float`, *optional*): Power of the training rows' action frequencies that the teacher's
            probabilities are divided by; see `SoftLabelTable.balanced`. 1 favors rare actions. Default: none.
        accept_other_history (`bool`, *optional*, defaults to `False`): Whether soft labels may have another
            `history_cutoff` and `tau_a` than the data set.
        seeds (`list[int]`, *optional*): Seeds, each of which trains one distilled student and one baseline. Default:
            `seed`.
        baseline (`bool`, *optional*, defaults to `True`): Whether to also train an identical student without a teacher.
        train_split (`str`, *optional*, defaults to `"train"`): Split to train on.
        evaluation_split (`str`, *optional*): Split to measure on. Default: validation, or else test.

    Raises:
        ValueError: If an option is out of range, or options contradict each other.
    """

    TITLE: ClassVar[str] = "run"

    soft_labels: list[str] | None = option("Tables that avt-distill export_soft_labels wrote; several are averaged.")
    missing_soft_labels: str = option("raise; or mask: rows without any learn from labels alone.", "raise")
    balance_soft_labels: float | None = option("Divide by action frequency to this power.")
    accept_other_history: bool = option("Soft labels may differ in cutoff and tau_a.", False)
    seeds: list[int] | None = option("Seeds of the students, one pair each. Default: seed alone.")
    baseline: bool = option("Train an identical student without a teacher, too.", True)
    train_split: str = option("Split to train on.", "train")
    evaluation_split: str | None = option("Split to measure on. Default: validation, or else test.")

    def __post_init__(self):
        from ..runs.options import RATE_OR_NONE, SEED, refuse_unused

        refuse_unused(self, {"resume_from_checkpoint": (None, "a run resumes by itself")}, used=USED)
        StudentArguments.__post_init__(self)
        DistillationArguments.__post_init__(self)
        for seed in self.seeds or []:
            SEED("seeds", seed)
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"seeds is {self.seeds}: give each seed once, since a repeated seed would train the same student."
            )
        if self.model_name_or_path is None and not self.num_train_epochs and self.max_steps <= 0:
            raise ValueError(
                "num_train_epochs is 0 without model_name_or_path: the student would be random, so give either."
            )
        if self.is_as_it_is and self.max_steps > 0:
            raise ValueError(
                f"num_train_epochs is 0, which leaves {self.model_name_or_path} as it is, but max_steps "
                f"{self.max_steps}, which trains it: give --max_steps -1, or more epochs."
            )
        if self.is_as_it_is and self.distill_weight:
            raise ValueError(
                f"distill_weight is {self.distill_weight}, but num_train_epochs 0, so that {self.model_name_or_path} "
                "would learn nothing from soft labels: give --distill_weight 0, or more epochs."
            )
        if self.missing_soft_labels not in ("raise", "mask"):
            raise ValueError(f"missing_soft_labels is '{self.missing_soft_labels}': give 'raise' or 'mask'.")
        RATE_OR_NONE("balance_soft_labels", self.balance_soft_labels)
        if self.distill_weight and self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor is {self.label_smoothing_factor} and distill_weight {self.distill_weight}, "
                "but label smoothing is a baseline for a teacher: give --distill_weight 0 and another output_dir, "
                "and compare the two runs' score files with avt-distill compare_runs."
            )
        if self.distill_weight and not self.soft_labels:
            raise ValueError(
                f"distill_weight is {self.distill_weight}, but there are no soft_labels: give tables that "
                "avt-distill export_soft_labels wrote, or --distill_weight 0 for the baseline alone."
            )

    @property
    def is_as_it_is(self) -> bool:
        """Whether the student is a finished checkpoint that is not trained further."""
        return self.model_name_or_path is not None and self.num_train_epochs == 0

    @property
    def folder(self) -> Path:
        """`output_dir` as a path."""
        return Path(self.output_dir or ".")
