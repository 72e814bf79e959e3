"""The anticipation curve over tau_a on 50 Salads: student, distilled student, and distilled student with a reader.

    python -m benchmarks.tau_curve runs/readers --features salads_memory --data_dir salads50 --output_dir runs/curve \\
        --taus 1 2 3 5 --seeds 0 1

The run comes from `avt-distill fit_reader configs/salads50/reader.yaml --folds all` at tau_a = 1 s. For each tau_a,
the same students are trained again in `--output_dir`, without and with soft labels (`export_soft_labels
--log_linear`, cross-fitted, from the actions that had begun by then); finished ones are kept. The readers are those
of the run: they answer at any tau_a, and are pooled with the run's weights. Points are computed on the rows that have
an observed window at all tau_a. The 95 % intervals resample whole videos, with hits averaged over seeds; those of
differences are paired.

- `student`, `distilled`: trained at each tau_a, as `distill` does.
- `trained at 1 s`: the run's student, evaluated at another tau_a than it was trained at.
- `distilled + reader`: the distilled student and the run's reader.

The features have one frame per second, and segments begin at whole seconds. Any tau_a above 0 and up to 1 s observes
the same frames, so a curve from 0.25 s on would only repeat the point at 1 s.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from avt_distill.data.collator import FeatureCollator
from avt_distill.data.loading import anticipation_builder
from avt_distill.evaluation.scores import ScoreTable
from avt_distill.evaluation.statistics import bootstrap_interval, paired_bootstrap, row_mean
from avt_distill.features.stores import open_feature_store
from avt_distill.metrics import label_ranks
from avt_distill.pictures.curve import draw_anticipation_curves
from avt_distill.reader.arguments import ReaderArguments
from avt_distill.reader.fitting import read_rows
from avt_distill.reader.frames import read_frames_of, stored_frames
from avt_distill.reader.recognition import recognized
from avt_distill.student.training import labelled
from benchmarks.horizons import SPLITS
from benchmarks.measure import add_common_arguments, describe_machine, write_result
from modeling_avt import AVTForAnticipation
from modeling_avt.reader_avt import pool

DATASET, CONFIG, RUN_TAU = "fifty_salads", "configs/salads50/reader.yaml", 1.0
STUDENT, DISTILLED, AT_ONE, READING = "student", "distilled", "trained at 1 s", "distilled + reader"


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder written by fit_reader --folds all")
    parser.add_argument("--features", required=True, help="feature store of the run")
    parser.add_argument("--data_dir", required=True, help="folder with the annotations of 50 Salads")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for students of other tau_a")
    parser.add_argument("--taus", type=float, nargs="+", default=[1.0, 2.0, 3.0, 5.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the students")
    parser.add_argument("--picture", type=Path, help="PNG file to write")
    add_common_arguments(parser, repeats=1)
    args = parser.parse_args(arguments)
    tables = {tau: pd.concat([hits_of(args, fold, tau) for fold in SPLITS[DATASET]]) for tau in args.taus}
    uids = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    result = {tau: compared(table.loc[uids]) for tau, table in tables.items()}
    text = {
        f"{tau:g} s": {
            name: f"{point['top1']:.1f} ({point['difference']:+.1f} [{point['low']:+.1f}, {point['high']:+.1f}])"
            for name, point in of_tau.items()
        }
        for tau, of_tau in result.items()
    }
    print(f"top-1 of {len(uids)} rows (difference from the student in parentheses)\n{pd.DataFrame(text).T.to_string()}")
    if args.picture is not None:
        draw(result, args.picture)
    machine = describe_machine("torch", "numpy")
    write_result({"rows": len(uids), "seeds": args.seeds, "points": result, "machine": machine}, args.output)


def compared(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Returns the top-1 of each member with its interval, and its difference from the student, in percent."""
    videos, found = table["video_id"].to_numpy(), {}
    for name in (STUDENT, DISTILLED, AT_ONE, READING):
        own = bootstrap_interval(table[[name]].to_numpy(), row_mean, groups=videos)
        paired = paired_bootstrap(table[STUDENT].to_numpy(), table[name].to_numpy(), groups=videos)
        found[name] = {
            **{"top1": 100 * own.value, "top1_low": 100 * own.low, "top1_high": 100 * own.high},
            **{"difference": 100 * paired.difference, "low": 100 * paired.low, "high": 100 * paired.high},
            "p_value": paired.p_value,
        }
    return found


