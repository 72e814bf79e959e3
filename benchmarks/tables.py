"""Rebuilds the tables of measured numbers in README.md, docs/ and benchmarks/ from benchmarks/results/*.json.

    python -m benchmarks.tables             # rewrites the tables
    python -m benchmarks.tables --check     # exits with 1 if a table differs from its results
    python -m benchmarks.tables --add demo_students demo_run/students/comparison.json --command "avt-distill demo"

A table is the text between `<!-- table: NAME ARGUMENTS -->` and `<!-- end of table -->`. NAME is the name of a
function in this module that returns the rows. Each result is the JSON file written by a command, with the command and
the commit that it ran at. Older results, `transcribed_from` the header of a configuration, hold only the numbers of
the tables.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from avt_distill.runs.folder import read_record, write_json, write_text
from avt_distill.runs.names import without_local_paths

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DOCUMENTS = (
    "README.md",
    "docs/choose.md",
    "docs/student.md",
    "docs/reader.md",
    "benchmarks/README.md",
    "benchmarks/words/README.md",
)
TABLE = re.compile(r"(<!-- table: ([^>]*?) -->\n\n)(.*?)(\n\n<!-- end of table -->)", re.DOTALL)
MEASURES = {"top1": 1, "top5": 1, "class_mean_top5": 1, "log_loss": 3}  # measures and their numbers of decimal places
NAMES = {"top1": "top-1", "top5": "top-5", "class_mean_top5": "class-mean top-5", "log_loss": "log loss"}
TEXT_FREE, READING, CEILING = "student + probe", "student + reader, log-linear", "true history"
MEMORY = "class scores of a recognizer, with memory"
# Results on distilled students of each data set, and how tables name it.
STUDENTS = {
    "fifty_salads_students": "50 Salads, 17 actions, real frames",
    "fifty_salads_all": "50 Salads, 17 actions, real frames",
    "breakfast_students": "Breakfast, 48",
    "egtea_few": "EGTEA Gaze+, 106",
    "egtea_students": "EGTEA Gaze+, 106",
    "epic_kitchens_55_few": "EPIC-Kitchens-55, 2,513",
    "epic_kitchens_55": "EPIC-Kitchens-55, 2,513",
}
Rows = list[Sequence[str]]


def main(arguments: list[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    parser.add_argument("--add", nargs=2, metavar=("NAME", "JSON"), help="result to add before the tables are rebuilt")
    parser.add_argument("--command", help="command that wrote the result")
    parser.add_argument("--commit", help="commit that the command ran at (default: the one checked out)")
    args = parser.parse_args(arguments)
    if args.add is not None:
        if args.command is None:
            parser.error("--add needs --command, so that others can reproduce the result.")
        add(args.add[0], Path(args.add[1]), args.command, args.commit or checked_out())
    outdated = [name for name in DOCUMENTS if rebuild(ROOT / name, should_write=not args.check)]
    if outdated and args.check:
        sys.exit(
            f"error: {', '.join(outdated)}: tables differ from benchmarks/results. Run python -m benchmarks.tables."
        )


def add(name: str, path: Path, command: str, commit: str):
    """Saves a result without local paths, with its command and the commit that it ran at."""
    found = without_local_paths(read_record(path))
    write_json(RESULTS / f"{name}.json", {"command": command, "commit": commit, "result": found})


def checked_out() -> str:
    """Returns the short hash of the commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout.strip()


def result(name: str) -> dict:
    """Returns the saved result with a given name."""
    return read_record(RESULTS / f"{name}.json", "command", "commit", "result")["result"]


def rebuild(path: Path, *, should_write: bool = True) -> bool:
    """Rebuilds the tables of a document and returns whether it was out of date."""
    text = path.read_text(encoding="utf-8")
    found = TABLE.sub(lambda match: match[1] + markdown(match[2]) + match[4], text)
    if should_write and found != text:
        write_text(path, found)
    return found != text


def markdown(given: str) -> str:
    """Returns a table in Markdown, given its name and arguments, such as `"words true log_loss breakfast"`."""
    name, *arguments = given.split()
    if name not in TABLES:
        raise ValueError(f"'{name}' is not a table: give one of {', '.join(TABLES)}.")
    head, *rows = TABLES[name](*arguments)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def difference(found: dict, digits: int = 1, *, bold: bool = False) -> str:
    """Returns a difference with its interval as text, with `bold` in bold if the interval excludes zero."""
    number = f"{found['difference']:+.{digits}f}"
    number = f"**{number}**" if bold and (found["low"] > 0 or found["high"] < 0) else number
    return f"{number} [{found['low']:+.{digits}f}, {found['high']:+.{digits}f}]"


