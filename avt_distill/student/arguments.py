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

    model_name_or_path: str | None = option("An AVT checkpoint to start from, on the Hub or in a folder.")
    model_options: dict | str | None = option('AVTConfig fields of a new student, such as {"head_num_layers": 2}.')
    backbone: str | None = option("Pretrained frame encoder of a student of videos: any image model.")
    freeze_backbone: bool = option("Train all but the frame encoder.", False)
    processor_options: dict | str | None = option('AVTVideoProcessor fields, such as {"size": 64, "crop_size": 56}.')
    features: str | None = option("Feature store of a student of features: a folder, .npz file or RULSTM's LMDB.")
    feature_frame_rate: float | None = option("Rows per second of an .npz file.")
    feature_missing: str = option("error; or search_back for the row before one that is not stored.", "error")
    start_from_probe: bool = option(
        "Students of features: keep a probe's scores, and train the head on the rest.", False
    )
    evaluation_crops: int = option("1, the centre; or AVT's 3, whose outputs it averages.", 1)
    evaluation_flips: bool = option("Average over mirrored crops too, as AVT does.", False)

    def __post_init__(self):
        self.model_options = mapping("model_options", self.model_options)
        self.processor_options = mapping("processor_options", self.processor_options)
        if self.features is not None and self.backbone is not None:
            raise ValueError("features and backbone are both given: a student sees stored features, or videos.")
        if self.start_from_probe and self.features is None:
            raise ValueError("start_from_probe is set without features: the probe is one of stored features.")
        if self.model_name_or_path is not None and (self.start_from_probe or self.model_options or self.backbone):
            raise ValueError(
                "model_name_or_path is given with model_options, backbone or start_from_probe: a checkpoint brings its "
                "own, so give either."
            )


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
    remove_unused_columns: bool = option("Rows keep what the collator reads.", False)

    def __post_init__(self):
        from ..losses import REDUCTIONS  # imports the model, which --help does without

        super().__post_init__()
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
    accept_other_history: bool = option("Accept soft labels of another history_cutoff or tau_a than the rows'.", False)
    seeds: list[int] | None = option("Seeds of the students, one pair each. Default: seed alone.")
    baseline: bool = option("Train an identical student without a teacher, too.", True)
    train_split: str = option("Split to train on.", "train")
    evaluation_split: str | None = option("Split to measure on. Default: validation, or else test.")

    def __post_init__(self):
        StudentArguments.__post_init__(self)
        DistillationArguments.__post_init__(self)
        if self.missing_soft_labels not in ("raise", "mask"):
            raise ValueError(f"missing_soft_labels is '{self.missing_soft_labels}': give 'raise' or 'mask'.")
        if self.distill_weight and not self.soft_labels:
            raise ValueError(
                f"distill_weight is {self.distill_weight}, but there are no soft_labels: give tables that "
                "avt-distill export_soft_labels wrote, or --distill_weight 0 for the baseline alone."
            )

    @property
    def folder(self) -> Path:
        """`output_dir` as a path."""
        return Path(self.output_dir or ".")