def hits_of(args: argparse.Namespace, fold: str, tau: float) -> pd.DataFrame:
    """Returns, by uid, the share of seeds whose most likely action is correct, and the video of each test row."""
    folder = args.run / fold if tau == RUN_TAU else trained(args, fold, tau)
    builder = anticipation_builder(DATASET, name=fold, data_dir=args.data_dir, **times(args, fold), tau_a=tau)
    builder.download_and_prepare()
    rows = labelled(builder.as_dataset("test"))
    frame = pd.DataFrame({name: rows[name] for name in ("uid", "video_id", "observed_end_s", "action")})
    space, hits = builder.annotations.label_space, {}
    for seed in args.seeds:
        model = AVTForAnticipation.from_pretrained(args.run / fold / f"reader_seed{seed}").eval()
        of_run = AVTForAnticipation.from_pretrained(args.run / fold / f"baseline_seed{seed}").eval()
        scores = {
            name: _scores(folder / f"{variant}_seed{seed}" / "scores_test.parquet", space, frame)
            for name, variant in ((STUDENT, "baseline"), (DISTILLED, "distilled"))
        }
        scores[AT_ONE] = answers(of_run, args.features, rows)
        read = torch.from_numpy(reader_answers(model, args.features, builder, frame, tau))
        weights = model.reader.settings.fusion_weights
        scores[READING] = pool(torch.from_numpy(scores[DISTILLED]), read, weights).numpy()
        for name, of_name in scores.items():
            hits.setdefault(name, []).append(label_ranks(of_name, frame["action"].to_numpy()) < 1)
    means = {name: np.mean(of_seeds, axis=0) for name, of_seeds in hits.items()}
    print(f"{fold}, {tau:g} s: { {name: round(100 * float(of.mean()), 1) for name, of in means.items()} }", flush=True)
    return pd.DataFrame({"video_id": frame["video_id"].to_numpy(), **means}, index=frame["uid"].to_numpy())


def trained(args: argparse.Namespace, fold: str, tau: float) -> Path:
    """Returns the folder of the students of a fold and tau_a, after training those that are not finished."""
    folder = args.output_dir / f"tau{tau:g}" / fold
    of_data = ["--dataset", DATASET, "--data_dir", args.data_dir, "--config_name", fold, "--tau_a", f"{tau:g}"]
    soft = folder / "soft_labels"
    if not (soft / "train.parquet").exists():
        more = ["--log_linear", "--cross_fit", "5", "--history_length", "-1", "--soft_labels", str(soft)]
        run("export_soft_labels", *of_data, *more)
    seeds = ["--seeds", *map(str, args.seeds)]
    config = args.output_dir / "students.yaml"
    options = yaml.safe_load(Path(CONFIG).read_text(encoding="utf-8"))
    of_reader = set(ReaderArguments.__annotations__)
    kept = {name: value for name, value in options.items() if name not in of_reader}
    config.write_text(yaml.safe_dump(kept), encoding="utf-8")
    students = [str(config), *of_data, "--features", args.features, "--output_dir", str(folder)]
    run("distill", *students, "--soft_labels", str(soft / "train.parquet"), *seeds)
    return folder


def run(*words: str):
    subprocess.run([sys.executable, "-m", "avt_distill", *words], check=True, stdout=subprocess.DEVNULL)


def times(args: argparse.Namespace, fold: str) -> dict:
    """Returns the settings of the window that the run's students observe."""
    config = AVTForAnticipation.config_class.from_pretrained(args.run / fold / f"baseline_seed{args.seeds[0]}")
    return {name: getattr(config, name) for name in ("num_frames", "frame_rate", "tau_o")}


def _scores(path: Path, space, frame: pd.DataFrame) -> np.ndarray:
    table = ScoreTable.load(path, label_space=space)
    row_of = {uid: row for row, uid in enumerate(table.uids)}
    return table.scores[[row_of[uid] for uid in frame["uid"]]].astype(np.float64)


def answers(model: AVTForAnticipation, features: str, rows) -> np.ndarray:
    """Returns a student's scores of rows, at any tau_a."""
    batch = FeatureCollator(open_feature_store(features))(list(rows))
    with torch.inference_mode():
        return model(video_features=batch["video_features"], frame_mask=batch["frame_mask"]).logits.numpy()


def reader_answers(model: AVTForAnticipation, features: str, builder, frame: pd.DataFrame, tau: float) -> np.ndarray:
    """Returns the log probabilities of a checkpoint's reader at the end of each row's window, `(N, A)`."""
    source = stored_frames(open_feature_store(features), model.reader.settings.frame_rate)
    segments = builder.annotations.splits["test"]
    frames = read_frames_of(sorted(set(frame["video_id"])), source, segments, model.config.num_labels)
    return read_rows(model.reader, recognized(model, frames), frames, frame, tau)


def draw(result: dict[float, dict], path: Path):
    curves = {name: {tau: result[tau][name]["top1"] for tau in result} for name in next(iter(result.values()))}
    intervals = {
        name: {tau: (result[tau][name]["top1_low"], result[tau][name]["top1_high"]) for tau in result}
        for name in (STUDENT, READING)
    }
    title = "50 Salads: what starts tau_a seconds later? Bands: 95 % over videos"
    draw_anticipation_curves(curves, title, path, measure="top-1 accuracy in %", intervals=intervals)


if __name__ == "__main__":
    main()
