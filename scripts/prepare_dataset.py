"""Builds the anticipation rows of a benchmark or of your own data, and exports or pushes them.

    python scripts/prepare_dataset.py egtea --data_dir annotations/egtea --export egtea_parquet/
    python scripts/prepare_dataset.py my_data/ --set tau_a=0.5 num_frames=16 --push_to_hub user/my-actions

The export is plain Parquet, a file a split, that `datasets.load_dataset("egtea_parquet")` reads anywhere, with
`labels.json` and `<split>_dropped.csv` for `scripts/evaluate.py`.
"""

import argparse
import json
import sys
from pathlib import Path

import datasets
from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData, HfApi, hf_hub_download

from avt_distill.data.builder import AnticipationBuilder
from avt_distill.data.command_line import add_dataset_arguments, dataset_builder
from avt_distill.sharing.cards import dataset_card
from avt_distill.sharing.hub import create_repository, hub_errors_in_one_line


def main(arguments: list[str] | None = None):
    args = parse_arguments(arguments)
    try:
        builder = dataset_builder(args)
        builder.download_and_prepare()
        splits = builder.as_dataset()
        report(splits, builder)
        if args.export is not None:
            export(splits, builder, args.export)
        if args.push_to_hub is not None:
            push(splits, builder, args.push_to_hub, private=args.private)
    except (ValueError, TypeError, OSError) as error:
        sys.exit(f"error: {error}")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_dataset_arguments(parser)
    parser.add_argument("--export", type=Path, help="folder to write Parquet files to")
    parser.add_argument("--push_to_hub", metavar="USER/NAME", help="data set repository on the Hub")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    return parser.parse_args(arguments)


def export(splits: datasets.DatasetDict, builder: AnticipationBuilder, folder: Path):
    """Writes one Parquet file a split, each under a temporary name until it is whole, and what evaluation needs.

    `labels.json` is the label space; `<split>_dropped.csv` names the actions without a row, `uid,action id`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    builder.annotations.label_space.save(folder / "labels.json")
    for name, uids in builder.dropped.items():
        actions = builder.annotations.splits[name].set_index("uid")["action"]
        (folder / f"{name}_dropped.csv").write_text("".join(f"{uid},{actions[uid]}\n" for uid in uids))
    # Names the splits' files, so that those beside them are not taken for data.
    files = [{"split": name, "path": f"{name}.parquet"} for name in splits]
    data = DatasetCardData(configs=[{"config_name": "default", "data_files": files}])
    dataset_card({"default": builder.facts()}, folder.resolve().name, data).save(folder / "README.md")
    for name, rows in splits.items():
        unfinished = folder / f"{name}.parquet.unfinished"
        rows.to_parquet(unfinished)
        unfinished.replace(folder / f"{name}.parquet")
    print(f"written to {folder}")


def push(splits: datasets.DatasetDict, builder: AnticipationBuilder, repo_id: str, *, private: bool):
    """Uploads a configuration's rows, and a card of all that are there.

    Raises:
        OSError: where that failed; the same command sends what is missing.
    """
    config_name = builder.config.name
    rows = splits.map(lambda video: {"video": video and Path(video).name}, input_columns="video")  # paths are one's own
    with hub_errors_in_one_line(f"The rows did not all get to {repo_id}; push again"):
        api = HfApi()
        repo_id = create_repository(repo_id, repo_type="dataset", private=private)
        rows.push_to_hub(repo_id, config_name=config_name)
        configs = {config_name: builder.facts()}
        for path in api.list_repo_files(repo_id, repo_type="dataset"):
            name = Path(path)
            if name.match("facts/*.json") and name.stem != config_name:
                file = hf_hub_download(repo_id, path, repo_type="dataset")
                configs[name.stem] = json.loads(Path(file).read_text())
        data = DatasetCard.load(repo_id).data
        for config in data.configs:  # datasets 5.2 fails at `set_default` where another configuration was first
            if config["config_name"] == builder.DEFAULT_CONFIG_NAME:
                config["default"] = True
        card = dataset_card(dict(sorted(configs.items())), repo_id, data)
        contents = {"README.md": str(card), f"facts/{config_name}.json": json.dumps(configs[config_name], indent=1)}
        files = [CommitOperationAdd(path, content.encode()) for path, content in contents.items()]
        api.create_commit(repo_id, files, repo_type="dataset", commit_message="Card and facts")
    print(f"pushed to {repo_id}")


def report(splits: datasets.DatasetDict, builder: AnticipationBuilder):
    """Prints rows, dropped actions and unlabelled frames of each split."""
    print(f"{'split':<12} {'rows':>7} {'left out':>8} {'videos':>6} {'frames unlabelled':>18}")
    for name, rows in splits.items():
        arrays = rows.with_format("numpy")
        seen = arrays["past_actions"][:][arrays["frame_mask"][:]]
        unlabelled = f"{100 * (seen == -100).mean():.1f} %"
        videos = len(set(rows["video_id"]))
        print(f"{name:<12} {len(rows):>7} {len(builder.dropped[name]):>8} {videos:>6} {unlabelled:>18}")


if __name__ == "__main__":
    main()
