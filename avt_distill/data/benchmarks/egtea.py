"""EGTEA Gaze+ from RULSTM's CSV files: three splits by segment, not by video."""

import re
from pathlib import Path

import pandas as pd

from ..builder import Annotations, AnticipationBuilder, AnticipationConfig
from ..labels import LabelSpace
from ..segments import AnnotationError, read_csv
from .epic_kitchens import read_rulstm

# Frame rate of the videos. RULSTM's frame numbers and features nevertheless count at 30 fps.
VIDEO_FPS = 24.0
PAIR = re.compile(r"(\d+)_(\d+)")  # ids of a verb and a noun


class EgteaGazePlus(AnticipationBuilder):
    """EGTEA Gaze+. `data_dir` holds `actions.csv`, `training<k>.csv` and `validation<k>.csv`.

    Splits: `train` and `validation`. Configurations: `split1` (default) to `split3`, and `split1_complete` to
    `split3_complete`. Most videos have segments in both parts of a split, alternating. Histories therefore come in two
    kinds: gappy ones, with segments of a row's own part only, and complete ones, which include the other part's
    segments.
    """

    TITLE = "EGTEA Gaze+"
    BUILDER_CONFIGS = [
        AnticipationConfig(name=f"split{k}{history}", tau_a=0.5) for history in ("", "_complete") for k in (1, 2, 3)
    ]
    DEFAULT_CONFIG_NAME = "split1"

    def read_annotations(self, folder: Path) -> Annotations:
        space = _label_space(folder / "actions.csv")
        split, _, history = self.config.name.removeprefix("split").partition("_")
        splits = {
            "train": read_rulstm(folder / f"training{split}.csv", space),
            "validation": read_rulstm(folder / f"validation{split}.csv", space),
        }
        complete = pd.concat(list(splits.values()), ignore_index=True)
        return Annotations(
            space,
            splits,
            dict.fromkeys(complete["video_id"], VIDEO_FPS),
            history=dict.fromkeys(splits, complete) if history == "complete" else {},
        )


def _label_space(path: Path) -> LabelSpace:
    """Returns the actions of RULSTM's `actions.csv`: `id, verb_noun ids, Verb_noun`."""
    table = read_csv(path, header=None)
    ids = [PAIR.fullmatch(text) for text in table[1]] if table.shape[1] == 3 else [None]
    if None in ids:
        line = table.index[ids.index(None)]
        raise AnnotationError(
            f"{path}, line {line}: a line holds id, verb and noun ids, verb and noun, such as 0,12_3,Take_plate: give "
            "RULSTM's file for EGTEA Gaze+."
        )
    pairs = [(int(match[1]), int(match[2])) for match in ids if match is not None]
    verbs, nouns = {}, {}
    for (verb, noun), name in zip(pairs, table[2], strict=True):
        verb_name, _, noun_name = name.partition("_")
        if verbs.setdefault(verb, verb_name) != verb_name or nouns.setdefault(noun, noun_name) != noun_name:
            raise AnnotationError(
                f"{path}: '{name}' names verb {verb} or noun {noun} unlike an earlier action: give the file as "
                "published."
            )
    for kind, names in (("verb", verbs), ("noun", nouns)):
        if missing := sorted(set(range(max(names))) - set(names)):
            raise AnnotationError(f"{path} has no action with {kind} {missing[0]}: give the whole file, as published.")
    return LabelSpace(
        actions=tuple(table[2]),
        verbs=tuple(verbs[index] for index in range(len(verbs))),
        nouns=tuple(nouns[index] for index in range(len(nouns))),
        action_to_verb_noun=tuple(pairs),
    )