def results() -> Rows:
    """Returns the README's table of top-1 accuracies without and with text."""
    rows: Rows = [("data", "compared", "top-1", "difference", "config")]
    config = "`configs/salads50/{}.yaml`"
    found = result("salads50_students")
    of = _of(found, "50 Salads, 5 folds, {} seeds, {} rows")
    rows.append((of, "student, distilled", *_top1(found), config.format("student")))
    for name, of, where in (
        ("salads50_reader", "50 Salads, students that start from a probe", config.format("reader")),
        ("salads50_reader_two", "the same, two recognizers", "the same"),
    ):
        found = result(name)
        values = ", ".join(f"{found['metrics'][member]['top-1']:.1f}" for member in (TEXT_FREE, READING))
        gain = found["comparisons"][READING]
        gain = difference({"difference": gain["difference"], **gain["over_videos"]})
        rows.append((of, f"{TEXT_FREE}, {_short(READING)}", values, gain, where))
    rows.append(_simulated("words_breakfast_students", "383", "Breakfast, SIMULATED recognizer, {} seeds, 612 rows"))
    rows.append(_simulated("words_egtea_students", "86", "EGTEA Gaze+, SIMULATED recognizer, {} seeds, 2,022 rows"))
    rows.append(
        _simulated("words_epic_kitchens_55", "232", "EPIC-Kitchens-55, SIMULATED recognizer, {} seeds, 4,970 rows")
    )
    found = result("demo_students")
    of = _of(found, "demo kitchen, {} seeds, {} rows")
    rows.append((of, "student, distilled", *_top1(found), "`configs/demo/student.yaml`"))
    return rows


def distilled() -> Rows:
    """Returns the table of gains in top-1 accuracy of students with soft labels."""
    rows: Rows = [("data", "input", "baseline", "distilled", "difference", "config")]
    for name, of, given, config in (
        ("demo_students", "demo kitchen, {} seeds, {} test rows", "2 s of video", "demo"),
        ("salads50_students", "50 Salads, five folds, {} seeds, {} test rows", MEMORY, "salads50"),
        ("salads50_students_paper", "the same, teacher of the paper's recipe", "the same", "salads50"),
    ):
        found = result(name)
        values, gain = _top1(found)
        rows.append((_of(found, of), given, *values.split(", "), gain, f"`configs/{config}/student.yaml`"))
    return rows


def read() -> Rows:
    """Returns the table of top-1 / top-5 accuracies of students and readers of 50 Salads, by use of text."""
    rows: Rows = [("", "text", "one recognizer", "two recognizers")]
    for member, name, use in (
        ("student", "student", ""),
        ("distilled", "distilled", "*distilled*"),
        (TEXT_FREE, TEXT_FREE, ""),
        ("student + reader, bigram", "student + reader of the last action (bigram)", "*read*"),
        (READING, "**student + reader** (log-linear)", "*read*"),
        (CEILING, "a text model on annotated histories", "*true history*"),
    ):
        metrics = [result(one)["metrics"][member] for one in ("salads50_reader", "salads50_reader_two")]
        rows.append((name, use, *(f"{one['top-1']:.1f} / {one['top-5']:.1f}" for one in metrics)))
    return rows


def _simulated(name: str, count: str, of: str) -> Sequence[str]:
    """Returns the row of students on a simulated recognizer, whose teacher is the mixture of counts."""
    found = result(name)["parts"]["student"][count]
    baseline, candidate = found["no teacher"], found["counts"]
    gain = difference(candidate["to"]["no teacher"]["top1"])
    of = of.format(baseline["draws"])
    return of, "student, distilled", f"{baseline['top1']:.1f}, {candidate['top1']:.1f}", gain, "`benchmarks/words`"


def _short(member: str) -> str:
    return member.removesuffix(", log-linear")


def _of(found: dict, text: str) -> str:
    num_seeds = found.get("num_seeds") or len(found["rows"][0]["baseline_by_seed"])
    return text.format(num_seeds, found["num_rows"])


def _top1(found: dict) -> tuple[str, str]:
    top1 = next(row for row in found["rows"] if row["measure"] == "action top-1 accuracy")
    return f"{top1['baseline']:.1f}, {top1['candidate']:.1f}", difference(top1)


