"""Every command refuses incomplete checkpoints: of students, teachers, backbones, language models, tokenizers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import added, change_weights, cut_off, prefixed, without
from helpers.commands import run_command
from helpers.readers import reading_model
from helpers.tiny_models import tiny_config, tiny_model, tiny_processor, tiny_vit_config
from tiny_kitchen import ACTIONS, kitchen_builder, write_kitchen, write_tiny_vit
from transformers import AutoModelForMaskedLM, BertTokenizer, ViTForMaskedImageModeling

from avt_distill.features.backbones import load_backbone
from avt_distill.recipes.adaptation import load_masked_or_causal_model
from avt_distill.student.arguments import StudentArguments
from avt_distill.student.building import build_student, student_input
from avt_distill.teacher.fine_tuning import HistoryRule
from avt_distill.teacher.language_models import load_text_backbone, load_tokenizer
from avt_distill.teacher.modeling_teacher import TextTeacher, TextTeacherConfig
from avt_distill.teacher.prediction import TeacherScorer
from modeling_avt import AVTForAnticipation

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Path:
    return write_kitchen(tmp_path_factory.mktemp("kitchen") / "data")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, kitchen, language_models) -> dict[str, Path]:
    """Folders of complete checkpoints of each kind."""
    root, names = tmp_path_factory.mktemp("whole"), dict(enumerate(ACTIONS))
    folders = {name: root / name for name in ("student", "seeing", "teacher", "vit")}
    tiny_model(tiny_config(id2label=names)).save_pretrained(folders["student"])
    tiny_model(tiny_vit_config()).save_pretrained(folders["seeing"])
    tiny_processor().save_pretrained(folders["seeing"])
    write_tiny_vit(folders["vit"])
    space, rule = kitchen_builder(kitchen).annotations.label_space, HistoryRule()
    config = TextTeacherConfig(
        backbone_config=load_text_backbone(language_models["bert"]).config,
        id2label=names,
        action_texts=[name.replace("_", " ") for name in ACTIONS],
        label_space_hash=space.content_hash,
        history_cutoff=rule.history_cutoff,
    )
    torch.manual_seed(0)
    TextTeacher(config).save_pretrained(folders["teacher"])
    load_tokenizer(language_models["bert"]).save_pretrained(folders["teacher"])
    for name in ("student", "teacher"):
        (folders[name] / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    return {**folders, **language_models}


@pytest.fixture
def copy_of(whole, tmp_path):
    """Returns a function that copies a complete checkpoint, to be damaged."""

    def copied(name: str) -> Path:
        shutil.copytree(whole[name], tmp_path / name)
        return tmp_path / name

    return copied


def command(name: str, folder: Path, kitchen: Path, output: Path, video: Path) -> list:
    """Returns a command that reads a checkpoint."""
    data = ["--dataset", kitchen, "--cache_dir", kitchen / "cache", "--use_cpu", "true"]
    run = [kitchen / "run.yaml", "--features", kitchen / "features", "--output_dir", output, "--distill_weight", "0"]
    return {
        "anticipate": [video, "--model", folder],
        "distill": [*run, "--model_options", "{}", "--model_name_or_path", folder],
        "export_model": [folder, output],
        "export_soft_labels": [*data, "--teachers", folder, "--soft_labels", output],
        "zero-shot": [*data, "--zero_shot", folder, "--soft_labels", output],
        "extract_features": [folder, video, "--output", output, "--cpu", "--num_workers", "0"],
        "finetune_teacher": [*data, "--model_name_or_path", folder, "--output_dir", output],
        "fit_reader": [folder, kitchen / "run.yaml", "--features", kitchen / "features", "--output_dir", output],
        "push_to_hub": [folder, "user/name"],
    }[name]


@pytest.mark.parametrize(
    ("name", "kind", "gone"),
    [
        ("anticipate", "seeing", "classifiers."),
        ("anticipate", "seeing", "avt.backbone."),
        ("distill", "student", "classifiers."),
        ("export_model", "student", "avt.head.h.1."),
        ("export_soft_labels", "teacher", "classifiers."),
        ("export_soft_labels", "teacher", "backbone."),
        ("zero-shot", "gpt2", "transformer.h.1."),
        ("extract_features", "vit", "encoder.layer.1."),
        ("finetune_teacher", "bert", "encoder.layer.1."),
        ("fit_reader", "student", "avt.encoder."),
        ("push_to_hub", "student", "classifiers."),
        ("push_to_hub", "teacher", "classifiers."),
    ],
)
def test_commands_refuse_checkpoints_that_lack_weights(name, kind, gone, copy_of, kitchen, video, tmp_path):
    folder = change_weights(copy_of(kind), without(gone))
    words = command(name, folder, kitchen, tmp_path / "out", video)
    result = run_command("export_soft_labels" if name == "zero-shot" else name, *words)
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"error: '{folder}' lacks ")
    assert "which would be random" in error


@pytest.mark.parametrize("name", ["export_soft_labels", "finetune_teacher", "push_to_hub"])
def test_commands_refuse_a_teacher_without_its_tokenizer_files(name, copy_of, kitchen, video, tmp_path):
    folder = copy_of("bert" if name == "finetune_teacher" else "teacher")
    for file in TOKENIZER_FILES:
        (folder / file).unlink()
    change_weights(folder, without("encoder.", "backbone."))  # the tokenizer is checked before the weights
    result = run_command(name, *command(name, folder, kitchen, tmp_path / "out", video))
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"error: '{folder}' has no tokenizer: there is no tokenizer.json")


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "gpt2", "llama"])
@pytest.mark.parametrize("files", [TOKENIZER_FILES, TOKENIZER_FILES[:1]])
def test_missing_tokenizer_files_are_named(kind, files, copy_of):
    folder = copy_of(kind)
    load_tokenizer(folder)
    for file in files:
        (folder / file).unlink()
    with pytest.raises(ValueError, match=rf"'{folder}' has no tokenizer: there is no tokenizer\.json.*copy the token"):
        load_tokenizer(folder)


def test_a_damaged_tokenizer_file_is_named(copy_of):
    folder = cut_off(copy_of("bert"), name="tokenizer.json")
    with pytest.raises(ValueError, match=rf"tokenizer of '{folder}' cannot be read: tokenizer\.json is damaged"):
        load_tokenizer(folder)


def test_vocabularies_of_the_older_form_are_whole_with_all_of_their_files(copy_of):
    folder = copy_of("bert")
    words = sorted(load_tokenizer(folder).get_vocab())
    for file in TOKENIZER_FILES:
        (folder / file).unlink()
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, BertTokenizer)
    assert tokenizer.convert_ids_to_tokens(tokenizer("take egg")["input_ids"])[1:3] == ["take", "egg"]


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_half_of_an_older_vocabulary_is_refused(kind, copy_of):
    folder = copy_of(kind)
    for file in TOKENIZER_FILES:
        (folder / file).unlink()
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>", "t", "a", "k", "e", "ta", "ke", "take"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    with pytest.raises(ValueError, match=r"has no tokenizer: there is no tokenizer\.json"):
        load_tokenizer(folder)
    (folder / "merges.txt").write_text("#version: 0.2\nt a\nk e\nta ke\n")
    assert load_tokenizer(folder).tokenize("take") == ["take"]


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["teacher", "bert", "gpt2", "vit"])
def test_a_file_that_was_cut_off_is_named(kind, share, copy_of):
    load = {"teacher": TeacherScorer.from_pretrained, "vit": load_backbone}.get(kind, load_text_backbone)
    folder = cut_off(copy_of(kind), share)
    with pytest.raises(OSError, match=r"cannot be read \(model\.safetensors: "):
        load(folder)


def test_a_teacher_is_refused_wherever_it_is_loaded(copy_of):
    folder = change_weights(copy_of("teacher"), without("classifiers."))
    with pytest.raises(ValueError, match=r"lacks 2 weights of TextTeacher \['classifiers\.action\.bias', 'classifiers"):
        TextTeacher.from_pretrained(folder)
    with pytest.raises(ValueError, match=r"lacks 2 weights of TextTeacher, such as 'classifiers\.action\.bias'"):
        TeacherScorer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (prefixed("module."), "saved from DistributedDataParallel"),
        (added({"backbone.encoder.layer.7.output.dense.weight": torch.zeros(2, 2)}), "does not have"),
        (added({"classifiers.verb.weight": torch.zeros(2, 2)}), "does not have"),
        (lambda weights: {name: value * np.nan for name, value in weights.items()}, "of '.*teacher' holds nan"),
    ],
)
def test_teachers_with_other_weights_are_refused(change, message, copy_of):
    with pytest.raises(ValueError, match=message):
        TeacherScorer.from_pretrained(change_weights(copy_of("teacher"), change))


def test_folders_that_are_not_teachers_are_refused(whole):
    with pytest.raises(ValueError, match="The checkpoint is of type 'bert', not 'text_teacher'"):
        TeacherScorer.from_pretrained(whole["bert"])


def test_a_teacher_whose_logits_overflow_gives_none(whole):
    teacher = TeacherScorer.from_pretrained(whole["teacher"])
    assert np.isfinite(teacher.logits([[0, 1]])).all()
    teacher.model.classifiers["action"].weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match="scores are not finite"):
        teacher.logits([[0, 1]])


def test_heads_of_language_models_are_dropped_or_newly_initialized(copy_of, tmp_path):
    folder = copy_of("bert")  # without a head
    _, new = load_masked_or_causal_model(folder)
    assert new
    assert all(name.startswith("cls.") for name in new)
    AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(tmp_path / "headed")
    load_text_backbone(tmp_path / "headed")
    change_weights(tmp_path / "headed", added({"bert.pooler.dense.weight": torch.zeros(2, 2)}))
    change_weights(tmp_path / "headed", added({"cls.seq_relationship.weight": torch.zeros(2, 32)}))
    load_text_backbone(tmp_path / "headed")
    assert load_masked_or_causal_model(tmp_path / "headed")[1] == []
    change_weights(tmp_path / "headed", added({"bert.encoder.layer.2.output.dense.weight": torch.zeros(2, 2)}))
    for load in (load_text_backbone, load_masked_or_causal_model):
        with pytest.raises(ValueError, match=r"holds 1 weight that Bert\w+ does not have, such as 'bert\.encoder"):
            load(tmp_path / "headed")


def test_what_pretraining_alone_uses_of_an_image_model_is_left_out(whole, tmp_path):
    config = load_backbone(whole["vit"]).config
    ViTForMaskedImageModeling(config).save_pretrained(tmp_path)
    load_backbone(tmp_path)
    change_weights(tmp_path, added({"vit.encoder.layer.2.output.dense.weight": torch.zeros(2, 2)}))
    with pytest.raises(ValueError, match="does not have, such as"):
        load_backbone(tmp_path)


def test_a_student_of_other_labels_keeps_all_other_weights_of_a_checkpoint(kitchen, tmp_path):
    reading_model().save_pretrained(tmp_path / "other")  # has three actions and a reader
    args = StudentArguments(model_name_or_path=str(tmp_path / "other"), features=str(kitchen / "features"))
    builder = kitchen_builder(kitchen)
    student = build_student(args, builder, student_input(args, builder))
    before = AVTForAnticipation.from_pretrained(tmp_path / "other")
    assert student.reader is None
    assert student.classifiers["action"].out_features == len(ACTIONS)
    assert student.avt.encoder.weight.equal(before.avt.encoder.weight)
    narrow = {"avt.encoder.weight": torch.zeros(32, 7)}
    change_weights(tmp_path / "other", added(narrow))  # its configuration has 12
    with pytest.raises(ValueError, match=r"lacks 1 weight of AVTForAnticipation, such as 'avt\.encoder\.weight'"):
        build_student(args, builder, student_input(args, builder))
