"""A run's arguments: from its YAML file, from the command line, and refusals."""

from dataclasses import dataclass, field

import pytest
from transformers import TrainingArguments

from avt_distill.runs.arguments import CommandParser, add_dataset_position, computes_in_bfloat16, parse_run
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


def test_a_command_without_options_points_to_its_help():
    with pytest.raises(ValueError, match="run needs options: avt-distill run --help"):
        parse()


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
        ("teacher: [bert, gpt2]\n", "'teacher' 2 values, but it accepts one"),
        ("teacher: bert\nframe_rates: []\n", "'frame_rates' no values"),
    ],
)
def test_invalid_files_are_refused(run_file, content, message):
    with pytest.raises(ValueError, match=message):
        parse(run_file(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("teacher: bert\nseed: 1\nteacher: gpt2\n", r"run\.yaml, line 3, sets 'teacher' again: keep one of the two"),
        ("teacher: bert\nlr_scheduler_kwargs:\n  min_lr: 1\n  min_lr: 2\n", r"run\.yaml, line 4, sets 'min_lr' again"),
        ("teacher: bert\nlr_scheduler_kwargs: {a: {b: 1, 'b': 2}}\n", r"run\.yaml, line 2, sets 'b' again"),
        ("teacher: bert\ncross-fit: true\ncross_fit: false\n", r"run\.yaml sets 'cross_fit' with hyphens and with"),
    ],
)
def test_a_key_that_is_set_twice_is_refused(run_file, content, message):
    with pytest.raises(ValueError, match=message):
        parse(run_file(content))


def test_keys_of_a_merged_mapping_may_be_replaced(run_file):
    path = run_file(
        "teacher: bert\nuse_cpu: true\naccelerator_config: &a {split_batches: true, even_batches: true}\n"
        "lr_scheduler_kwargs: {<<: *a, split_batches: false}\n"
    )
    assert parse(path).lr_scheduler_kwargs == {"split_batches": False, "even_batches": True}


@pytest.mark.parametrize("value", ["&a {x: *a}", "&a [*a]", "{x: &a [*a]}"])
def test_a_value_that_contains_itself_is_refused_with_the_name_of_its_file(run_file, value):
    with pytest.raises(ValueError, match=r"run\.yaml gives 'lr_scheduler_kwargs' a value .*Circular reference"):
        parse(run_file(f"teacher: bert\nlr_scheduler_kwargs: {value}\n"))


def test_dates_in_mappings_are_text(run_file):
    args = parse(run_file("teacher: bert\nuse_cpu: true\nlr_scheduler_kwargs: {day: 2020-01-31}\n"))
    assert args.lr_scheduler_kwargs == {"day": "2020-01-31"}


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


def test_processes_that_do_not_form_a_group_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_processes(2)
    with pytest.raises(ValueError, match="2 processes were launched, but each runs alone"):
        check_processes(1)


def command_parser() -> CommandParser:
    parser = CommandParser(
        "watch",
        """Watches.

    avt-distill watch a.mp4 --json out.json
    """,
    )
    parser.add_argument("video")
    parser.add_argument("--model", required=True)
    parser.add_argument("--json")
    parser.add_argument("--top_k", type=int, default=5, help="how many")
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--windows_s", type=float, nargs="*", default=[])
    return parser


def test_commands_that_do_not_train_take_the_same_spellings(run_file):
    path = run_file("model: m\ntop-k: 3\nonnx: true\nwindows_s: [2, 0.5]\njson: null\n")
    args = command_parser().parse([str(path), "a.mp4", "--top-k=4"])
    assert (args.video, args.model, args.top_k, args.onnx, args.windows_s) == ("a.mp4", "m", 4, True, [2.0, 0.5])


