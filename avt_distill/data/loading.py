"""From the name of a benchmark, or a folder, to its data set."""

from pathlib import Path

import datasets

from .demo import DemoKitchen
from .egtea import EgteaGazePlus
from .epic_kitchens import EpicKitchens55, EpicKitchens100
from .fifty_salads import FiftySalads
from .own_data import OwnData

BUILDERS = {
    "epic_kitchens_55": EpicKitchens55,
    "epic_kitchens_100": EpicKitchens100,
    "egtea_gaze_plus": EgteaGazePlus,
    "fifty_salads": FiftySalads,
    "demo": DemoKitchen,
}


def prepare(name_or_path: str, **builder_kwargs) -> datasets.DatasetDict:
    """Returns the data set, built once and then read from the cache; see `load_anticipation_dataset`."""
    if name_or_path in BUILDERS:
        builder = BUILDERS[name_or_path](**builder_kwargs)
    elif (Path(name_or_path) / "segments.csv").exists():
        builder = OwnData(data_dir=name_or_path, **builder_kwargs)
    else:
        raise ValueError(
            f"'{name_or_path}' is neither a benchmark ({', '.join(BUILDERS)}) nor a folder with segments.csv."
        )
    builder.download_and_prepare()
    return builder.as_dataset()
