"""Options of `avt-distill fit_reader`, in addition to those of the students that readers are added to."""

from dataclasses import dataclass
from typing import ClassVar

from ..runs.arguments import option
from ..student.arguments import RunArguments

ORDERS = {"unigram": 1, "bigram": 2, "trigram": 3}  # of n-gram models by their names
LOG_LINEAR, TEACHER, WORDED = "log-linear", "teacher", "worded"
TRANSITIONS = (*ORDERS, LOG_LINEAR)


@dataclass
class ReaderArguments(RunArguments):
    """Options of `avt-distill fit_reader`: those of `RunArguments`, and those of readers, described by their help
    texts."""

    TITLE: ClassVar[str] = "reader"

    folds: str | None = option("all: every fold of the data set, one after the other; {fold} in paths is its name.")
    inner_folds: int = option("Folds of training videos on which all is chosen; a student is trained on each.", 4)
    transitions: list[str] | None = option("Text-free and text models to compare; the last one is kept.")
    teacher: str | None = option("A teacher, to be distilled into a log-linear model and compared too.")
    language_model: str | None = option("For few videos: reads words of names.")
    reader_frame_rate: float | None = option("Frames read per second. Default: the store's, or the student's.")
    recognizer_feature_dim: int | None = option(
        "Leading columns of features that say what a frame shows. Default: all."
    )
    num_last: int = option("Last actions that a log-linear model reads in order, with the set of all.", 2)
    num_phases: int = option("Phases of an action: the more, the less its length varies.", 2)
    beam: int = option("Hypotheses that are kept.", 500)
    min_start: float = option("Starts of a smaller probability are dropped.", 1e-8)
    followers: int | None = option("Likeliest next actions of each hypothesis to follow. Default: all, or 500 of more.")

    error_rate: float | None = option("Share of answers that may be wrong.")

    def __post_init__(self):
        from modeling_avt.rules_avt import Number, OrNone  # imports torch, which --help does not need

        from ..runs.options import COUNT, POSITIVE, SHARE

        super().__post_init__()
        rules = {"reader_frame_rate": OrNone(POSITIVE), "num_phases": COUNT, "beam": COUNT, "min_start": SHARE}
        rules |= {"followers": OrNone(COUNT), "recognizer_feature_dim": OrNone(COUNT)}
        rules |= {"error_rate": OrNone(Number(above=0, below=1))}
        for name, rule in rules.items():
            rule(name, getattr(self, name))
        self.transitions = self.transitions or ["unigram", "bigram", LOG_LINEAR]
        if unknown := [kind for kind in self.transitions if kind not in TRANSITIONS]:
            raise ValueError(f"transitions has '{unknown[0]}': give some of {TRANSITIONS}.")
        if self.inner_folds < 2:
            raise ValueError(f"inner_folds is {self.inner_folds}: give 2 or more.")
        if self.num_last < 1:
            raise ValueError(f"num_last is {self.num_last}: give 1 or more.")
        if self.error_rate is not None and self.is_as_it_is:
            raise ValueError(
                f"error_rate is {self.error_rate}, but there are no held-out answers of {self.model_name_or_path}, a "
                "finished checkpoint, to choose a threshold on: leave it out, and give it to avt-distill calibrate "
                "with the scores that are written to reader/."
            )
        if self.folds not in (None, "all"):
            raise ValueError(f"folds is '{self.folds}': give all, or select one fold with --config_name or --fold.")

    @property
    def kinds(self) -> list[str]:
        """The transition models to compare; the last one is kept."""
        kinds = list(self.transitions or [])
        kinds = kinds if self.teacher is None else [*kinds[:-1], TEACHER, kinds[-1]]
        return kinds if self.language_model is None else [*kinds, WORDED]
