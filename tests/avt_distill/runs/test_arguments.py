"""A run's arguments: from its YAML file, from the command line, and what is refused."""

from dataclasses import dataclass, field

import pytest
from transformers import TrainingArguments

from avt_distill.runs.arguments import parse_run
from avt_distill.runs.folder import check_processes


@dataclass
class RunArguments(TrainingArguments):
    teacher: str = field(kw_only=True, metadata={"help": "Writes soft labels."})
    cross_fit: bool = False
    shuffle: bool = True
    frame_rates: list[float] = field(default_factory=lambda: [1.0])
    dropout: float | None = None


def parse(*argv):
    return parse_run(RunArguments, [str(argument) for argument in argv], description="Trains.")


@pytest.fixture
def run_file(tmp_path):
    def write(content):
        path = tmp_path / "run.yaml"
        path.write_text(content)
        return path

    return write


def test_files_and_options_go_through_one_parser(run_file):
    args = parse(
        run_file(
            "teacher: bert\nlearning_rate: 1e-3\ncross-fit: true\nshuffle: false\nframe_rates: [2, 0.5]\n"
            "use_cpu: true\ndropout: null\nmax_steps: -1\nreport_to: [none]\nlr_scheduler_kwargs: {min_lr: 1.0e-6}\n"
            "seed: 3\n"
        )
    )
    assert (args.teacher, args.learning_rate, args.cross_fit, args.shuffle) == ("bert", 1e-3, True, False)
    assert (args.frame_rates, args.dropout, args.max_steps, args.seed) == ([2.0, 0.5], None, -1, 3)
    assert (args.report_to, args.lr_scheduler_kwargs) == ([], {"min_lr": 1e-6})


def test_the_command_line_wins(run_file):
    path = run_file("teacher: bert\nlearning_rate: 1e-3\ncross_fit: true\nframe_rates: [2, 0.5]\nuse_cpu: true\n")
    args = parse(path, "--learning-rate", "2e-4", "--cross_fit", "false", "--frame_rates", 4, 8, 16, "--teacher=gpt2")
    assert (args.learning_rate, args.cross_fit, args.frame_rates, args.teacher) == (2e-4, False, [4, 8, 16], "gpt2")
    for spelling in ("--cross_fit", "--cross-fit"):
        assert parse("--teacher", "bert", "--use_cpu", spelling).cross_fit


def test_unknown_keys_are_named_with_the_closest(run_file):
    with pytest.raises(ValueError, match=r"run.yaml sets 'learning_rte', .* did you mean learning_rate"):
        parse(run_file("teacher: bert\nlearning_rte: 1\n"))
    with pytest.raises(ValueError, match=r"option --crossfit is not known: did you mean cross_fit"):
        parse("--teacher", "bert", "--crossfit", "true")
    with pytest.raises(ValueError, match=r"option --learning_r is not known"):  # argparse would complete it
        parse("--teacher", "bert", "--learning_r", "1")
    with pytest.raises(ValueError, match=r"sets 'True', which is not known"):  # YAML reads `on` as true
        parse(run_file("on: 1\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b\n", "holds a list"),
        ("teacher: [bert\n", "is not YAML"),
        ("teacher: bert\nlearning_rate: fast\n", "learning_rate.*invalid float value: 'fast'"),
        ("learning_rate: 1\n", "required: --teacher"),
        ("teacher: [bert, gpt2]\n", "'teacher' 2 values: it takes one"),
        ("teacher: bert\nframe_rates: []\n", "'frame_rates' no values"),
    ],
)
def test_files_that_cannot_be_meant_are_refused(run_file, content, message):
    with pytest.raises(ValueError, match=message):
        parse(run_file(content))


def test_files_that_are_missing_or_misplaced_are_refused(run_file):
    with pytest.raises(ValueError, match=r"Cannot read the run's file missing\.yaml"):
        parse("missing.yaml")
    path = run_file("teacher: bert\n")
    with pytest.raises(ValueError, match=r"Cannot place '.*run.yaml': the run's YAML file comes first"):
        parse("--use_cpu", "true", path, "--teacher", "bert")


def test_empty_files_and_help(run_file, capsys):
    assert parse(run_file("# nothing\n"), "--teacher", "bert", "--use_cpu").teacher == "bert"
    with pytest.raises(SystemExit):
        parse("--help")
    assert "Writes soft labels." in capsys.readouterr().out


def test_processes_that_stay_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(2)
    with pytest.raises(ValueError, match="2 processes were launched, but each runs alone"):
        check_processes(1)
