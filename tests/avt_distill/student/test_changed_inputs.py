"""The results of a run are reused only if none of its inputs and options changed; the error names what changed."""

import json
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers.videos import numbered_frames, write_pictures, write_video
from safetensors.numpy import load_file
from tiny_kitchen import kitchen_builder, write_kitchen, write_soft_labels, write_tiny_vit, write_video_kitchen

import run_distill
from avt_distill.features.stores import write_features
from avt_distill.runs.folder import read_json
from avt_distill.student.building import StudentInput
from avt_distill.student.fingerprint import _input_digest
from avt_distill.teacher.soft_labels import ROW_COLUMNS, SoftLabelTable
from modeling_avt.video_io_avt import PictureFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder of data, soft labels and a finished run on them."""
    root = tmp_path_factory.mktemp("finished")
    kitchen = write_kitchen(root / "data")
    write_soft_labels(root / "soft.parquet", kitchen)
    distill(root, "--num_train_epochs=1")
    return root


@pytest.fixture
def root(finished, tmp_path) -> Path:
    """The finished folder, restored after each test; its paths stay the same, so that only content changes."""
    kept = shutil.copytree(finished, tmp_path / "kept")
    yield finished
    shutil.rmtree(finished)
    shutil.copytree(kept, finished)


def distill(root: Path, *more: str, features: str = "features"):
    given = [f"--features={root / 'data' / features}", f"--soft_labels={root / 'soft.parquet'}"]
    run_distill.main(
        [str(root / "data" / "run.yaml"), *given, f"--output_dir={root / 'run'}", "--num_train_epochs=1", *more]
    )


def rewrite_segments(root: Path, change):
    path = root / "data" / "segments.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *(change(line.split(",")) for line in lines)]) + "\n")


def moved(cells: list[str]) -> str:
    video, start, end, action, split = cells
    return f"{video},{int(start) + 1},{int(end) + 1},{action},{split}"


def corrected(cells: list[str]) -> str:
    return ",".join([*cells[:3], "take_egg" if cells[4] == "validation" else cells[3], cells[4]])


def longer(cells: list[str]) -> str:
    return ",".join([*cells[:2], f"{float(cells[2]) + 0.5}", *cells[3:]])


def test_a_refused_run_keeps_the_options_of_the_finished_one(root):
    path = root / "run" / "arguments.yaml"
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=r"holds a student with learning_rate"):
        distill(root, "--learning_rate=0.5")
    assert path.read_bytes() == before
    with pytest.raises(SystemExit, match=r"holds a student with learning_rate"):
        distill(root, "--learning_rate=0.5", "--seeds", "7", "42")
    assert path.read_bytes() == before
    assert not list((root / "run").glob("*_seed7"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (corrected, "evaluation_rows.action"),
        (longer, "training_rows.end_s"),
    ],
)
def test_students_of_corrected_annotations_are_not_reused(root, change, named):
    rewrite_segments(root, change)
    with pytest.raises(SystemExit, match=rf"holds a student with .*{named}"):
        distill(root)


def test_students_of_moved_segments_are_not_reused(root):
    rewrite_segments(root, moved)
    write_soft_labels(root / "soft.parquet", root / "data")
    with pytest.raises(SystemExit, match=r"holds a student with .*evaluation_rows.start_s|training_rows.start_s"):
        distill(root)


@pytest.mark.parametrize("video", ["v0", "v7"])
def test_students_of_overwritten_features_are_not_reused(root, video):
    path = root / "data" / "features" / f"{video}.safetensors"
    write_features(path, load_file(path)["features"][::-1], 1.0)
    with pytest.raises(SystemExit, match=rf"holds a student with features_content.{video} "):
        distill(root)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_overwritten_arrays_are_noticed_in_every_store(root, tmp_path, kind):
    """Each store identifies its content: an `.npz` file by checksums, a folder of `.npy` files by hashing them."""
    stored = {path.stem: load_file(path)["features"] for path in (root / "data" / "features").glob("*.safetensors")}
    place = tmp_path / ("features.npz" if kind == "npz" else "columns")

    def store(arrays):
        if kind == "npz":
            np.savez(place, **arrays)
            return
        place.mkdir(exist_ok=True)
        for name, rows in arrays.items():
            np.save(place / f"{name}.npy", rows.T)

    def run():
        options = [f"--features={place}", "--feature_frame_rate=1", f"--soft_labels={root / 'soft.parquet'}"]
        run_distill.main([str(root / "data" / "run.yaml"), *options, f"--output_dir={tmp_path / 'run'}"])

    store(stored)
    run()
    run()  # the arrays are the same: the student is reused
    store({**stored, "v7": stored["v7"][::-1]})
    with pytest.raises(SystemExit, match=r"holds a student with features_content\.v7 "):
        run()


def test_an_overwritten_lmdb_is_noticed(root, tmp_path):
    lmdb = pytest.importorskip("lmdb")

    def store(place, factor=1.0):
        with lmdb.open(str(place), map_size=2**24) as environment, environment.begin(write=True) as transaction:
            for path in (root / "data" / "features").glob("*.safetensors"):
                for second, row in enumerate(factor * load_file(path)["features"]):
                    name = f"{path.stem}_frame_{30 * second + 1:010d}.jpg"  # the frame shown at each second
                    transaction.put(name.encode(), row.astype("<f4").tobytes())
        return place

    def run():
        options = [f"--features={tmp_path / 'lmdb'}", f"--soft_labels={root / 'soft.parquet'}"]
        run_distill.main([str(root / "data" / "run.yaml"), *options, f"--output_dir={tmp_path / 'run'}"])

    store(tmp_path / "lmdb")
    run()
    run()
    os.replace(store(tmp_path / "other", 0.5) / "data.mdb", tmp_path / "lmdb" / "data.mdb")
    with pytest.raises(SystemExit, match=r"holds a student with features_content\.data\.mdb "):
        run()


@pytest.mark.parametrize("video", ["v0", "v1"])
def test_students_of_overwritten_videos_are_not_reused(tmp_path, video):
    data, vit = write_video_kitchen(tmp_path / "data"), write_tiny_vit(tmp_path / "vit")
    head = json.dumps({"head_hidden_size": 32, "head_num_layers": 1, "head_num_positions": 16})
    named = {"dataset": data, "num_frames": 4, "tau_o": 4.0, "cache_dir": tmp_path / "cache", "backbone": vit}
    named |= {
        "model_options": head,
        "max_steps": 1,
        "use_cpu": True,
        "distill_weight": 0,
        "output_dir": tmp_path / "run",
    }
    options = [f"--{name}={value}" for name, value in named.items()]
    run_distill.main(options)
    run_distill.main(options)
    write_video(data / "videos" / f"{video}.mp4", numbered_frames(90)[::-1])
    with pytest.raises(SystemExit, match=rf"holds a student with videos_content\.{video} "):
        run_distill.main(options)


def test_the_features_of_other_videos_do_not_matter(root, capsys):
    write_features(root / "data" / "features" / "other.safetensors", np.ones((3, 12)), 1.0)
    distill(root)
    assert "baseline and distilled" in capsys.readouterr().out


def test_soft_labels_of_the_same_numbers_in_another_order_are_not_reused(root):
    table = SoftLabelTable.load(root / "soft.parquet")
    SoftLabelTable(table.uids[::-1], table.logits, table.metadata).save(root / "soft.parquet")
    with pytest.raises(SystemExit, match="holds a student with soft_labels"):
        distill(root)


@pytest.mark.parametrize(
    "option",
    [
        "--dataloader_drop_last=true",
        "--optim=sgd",
        "--lr_scheduler_type=cosine",
        "--data_seed=5",
        "--eval_strategy=epoch",
        "--neftune_noise_alpha=1",
        "--auto_find_batch_size=true",
        "--gradient_accumulation_steps=2",
        "--dataloader_persistent_workers=true",
    ],
)
def test_options_that_affect_weights_are_refused_in_a_finished_run(finished, option):
    with pytest.raises(SystemExit, match="holds a student with"):
        distill(finished, option)


@pytest.mark.parametrize(
    "option",
    ["--logging_steps=7", "--save_total_limit=3", "--per_device_eval_batch_size=2", "--dataloader_num_workers=1"],
)
def test_options_that_do_not_affect_weights_are_accepted(finished, option):
    distill(finished, option)


def test_a_folder_of_a_version_that_recorded_less_is_refused_in_one_sentence(root):
    path = root / "run" / "baseline_seed42" / "settings.json"
    settings = json.loads(path.read_text())
    for name in ("training_rows", "evaluation_rows", "features_content", "dataloader_drop_last"):
        del settings[name]
    path.write_text(json.dumps(settings))
    with pytest.raises(SystemExit, match=r"did not record dataloader_drop_last, training_rows, .* another output_dir"):
        distill(root)


def of_rows(root: Path, **changes) -> SoftLabelTable:
    builder = kitchen_builder(root / "data")
    rows = {name: builder.rows("train")[name].to_numpy() for name in ROW_COLUMNS}
    table = SoftLabelTable.load(root / "soft.parquet")
    return SoftLabelTable(table.uids, table.logits, {**table.metadata, **changes}, rows)


def test_soft_labels_of_other_rows_are_refused(finished, tmp_path):
    table = of_rows(finished)
    table.save(tmp_path / "soft.parquet")
    loaded = SoftLabelTable.load(tmp_path / "soft.parquet")
    assert loaded.rows["video_id"].tolist() == table.rows["video_id"].tolist()
    for name, value in (("video_id", "v9"), ("start_s", 3.5), ("action", 3)):
        other = {**loaded.rows, name: loaded.rows[name].copy()}
        other[name][0] = value
        SoftLabelTable(table.uids, table.logits, table.metadata, other).save(tmp_path / "other.parquet")
        with pytest.raises(SystemExit, match=rf"of other rows: of 1 of 36 the {name} differs, 'v0_3.000' first, with"):
            distill(finished, f"--soft_labels={tmp_path / 'other.parquet'}", f"--output_dir={tmp_path / 'run'}")


def test_a_teacher_or_a_start_that_learned_from_the_evaluation_videos_is_refused(finished, tmp_path):
    of_rows(finished, videos='["v5", "v7"]').save(tmp_path / "soft.parquet")
    given = [f"--soft_labels={tmp_path / 'soft.parquet'}", f"--output_dir={tmp_path / 'run'}", "--baseline=false"]
    with pytest.raises(SystemExit, match=r"soft\.parquet learned from 'v7' and 0 more of the 2 videos to measure on"):
        distill(finished, *given)
    assert not (tmp_path / "run").exists()

    own = (finished / "data" / "run.yaml").read_text().splitlines()
    (tmp_path / "run.yaml").write_text("\n".join(line for line in own if "model_options" not in line))
    student = finished / "run" / "distilled_seed42"
    assert read_json(student / "results.json")["training_videos"] == ["v0", "v1", "v2", "v3", "v4", "v5"]
    given = [f"--features={finished / 'data' / 'features'}", f"--model_name_or_path={student}", "--distill_weight=0"]
    given += ["--num_train_epochs=0", f"--output_dir={tmp_path / 'other'}"]
    with pytest.raises(SystemExit, match=r"distilled_seed42 learned from 'v0' and 5 more of the 6 videos"):
        run_distill.main([str(tmp_path / "run.yaml"), *given, "--evaluation_split=train", "--train_split=validation"])
    run_distill.main([str(tmp_path / "run.yaml"), *given, "--evaluation_split=train"])  # of its own training rows


@pytest.mark.parametrize(("name", "value"), [("history_cutoff", "segment_start"), ("tau_a", "0.5")])
def test_another_history_is_named_and_accepted_by_an_option_alone(finished, tmp_path, name, value):
    of_rows(finished, **{name: value}).save(tmp_path / "other.parquet")
    given = [f"--soft_labels={tmp_path / 'other.parquet'}", f"--output_dir={tmp_path / 'run'}", "--baseline=false"]
    with pytest.raises(SystemExit, match=rf"have {name} {value}, not .* --accept_other_history true"):
        distill(finished, *given)
    assert not (tmp_path / "run").exists()
    distill(finished, *given, "--accept_other_history=true")
    assert (tmp_path / "run" / "distilled_seed42" / "results.json").exists()


def test_soft_labels_of_counted_rows_are_refused(finished, tmp_path):
    """Earlier versions wrote such uids for user data: with a mask, training would silently have no teacher."""
    table = SoftLabelTable.load(finished / "soft.parquet")
    uids = [f"v{row // 6}_{row % 6}" for row in range(len(table.uids))]
    SoftLabelTable(uids, table.logits, table.metadata).save(tmp_path / "old.parquet")
    for missing in ("raise", "mask"):
        with pytest.raises(SystemExit, match=r"'v0_0': export them .* user data, whose uids are now <video>_<start>"):
            distill(
                finished,
                f"--soft_labels={tmp_path / 'old.parquet'}",
                f"--output_dir={tmp_path / 'run'}",
                f"--missing_soft_labels={missing}",
            )


def test_a_video_that_the_store_lacks_is_named_before_training(root, tmp_path):
    """The video is one of the last to be read, a test video."""
    (root / "data" / "features" / "v7.safetensors").unlink()
    with pytest.raises(SystemExit, match="holds no features of video 'v7'"):
        distill(root, f"--output_dir={tmp_path / 'run'}")
    assert not list((tmp_path / "run").rglob("*.json"))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((20, 12), np.float32), "holds no feature of video 'v7' at"),
        (np.ones((40, 11), np.float32), "of video 'v7' at .* has the shape"),
    ],
    ids=["short", "narrow"],
)
def test_a_test_video_with_other_features_is_named_before_training(root, tmp_path, features, message):
    write_features(root / "data" / "features" / "v7.safetensors", features, 1.0)
    with pytest.raises(SystemExit, match=message):
        distill(root, f"--output_dir={tmp_path / 'run'}")
    assert not list((tmp_path / "run").rglob("*.json"))


def unlabelled(cells: list[str]) -> str:
    return ",".join([*cells[:3], "" if cells[4] == "validation" else cells[3], cells[4]])


def test_a_split_without_labels_is_refused_before_training(root, tmp_path):
    rewrite_segments(root, unlabelled)
    with pytest.raises(SystemExit, match="evaluation_split is 'validation', but none of its 12 rows has a label"):
        distill(root, f"--output_dir={tmp_path / 'run'}")
    given = ["--train_split=validation", "--evaluation_split=train", "--distill_weight=0"]
    with pytest.raises(SystemExit, match="train_split is 'validation', but none of its 12 rows has a label to learn"):
        distill(root, f"--output_dir={tmp_path / 'run'}", *given)
    assert not list((tmp_path / "run").rglob("*.json"))


def test_pictures_of_a_video_that_were_replaced_are_noticed(tmp_path):
    folder = write_pictures(tmp_path / "v0", numbered_frames(3))
    rows = datasets.Dataset.from_dict({"video_id": ["v0"], "video": [str(PictureFolder(str(folder), 2.0))]})
    before = _input_digest(StudentInput(None, None, {}), [rows])
    assert _input_digest(StudentInput(None, None, {}), [rows]) == before
    write_pictures(folder, numbered_frames(3)[::-1])
    assert _input_digest(StudentInput(None, None, {}), [rows]) != before
