"""Invalid options of other libraries are refused by name before anything is read or trained."""

import json

import pytest
import torch
from helpers.options import ALL, parse

from avt_distill.recipes.arguments import AdaptationArguments
from avt_distill.runs.library_options import check_built
from avt_distill.student.arguments import RunArguments
from avt_distill.teacher.arguments import TeacherArguments

UNKNOWN = {"foo": 1}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_scheduler_type": "nonsense"}, "--lr_scheduler_type.* invalid choice: 'nonsense'"),
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": UNKNOWN}, "lr_scheduler_kwargs {'foo': 1}, .*'foo'"),
        (
            {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": UNKNOWN},
            "kwargs is .*'constant' takes none",
        ),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "lr_scheduler_type is 'warmup_stable_decay'.*num_decay_steps"),
        ({"lr_scheduler_kwargs": [1]}, r"lr_scheduler_kwargs is \[1\]: give names and values"),
        ({"lr_scheduler_kwargs": "foo"}, "lr_scheduler_kwargs is 'foo': give a JSON object"),
        ({"lr_scheduler_kwargs": "{"}, "lr_scheduler_kwargs is '{': give a JSON object"),
        ({"optim_args": "foo"}, "optim_args is 'foo': give name=value"),
        ({"optim_args": "foo=1"}, "optim_args has 'foo', which optim 'adamw_torch.*' does not read"),
        ({"optim": "rmsprop", "optim_args": "momentum=0.9,foo=1"}, "optim_args has 'foo', which optim 'rmsprop'"),
        ({"optim": "rmsprop", "optim_args": "momentum=x"}, "optim is 'rmsprop' with optim_args 'momentum=x'.*'x'"),
        ({"optim": "sgd", "optim_args": "momentum=-1"}, "optim is 'sgd' with optim_args 'momentum=-1'.*momentum"),
        ({"accelerator_config": UNKNOWN}, r"accelerator_config has 'foo': known are \['split_batches'"),
        (
            {"accelerator_config": {"even_batchs": True}},
            "has 'even_batchs': did you mean even_batches",
        ),
        ({"accelerator_config": {"split_batches": "x"}}, "accelerator_config.split_batches is 'x': give true or false"),
        ({"accelerator_config": {"gradient_accumulation_kwargs": UNKNOWN}}, "gradient_accumulation_kwargs has 'foo'"),
        ({"accelerator_config": "gone.json"}, "accelerator_config is 'gone.json', and there is no such file"),
        ({"accelerator_config": "{"}, "accelerator_config is '{': give a JSON object"),
        ({"fsdp": "full_shard", "fsdp_config": "gone.json"}, "fsdp_config is 'gone.json', and there is no such file"),
        ({"fsdp_config": UNKNOWN}, "fsdp_config is .* not used without fsdp"),
        ({"deepspeed": "gone.json"}, "deepspeed is 'gone.json', and there is no such file"),
        ({"deepspeed": UNKNOWN}, "deepspeed is .*, but DeepSpeed is not installed: pip install deepspeed"),
        ({"report_to": "trakio"}, "report_to has 'trakio': did you mean trackio"),
        ({"gradient_checkpointing_kwargs": UNKNOWN}, "_checkpointing_kwargs is {'foo': 1}.*'foo'"),
    ],
    ids=str,
)
def test_what_a_library_would_refuse_is_refused_by_its_option(kind, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        parse(kind, tmp_path, *(f"--{name}={text(value)}" for name, value in options.items()))


@pytest.mark.parametrize("kind", ALL)
def test_a_reporter_that_is_not_installed_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("avt_distill.runs.library_options.get_available_reporting_integrations", list)
    with pytest.raises(ValueError, match="report_to is 'trackio', which is not installed: pip install trackio"):
        parse(kind, tmp_path, "--report_to=trackio")
    assert parse(kind, tmp_path, "--report_to=none").report_to == []


def text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("given", "message"),
    [("[1]", r"accelerator_config is \[1\]: give names"), ("{", "accelerator_config is 'a.json', which is no JSON")],
)
def test_a_file_of_options_of_another_form_is_named(kind, given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text(given)
    with pytest.raises(ValueError, match=message):
        parse(kind, tmp_path, "--accelerator_config=a.json")
    (tmp_path / "a.json").write_text('{"even_batches": false}')
    assert parse(kind, tmp_path, "--accelerator_config=a.json").accelerator_config.even_batches is False


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "options",
    [
        ["--lr_scheduler_type=cosine_with_min_lr", '--lr_scheduler_kwargs={"min_lr": 1e-9}'],
        ["--lr_scheduler_type=warmup_stable_decay", '--lr_scheduler_kwargs={"num_decay_steps": 3000}'],
        ["--lr_scheduler_type=inverse_sqrt", '--lr_scheduler_kwargs={"timescale": 100}', "--warmup_steps=3"],
        ["--lr_scheduler_type=reduce_lr_on_plateau", "--eval_strategy=epoch", '--lr_scheduler_kwargs={"factor": 0.5}'],
        ["--optim=sgd", "--optim_args=momentum=0.9, nesterov=true"],
        ["--optim=adafactor"],
        ['--accelerator_config={"split_batches": "false", "gradient_accumulation_kwargs": {"sync_each_batch": true}}'],
        ["--gradient_checkpointing=true", '--gradient_checkpointing_kwargs={"use_reentrant": true}'],
    ],
    ids=str,
)
def test_what_libraries_accept_is_accepted(kind, options, tmp_path):
    parse(kind, tmp_path, *options)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("is_there", "use_cpu"), [(True, False), (True, True), (False, False)])
def test_memory_is_pinned_for_an_accelerator_alone(kind, is_there, use_cpu, tmp_path, monkeypatch):
    found = torch.device("meta") if is_there else None
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: found)
    args = parse(kind, tmp_path, f"--use_cpu={use_cpu}")
    assert args.dataloader_pin_memory == (is_there and not use_cpu)
    assert not parse(kind, tmp_path, "--dataloader_pin_memory=false").dataloader_pin_memory


def test_optimizers_of_whole_models_are_not_built_of_one_weight(tmp_path):
    args = parse(TeacherArguments, tmp_path)
    args.optim, args.optim_args = "galore_adamw", "rank=4"
    check_built(args)


def test_a_yaml_file_gives_mappings_too(tmp_path):
    for kind in (RunArguments, AdaptationArguments):
        with pytest.raises(ValueError, match=r"lr_scheduler_kwargs \{'foo': 1\}"):
            parse(kind, tmp_path, text="lr_scheduler_kwargs: {foo: 1}")
