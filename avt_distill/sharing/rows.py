"""Exporting anticipation rows as Parquet with a card, to a folder or the Hub."""

import csv
import io
import json
import logging
from pathlib import Path

import datasets
from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData, HfApi, hf_hub_download

from ..data.builder import AnticipationBuilder
from ..runs.folder import read_json, whole_file, write_text
from ..runs.lock import locked
from .cards import README, dataset_card, write_card
from .hub import create_repository, hub_errors_in_one_line
from .licenses import NONE_STATED
from .metadata import NOTHING, Stated, state_in_header

logger = logging.getLogger(__name__)


def export_rows(
    splits: datasets.DatasetDict,
    builder: AnticipationBuilder,
    folder: Path,
    *,
    overwrite: bool = False,
    stated: Stated = NOTHING,
):
    """Writes one Parquet file per split, a card, and the files that evaluation needs, each atomically.

    `labels.json` is the label space; `<split>_dropped.csv` lists the actions without a row, `uid,action id`.

    Args:
        splits (`datasets.DatasetDict`): The rows.
        builder (`AnticipationBuilder`): The builder of the rows.
        folder (`Path`): Folder to write to.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace an edited card.
        stated (`Stated`, *optional*): The license. Default: that of the existing card.
    """
    with locked(folder):
        _export_rows(splits, builder, folder, overwrite, stated)


def _export_rows(
    splits: datasets.DatasetDict, builder: AnticipationBuilder, folder: Path, overwrite: bool, stated: Stated
):
    builder.annotations.label_space.save(folder / "labels.json")
    for name, uids in builder.dropped.items():
        actions = builder.annotations.splits[name].set_index("uid")["action"]
        lines = io.StringIO()
        csv.writer(lines, lineterminator="\n").writerows((uid, actions[uid]) for uid in uids)
        write_text(folder / f"{name}_dropped.csv", lines.getvalue())
    # Lists the splits' files, so that `datasets` does not load the other files as data.
    files = [{"split": name, "path": f"{name}.parquet"} for name in splits]
    data = DatasetCardData(configs=[{"config_name": "default", "data_files": files}])
    stated |= Stated.in_card(folder / README, DatasetCard)
    card = dataset_card({"default": builder.facts()}, folder.resolve().name, data, stated, has_facts=False)
    if not write_card(folder, card, overwrite=overwrite) and stated:
        state_in_header(folder / README, stated, DatasetCard)
    warn_without_license(stated, str(folder))
    for name, rows in with_names_of_videos(splits).items():
        # Not to a path, which `datasets` would read as a URL of fsspec if it contains `::` or begins like `file:`.
        with whole_file(folder / f"{name}.parquet") as partial, open(partial, "wb") as file:
            rows.to_parquet(file)


def with_names_of_videos(splits: datasets.DatasetDict) -> datasets.DatasetDict:
    """Returns the rows with the names of video files in place of their paths."""
    return splits.map(lambda video: {"video": video and Path(video).name}, input_columns="video")


def warn_without_license(stated: Stated, place: str):
    """Logs a warning with the next step if no license is stated."""
    if stated.license is None:
        logger.warning(NONE_STATED, place, "prepare_dataset")


def push_rows(
    splits: datasets.DatasetDict,
    builder: AnticipationBuilder,
    repo_id: str,
    *,
    private: bool,
    stated: Stated = NOTHING,
) -> str:
    """Uploads a configuration's rows and a card of all configurations; returns the repository's full name.

    Args:
        splits (`datasets.DatasetDict`): The rows.
        builder (`AnticipationBuilder`): The builder of the rows.
        repo_id (`str`): `user/name`, or `name` for the user's own; created if it does not exist.
        private (`bool`): Whether a new repository is private.
        stated (`Stated`, *optional*): The license. Default: that of the existing card.

    Raises:
        OSError: If the upload fails. The same command then sends what is missing.
    """
    config_name = builder.config.name
    rows = with_names_of_videos(splits)
    with hub_errors_in_one_line(f"Upload of the rows to {repo_id} is incomplete. Retry"):
        api = HfApi()
        repo_id = create_repository(repo_id, repo_type="dataset", private=private)
        rows.push_to_hub(repo_id, config_name=config_name)
        configs = {config_name: builder.facts()}
        for path in api.list_repo_files(repo_id, repo_type="dataset"):
            name = Path(path)
            if name.match("facts/*.json") and name.stem != config_name:
                file = hf_hub_download(repo_id, path, repo_type="dataset")
                configs[name.stem] = read_json(file)
        data = DatasetCard.load(repo_id).data
        # Set here: datasets 5.2 fails with `set_default=True` if the first configuration was pushed without it.
        for config in data.configs:
            if config["config_name"] == builder.DEFAULT_CONFIG_NAME:
                config["default"] = True
        stated |= Stated.in_header(data)
        card = dataset_card(dict(sorted(configs.items())), repo_id, data, stated)
        contents = {"README.md": str(card), f"facts/{config_name}.json": json.dumps(configs[config_name], indent=1)}
        files = [CommitOperationAdd(path, content.encode()) for path, content in contents.items()]
        api.create_commit(repo_id, files, repo_type="dataset", commit_message="Card and facts")
    warn_without_license(stated, repo_id)
    return repo_id