def words(part: str, measure: str, name: str, *model: str) -> Rows:
    """Returns a measure of each model by number of training videos, and the differences of one from the others.

    Args:
        part, measure, name (`str`): Part of the result, measure, and name of the result.
        model (`str`): The words of the model's name. Default: vectors.
    """
    found, digits = result(f"words_{name}")["parts"][part], MEASURES[measure]
    model = " ".join(model) or "vectors"
    control = next(other for of_count in found.values() for other in of_count[model]["to"] if "scrambled" in other)
    compared = {"no teacher": "no teacher", "counts": "counts", control: "scrambled"}
    order = ("no teacher", "label smoothing", "counts", control, f"{model}, random weights", model)
    models = [one for one in order if any(one in of_count for of_count in found.values())]
    columns = {other: short for other, short in compared.items() if other in models}
    rows: Rows = [("training videos", *models, *(f"{model} to {short}" for short in columns.values()))]
    for count, of_count in sorted(found.items(), key=lambda item: int(item[0])):
        values = [f"{of_count[one][measure]:.{digits}f}" if one in of_count else "" for one in models]
        to = [of_count[model]["to"][other][measure] for other in columns]
        rows.append((count, *values, *(difference(one, digits, bold=True) for one in to)))
    return rows


def teachers(count: str, name: str) -> Rows:
    """Returns the measures of students of each teacher, with differences from no teacher and from label smoothing."""
    found = result(f"words_{name}")["parts"]["student"][count]
    compared = {"no teacher": ("top1", "top5", "class_mean_top5"), "label smoothing": ("top1", "class_mean_top5")}
    columns = [(other, measure) for other, measures in compared.items() for measure in measures]
    rows: Rows = [("teacher", *NAMES.values(), *(f"{NAMES[measure]}, to {other}" for other, measure in columns))]
    for model, of_model in found.items():
        values = [f"{of_model[measure]:.{digits}f}" for measure, digits in MEASURES.items()]
        to = of_model.get("to", {}) if model not in compared else {}
        rows.append(
            (model, *values, *(difference(to[other][one], bold=True) if other in to else "" for other, one in columns))
        )
    return rows


def gains(measure: str) -> Rows:
    """Returns a measure of students without a teacher, taught by counts, and by words, on all data sets."""
    rows: Rows = [("data", "videos", "no teacher", "counts, to no teacher", "words, to counts", "words to scrambled")]
    digits = MEASURES[measure]
    for name, of in STUDENTS.items():
        for count, found in sorted(result(f"words_{name}")["parts"]["student"].items(), key=lambda item: int(item[0])):
            values = [f"{found[model][measure]:.{digits}f}" for model in ("no teacher", "counts", "vectors")]
            compared = (("counts", "no teacher"), ("vectors", "counts"), ("vectors", "vectors, scrambled"))
            to = [difference(found[model]["to"][other][measure], digits, bold=True) for model, other in compared]
            rows.append((of, count, values[0], f"{values[1]}, {to[0]}", f"{values[2]}, {to[1]}", to[2]))
    return rows


def sequences(name: str) -> Rows:
    """Returns the edit distances of predicted sequences of next actions, averaged over splits."""
    found = result(name)["sequences"]["splits"]
    models = next(iter(found.values()))
    kinds = ("likeliest", "samples")
    rows: Rows = [("", *kinds)]
    for model in models:
        of_splits = {kind: [of_split[model].get(kind) for of_split in found.values()] for kind in kinds}
        means = [sum(values) / len(values) if None not in values else None for values in of_splits.values()]
        rows.append((model, *("-" if mean is None else f"{mean:.3f}" for mean in means)))
    return rows


def promised(name: str) -> Rows:
    """Returns the shares of answers and errors of a calibrated student and its reader, by target error rate."""
    found = result(name)["calibration"]
    rows: Rows = [("", "target error rate", "answered", "wrong among them", "calibration error")]
    for member, of_member in found.items():
        wrong = "{error:.1f} % [{low:.1f}, {high:.1f}]".format(**of_member)
        gap = f"{of_member['after']['expected_calibration_error']:.1f} %"
        target, answered = f"{of_member['error_rate']:g} %", f"{of_member['coverage']:.1f} %"
        rows.append((_short(member), target, answered, wrong, gap))
    return rows


TABLES: dict[str, Callable[..., Rows]] = {
    "results": results,
    "distilled": distilled,
    "read": read,
    "words": words,
    "teachers": teachers,
    "gains": gains,
    "sequences": sequences,
    "promised": promised,
}


if __name__ == "__main__":
    main()