@pytest.mark.parametrize(
    ("value", "is_set"),
    [
        *(("true", True), ("'true'", True), ("'Yes'", True), ("y", True), ("1", True), ("on", True)),
        *(("false", False), ("'false'", False), ("n", False), ("'No'", False), ("0", False), ("off", False)),
        ("null", False),
    ],
)
def test_a_flag_in_a_file_is_on_only_if_the_file_says_so(run_file, value, is_set):
    path = run_file(f"model: m\nonnx: {value}\n")
    assert command_parser().parse([str(path), "a.mp4"]).onnx is is_set


@pytest.mark.parametrize("value", ["perhaps", "2", "1.0", "''", "[true]", "{a: 1}"])
def test_other_values_of_a_flag_are_refused(run_file, value):
    path = run_file(f"model: m\nonnx: {value}\n")
    with pytest.raises(ValueError, match=r"run\.yaml sets 'onnx' to .*: give true or false\.$"):
        command_parser().parse([str(path), "a.mp4"])


def test_a_value_that_ends_like_an_option_is_a_value():
    args = command_parser().parse(["a.mp4", "--model", "o.model", "--json", "o.json"])
    assert (args.model, args.json) == ("o.model", "o.json")


def test_the_home_folder_is_not_taken_for_a_folder_of_that_name(run_file, monkeypatch):
    monkeypatch.setenv("HOME", "/home/cook")
    path = run_file("model: ~/m\njson: '~'\n")
    args = command_parser().parse([str(path), "~/a.mp4"])
    assert (args.video, args.model, args.json) == ("/home/cook/a.mp4", "/home/cook/m", "/home/cook")
    args = command_parser().parse(["a.mp4", "--model=~/m", "--json", "~/o.json"])
    assert (args.model, args.json) == ("/home/cook/m", "/home/cook/o.json")
    args = command_parser().parse(["./~/a.mp4", "--model=m~/", "--json=~cook/o.json"])
    assert (args.video, args.model, args.json) == ("./~/a.mp4", "m~/", "~cook/o.json")
    args = parse(run_file("teacher: ~/t\nreport_to: [none]\nuse_cpu: true\n"), "--output-dir=~/run")
    assert (args.teacher, args.output_dir) == ("/home/cook/t", "/home/cook/run")


def dataset_parser() -> CommandParser:
    parser = CommandParser("prepare", "Prepares.")
    add_dataset_position(parser)
    parser.add_argument("--dataset")
    parser.add_argument("--seeds", type=int, nargs="+")
    return parser


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "demo"),
        (["kitchen"], "kitchen"),
        (["kitchen", "--seeds", "1", "2"], "kitchen"),
        (["--dataset", "kitchen"], "kitchen"),
        (["--dataset=kitchen"], "kitchen"),
        (["kitchen", "--dataset", "kitchen"], "kitchen"),
    ],
)
def test_a_data_set_of_the_command_line_is_not_replaced_by_that_of_the_file(run_file, options, expected):
    path = run_file("dataset: demo\nseeds: [3]\n")
    args = dataset_parser().parse([str(path), *options])
    assert (args.dataset, "dataset_position" in args) == (expected, False)


def test_a_data_set_as_a_word_is_not_replaced_by_that_of_the_file_in_commands_that_train(run_file):
    @dataclass
    class OnDataset(RunArguments):
        dataset: str | None = None

    path = run_file("teacher: bert\ndataset: demo\nframe_rates: [2, 0.5]\nuse_cpu: true\n")
    for options, expected in (([], "demo"), (["kitchen"], "kitchen"), (["--dataset", "kitchen"], "kitchen")):
        args = parse_run(OnDataset, [str(path), *options], description="Trains.")
        assert (args.dataset, args.frame_rates) == (expected, [2.0, 0.5])


@pytest.mark.parametrize("options", [["a", "--dataset", "b"], ["a", "--dataset=b"], ["--dataset", "a", "--dataset=b"]])
def test_two_data_sets_on_the_command_line_are_refused(options):
    with pytest.raises(ValueError, match=r"^'a' and 'b' are two data sets: give one of them\.$"):
        dataset_parser().parse(options)
    with pytest.raises(ValueError, match=r"^Cannot place 'b': give only \[DATASET\] before the options"):
        dataset_parser().parse(["a", "b"])


