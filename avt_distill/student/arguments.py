"""What a student is made of, and how it is trained: the options of a run."""

from dataclasses import dataclass, field
from typing import ClassVar

from transformers import TrainingArguments

from ..data.arguments import DatasetArguments
from ..runs.arguments import mapping


@dataclass
class StudentArguments:
    """What a student is made of, and what it sees. Times and labels are the data set's."""

    TITLE: ClassVar[str] = "student"

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "An AVT checkpoint to go on from, on the Hub or in a folder."}
    )
    model_options: dict | str | None = field(
        default=None, metadata={"help": 'AVTConfig fields of a new student, such as {"head_num_layers": 2}.'}
    )
    backbone: str | None = field(
        default=None,
        metadata={"help": "Pretrained frame encoder of a student that sees videos: any image model of Hugging Face."},
    )
    freeze_backbone: bool = field(default=False, metadata={"help": "Train all but the frame encoder."})
    processor_options: dict | str | None = field(
        default=None, metadata={"help": 'AVTVideoProcessor fields that differ, such as {"size": 64, "crop_size": 56}.'}
    )
    features: str | None = field(
        default=None,
        metadata={"help": "Feature store of a student that sees features: a folder, an .npz file, or RULSTM's LMDB."},
    )
    feature_frame_rate: float | None = field(default=None, metadata={"help": "Rows per second of an .npz file."})
    feature_missing: str = field(
        default="error", metadata={"help": "error; or search_back for the row before one that is not stored."}
    )
    evaluation_crops: int = field(default=1, metadata={"help": "1, the centre; or AVT's 3, whose outputs it averages."})
    evaluation_flips: bool = field(default=False, metadata={"help": "Average over mirrored crops too, as AVT does."})

    def __post_init__(self):
        self.model_options = mapping("model_options", self.model_options)
        self.processor_options = mapping("processor_options", self.processor_options)
        if self.features is not None and self.backbone is not None:
            raise ValueError("features and backbone are both given: a student sees stored features, or videos.")
        if self.model_name_or_path is not None and (self.model_options or self.backbone):
            raise ValueError(
                "model_name_or_path is given with model_options or backbone: a checkpoint brings its own, so give "
                "either."
            )


@dataclass
class DistillationArguments(TrainingArguments):
    """`TrainingArguments`, and how much is learned from the teacher.

    The temperature and the weight are those of the paper's EGTEA Gaze+ student: 10, and 150 over 106 classes. Its
    EPIC-Kitchens-55 student has 5, and 20 over the teacher's best 50: weight 0.4, `distill_top_k` 50.
    """

    TITLE: ClassVar[str] = "distillation"

    distill_weight: float = field(default=1.415, metadata={"help": "Weight of the teacher's soft labels; 0: baseline."})
    distill_temperature: float = field(default=10.0, metadata={"help": "Temperature that softens both sides."})
    distill_top_k: int | None = field(default=None, metadata={"help": "Compare the teacher's best k classes alone."})
    distill_reduction: str = field(
        default="batchmean", metadata={"help": "batchmean, or elementmean: divided by the number of classes too."}
    )
    distill_warmup_steps: int = field(
        default=0, metadata={"help": "Steps over which the weight rises from 0; the learning rate has its own."}
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Rows keep what the collator reads."})

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

    soft_labels: list[str] | None = field(
        default=None, metadata={"help": "Tables that avt-distill export_soft_labels wrote; several are averaged."}
    )
    missing_soft_labels: str = field(
        default="raise", metadata={"help": "raise; or mask: rows without any are counted and learn from labels alone."}
    )
    seeds: list[int] | None = field(
        default=None, metadata={"help": "Seeds of the students, one pair each. Default: seed alone."}
    )
    baseline: bool = field(default=True, metadata={"help": "Train each student's twin without a teacher, too."})
    train_split: str = field(default="train", metadata={"help": "Split to train on."})
    evaluation_split: str | None = field(
        default=None, metadata={"help": "Split to measure on, for nothing else. Default: validation, or else test."}
    )

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
