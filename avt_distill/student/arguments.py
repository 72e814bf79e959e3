"""What a student is made of, and how it is trained: the options of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from transformers import TrainingArguments

from ..data.arguments import DatasetArguments
from ..runs.arguments import mapping, option


@dataclass
class StudentArguments:
    """What a student is made of, and what it sees. Times and labels are the data set's."""

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
    evaluation_crops: int = option("1, the center; or AVT's 3, whose outputs it averages.", 1)
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
            raise ValueError("features and backbone are both given: a student sees stored features, or videos.")
        if self.start_from_probe and self.features is None:
            raise ValueError("start_from_probe is set without features: the probe is one of stored features.")
        if self.model_name_or_path is not None and (self.start_from_probe or self.model_options or self.backbone):
            raise ValueError(
                "model_name_or_path is given with model_options, backbone or start_from_probe: a checkpoint brings its "
                "own, so give either."
            )


# Beside those that none of the trainers reads.
UNUSED = {
    "remove_unused_columns": (False, "the collator reads all columns"),
    "include_num_input_tokens_seen": (False, "students read no tokens"),
    "average_tokens_across_devices": (True, "each loss is a mean over all processes in any case"),
    "use_liger_kernel": (False, "its kernels are not for students"),
    "use_cache": (False, "students generate nothing"),
}


USED = ("label_smoothing_factor",)  # of what other trainers refuse


@dataclass
class DistillationArguments(TrainingArguments):
    """`TrainingArguments`, and how much is learned from the teacher.

    The temperature and the weight are those of the paper's EGTEA Gaze+ student: 10, and 150 over 106 classes. Its
    EPIC-Kitchens-55 student has 5, and 20 over the teacher's best 50: weight 0.4, `distill_top_k` 50.
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
        # These import the model, which --help does without.
        from modeling_avt.rules_avt import TOP_K, OrNone

        from ..losses import REDUCTIONS
        from ..runs.library_options import check_built, check_given
        from ..runs.options import SHARE, check_numbers, refuse_unused

        refuse_unused(self, UNUSED, used=USED)
        check_given(self)
        if self.train_sampling_strategy == "group_by_length":
            raise ValueError(
                "train_sampling_strategy is 'group_by_length', but all windows are of one length: leave it out."
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
    """Everything a run takes: the data set, the student, how it is trained, and these."""

    TITLE: ClassVar[str] = "run"

    soft_labels: list[str] | None = option("Tables that avt-distill export_soft_labels wrote; several are averaged.")
    missing_soft_labels: str = option("raise; or mask: rows without any learn from labels alone.", "raise")
    accept_other_history: bool = option("Soft labels may differ in cutoff and tau_a.", False)
    seeds: list[int] | None = option("Seeds of the students, one pair each. Default: seed alone.")
    baseline: bool = option("Train an identical student without a teacher, too.", True)
    train_split: str = option("Split to train on.", "train")
    evaluation_split: str | None = option("Split to measure on. Default: validation, or else test.")

    def __post_init__(self):
        from ..runs.options import SEED, refuse_unused

        refuse_unused(self, {"resume_from_checkpoint": (None, "a run resumes by itself")}, used=USED)
        StudentArguments.__post_init__(self)
        DistillationArguments.__post_init__(self)
        for seed in self.seeds or []:
            SEED("seeds", seed)
        if self.seeds and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"seeds is {self.seeds}: give each seed once, as a student that is counted twice is no other."
            )
        if self.model_name_or_path is None and not self.num_train_epochs and self.max_steps <= 0:
            raise ValueError(
                "num_train_epochs is 0 without model_name_or_path: the student would be random, so give either."
            )
        if self.missing_soft_labels not in ("raise", "mask"):
            raise ValueError(f"missing_soft_labels is '{self.missing_soft_labels}': give 'raise' or 'mask'.")
        if self.distill_weight and self.label_smoothing_factor:
            raise ValueError(
                f"label_smoothing_factor is {self.label_smoothing_factor} and distill_weight {self.distill_weight}, "
                "but smoothed labels are a baseline of a teacher's: give --distill_weight 0 and another output_dir, "
                "and compare the two runs' score files with avt-distill compare_runs."
            )
        if self.distill_weight and not self.soft_labels:
            raise ValueError(
                f"distill_weight is {self.distill_weight}, but there are no soft_labels: give tables that "
                "avt-distill export_soft_labels wrote, or --distill_weight 0 for the baseline alone."
            )

    @property
    def folder(self) -> Path:
        """`output_dir` as a path."""
        return Path(self.output_dir or ".")