def test_a_second_file_of_options_is_refused(run_file):
    path = str(run_file("dataset: demo\n"))
    with pytest.raises(ValueError, match=r"run\.yaml and b\.yaml are two YAML files: give one, and other options"):
        dataset_parser().parse([path, "b.yaml"])
    with pytest.raises(ValueError, match=r"^Cannot place 'b\.yaml': the run's YAML file comes first"):
        dataset_parser().parse([path, "--seeds", "1", "--dataset", "b.yaml"])


def test_a_misspelled_option_is_named_before_a_missing_one():
    with pytest.raises(ValueError, match=r"The option --modle is not known: did you mean model\?$"):
        command_parser().parse(["a.mp4", "--modle", "m"])
    with pytest.raises(ValueError, match="required: --model"):
        command_parser().parse(["a.mp4"])
    message = r"^Cannot place 'b.mp4': give only video before the options; options are written --key value\.$"
    with pytest.raises(ValueError, match=message):
        command_parser().parse(["a.mp4", "b.mp4", "--model", "m"])


def test_unknown_options_are_passed_on():
    parser = CommandParser("demo", "Shows.", passes_on=True)
    parser.add_argument("--seeds", type=int, nargs="+")
    known, rest = parser.parse_known(["--seeds", "1", "2", "--learning_rate=1e-3"])
    assert (known.seeds, rest) == ([1, 2], ["--learning_rate=1e-3"])


def test_help_keeps_examples_and_shows_defaults():
    text = command_parser().format_help()
    assert "    avt-distill watch a.mp4 --json out.json\n" in text
    assert text.startswith("usage: avt-distill watch [options.yaml] video [--option value ...]\n")
    assert "how many (default: 5)" in text


def test_help_of_training_shows_what_is_set_often_and_help_all_the_rest(capsys):
    shown = {}
    for option in ("--help", "--help_all"):
        with pytest.raises(SystemExit):
            parse(option)
        shown[option] = capsys.readouterr().out
    assert "--learning_rate X" in shown["--help"]
    assert "--adam_beta1" not in shown["--help"]
    assert "--no_shuffle" not in shown["--help"]
    assert "--adam_beta1 X" in shown["--help_all"]
    assert "this command:" in shown["--help"]
    assert shown["--help"].index("this command:") < shown["--help"].index("training:")


@pytest.mark.parametrize(("has_bfloat16", "options"), [(False, []), (True, []), (True, ["--use_cpu"])])
def test_auto_is_bfloat16_where_the_accelerator_computes_in_it(run_file, monkeypatch, has_bfloat16, options):
    for place in ("transformers.utils", "transformers.training_args"):
        monkeypatch.setattr(f"{place}.is_torch_bf16_gpu_available", lambda: has_bfloat16)
    args = parse(run_file("teacher: bert\nbf16: auto\nbf16_full_eval: Auto\n"), *options)
    expected = has_bfloat16 and not options
    assert (args.bf16, args.bf16_full_eval) == (expected, expected)
    assert parse("--teacher", "bert", "--bf16", "auto", *options).bf16 == expected
    assert not parse("--teacher", "bert", "--use_cpu", "--bf16", "false").bf16
    assert parse("--teacher", "bert", "--use_cpu", "--bf16").bf16


def test_a_gpu_that_emulates_bfloat16_does_not_count(monkeypatch):
    monkeypatch.setattr("transformers.utils.is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not computes_in_bfloat16(use_cpu=False)


def test_other_words_than_auto_are_refused():
    with pytest.raises(ValueError, match="bf16"):
        parse("--teacher", "bert", "--use_cpu", "--bf16", "perhaps")
    with pytest.raises(ValueError, match="fp16"):
        parse("--teacher", "bert", "--use_cpu", "--fp16", "auto")
