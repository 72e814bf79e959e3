"""Options that are invalid or have no effect are refused before anything is read or trained."""

import pytest
from helpers.options import ALL, parse

from avt_distill.reader.arguments import ReaderArguments
from avt_distill.recipes.arguments import AdaptationArguments
from avt_distill.student.arguments import DistillationArguments, RunArguments
from avt_distill.teacher.arguments import TeacherArguments


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: .inf", "learning_rate is inf: give a finite number"),
        ("learning_rate: -1.0e-3", "learning_rate is -0.001: give a finite number, 0 or more"),
        ("weight_decay: .nan", "weight_decay is nan: give a finite number"),
        ("max_grad_norm: -1", r"max_grad_norm is -1.0: give"),
        ("adam_beta1: 1", r"adam_beta1 is 1.0: give a finite number, 0 or more and below 1"),
        ("num_train_epochs: -2", r"num_train_epochs is -2.0: give"),
        ("num_train_epochs: 0", "num_train_epochs is 0"),
        ("max_steps: 0", "max_steps is 0: give a whole number, 1 or more"),
        ("per_device_train_batch_size: 0", "per_device_train_batch_size is 0: give a whole number"),
        ("dataloader_num_workers: -1", "dataloader_num_workers is -1: give a whole number, 0 or more"),
        ("gradient_accumulation_steps: 0", "gradient_accumulation_steps is 0: give a whole number"),
        ("seed: -1", "seed is -1: give a whole number"),
        ("lr_scheduler_kwargs: {min_lr: .nan}", "lr_scheduler_kwargs.min_lr is nan: give a finite number"),
        ("label_smoothing_factor: 0.1", "label_smoothing_factor is not used here|label smoothing is a baseline"),
        ("label_names: [labels]", "label_names is not used here"),
        ("prediction_loss_only: true", "prediction_loss_only is not used here"),
        ("do_predict: true", "do_predict is not used here"),
        ("eval_do_concat_batches: false", "eval_do_concat_batches is not used here"),
    ],
)
def test_options_invalid_for_every_trainer_are_refused(kind, text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse(kind, tmp_path, text=text)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (RunArguments, "distill_weight: .nan", "distill_weight is nan: give a finite number"),
        (RunArguments, "distill_weight: .inf", "distill_weight is inf: give a finite number"),
        (RunArguments, "distill_temperature: .inf", "distill_temperature is inf: give a finite number"),
        (RunArguments, "distill_top_k: 0", "distill_top_k is 0: give a whole number, 1 or more, or None"),
        (RunArguments, "model_options: {head_dropout: .nan}", "model_options.head_dropout is nan"),
        (RunArguments, "evaluation_crops: 2", "evaluation_crops is 2: give 1 or 3"),
        (RunArguments, "seeds: [3, 3]", r"seeds is \[3, 3\]: give each seed once"),
        (RunArguments, "seeds: [3, -3]", "seeds is -3: give a whole number"),
        (RunArguments, "resume_from_checkpoint: x", "resume_from_checkpoint is not used here"),
        (RunArguments, "remove_unused_columns: true", "remove_unused_columns is not used here"),
        (RunArguments, "average_tokens_across_devices: false", "average_tokens_across_devices is not used here"),
        (RunArguments, "train_sampling_strategy: group_by_length", "train_sampling_strategy is 'group_by_length'"),
        (RunArguments, "num_frames: 2.5", "num_frames.*2.5"),
        (ReaderArguments, "beam: 0", "beam is 0: give a whole number, 1 or more"),
        (ReaderArguments, "min_start: .nan", "min_start is nan: give a finite number"),
        (ReaderArguments, "reader_frame_rate: 0", "reader_frame_rate is 0.0: give a finite number, above 0"),
        (TeacherArguments, "classifier_learning_rate: .inf", "classifier_learning_rate is inf"),
        (TeacherArguments, "label_weights: {action: -1}", "label_weights.action is -1: give a finite number"),
        (TeacherArguments, "patience: 0", "patience is 0: give a whole number"),
        (AdaptationArguments, "head_learning_rate: .nan", "head_learning_rate is nan"),
    ],
)
def test_options_invalid_for_one_trainer_are_refused(kind, text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        parse(kind, tmp_path, text=text)


def test_a_checkpoint_may_be_measured_without_training(tmp_path):
    given = ["--num_train_epochs=0", "--model_name_or_path=x", "--distill_weight=0"]
    assert parse(RunArguments, tmp_path, *given).is_as_it_is
    assert parse(RunArguments, tmp_path, "--num_train_epochs=0", "--max_steps=3").max_steps == 3
    assert DistillationArguments(str(tmp_path), num_train_epochs=0, use_cpu=True).num_train_epochs == 0


@pytest.mark.parametrize(
    ("kind", "option", "message"),
    [
        (RunArguments, "--max_steps=3", "leaves x as it is, but max_steps 3, which trains it"),
        (RunArguments, "--distill_weight=1", "x would learn nothing from soft labels: give --distill_weight 0"),
        (ReaderArguments, "--error_rate=0.2", "no held-out answers of x, a finished checkpoint"),
    ],
)
def test_options_that_a_checkpoint_left_as_it_is_would_ignore_are_refused(kind, option, message, tmp_path):
    given = ["--num_train_epochs=0", "--model_name_or_path=x", "--distill_weight=0"]
    with pytest.raises(ValueError, match=message):
        parse(kind, tmp_path, *given, option)


def test_numbers_in_mappings_are_numbers_however_they_are_written(tmp_path):
    """YAML 1.1 reads 1e-1 as text; quoted values remain text."""
    text = "model_options: {head_dropout: 1e-1, backbone_config: {sizes: [2E3, -.5e+1], name: '1e-1'}}\nrun_name: 1e3"
    args = parse(RunArguments, tmp_path, text=text)
    assert args.model_options == {"head_dropout": 0.1, "backbone_config": {"sizes": [2000.0, -5.0], "name": "1e-1"}}
    assert args.run_name == "1e3"
    text = "label_weights: {action: 1e-1, verb: 9e-1}"
    assert parse(TeacherArguments, tmp_path, text=text).label_weights == {"action": 0.1, "verb": 0.9}
    text = "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 5e-9}\nlearning_rate: 1e-3"
    args = parse(RunArguments, tmp_path, text=text)
    assert (args.lr_scheduler_kwargs, args.learning_rate) == ({"min_lr": 5e-9}, 1e-3)
