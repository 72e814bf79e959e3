"""Recipes as examples: reading, holding out, packing and masking."""

import gzip
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from avt_distill.recipes.blocks import (
    BlockCollator,
    is_held_out,
    load_recipe_texts,
    make_blocks,
)
from avt_distill.recipes.files import read_actions
from avt_distill.teacher.action_text import ActionText
from avt_distill.teacher.language_models import encode, load_tokenizer

ROWS = [
    {"id": "pancakes", "title": "Pancakes", "actions": [["crack", "egg"], ["whisk", "egg"]]},
    {"id": "toast", "title": "Toast", "actions": []},
    {"id": 3, "title": "Soup", "actions": [["boil", ""]]},
]
TEXTS = ["crack egg, whisk egg", "boil milk", "peel carrot, cut carrot, fry carrot, serve carrot", "open fridge"] * 5


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def numbered(count, prefix="r"):
    return [{"id": f"{prefix}{i}", "actions": [["add", f"{prefix}{i}"]]} for i in range(count)]


def test_every_format_reads_the_same(tmp_path):
    expected = [("pancakes", [("crack", "egg"), ("whisk", "egg")]), ("toast", []), ("3", [("boil", "")])]
    assert list(read_actions(write_jsonl(tmp_path / "a.jsonl", ROWS))) == expected
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    assert list(read_actions(tmp_path / "a.jsonl.gz")) == expected
    table = pyarrow.Table.from_pylist([{**row, "id": str(row["id"])} for row in ROWS])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_actions(tmp_path / "a.parquet")) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no recipes"),
        ('{"id": "a", "instructions": ["Boil."]}\n', "row 1 lacks 'id' or 'actions': extract the actions"),
        ('{"id": "a", "actions": [["boil", "milk", "pan"]]}\n', r"row 1 has actions that are not \[verb, object\]"),
        ('{"id": "a", "actions": []}\n\n', "line 2 is not JSON"),
        ("[1]\n", "row 1 lacks"),
    ],
)
def test_files_without_recipes_are_refused(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        list(read_actions(tmp_path / "a.jsonl"))


def test_unreadable_files_are_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("no table")
    for name in ("a.parquet", "missing.jsonl"):
        with pytest.raises(ValueError, match="Cannot read recipes from"):
            list(read_actions(tmp_path / name))


def test_recipes_without_actions_are_counted_or_refused(tmp_path):
    rows = [*numbered(200), {"id": "empty", "actions": []}]
    assert load_recipe_texts(write_jsonl(tmp_path / "a.jsonl", rows), ActionText(), 0.1).num_without_actions == 1
    path = write_jsonl(tmp_path / "b.jsonl", [{"id": "a", "actions": []}])
    with pytest.raises(ValueError, match=r"None of the 1 recipes of .* has actions"):
        load_recipe_texts(path, ActionText(), 0.1)


def test_held_out_recipes_are_never_trained_on(tmp_path):
    rows = numbered(400)
    texts = load_recipe_texts(write_jsonl(tmp_path / "a.jsonl", rows), ActionText(), 0.1)
    assert 20 < len(texts.held_out) < 60
    assert not set(texts.train) & set(texts.held_out)
    assert len(texts.train) + len(texts.held_out) == 400

    repeated = [{**row, "id": f"again {row['id']}"} for row in rows]  # the same recipes from another site
    both = load_recipe_texts(write_jsonl(tmp_path / "b.jsonl", rows + repeated), ActionText(), 0.1)
    assert not set(both.train) & set(both.held_out)
    assert both.num_repeated > 20
    assert len(both.train) + len(both.held_out) + both.num_repeated == 800


def test_recipes_stay_held_out_when_the_file_grows(tmp_path):
    first = load_recipe_texts(write_jsonl(tmp_path / "a.jsonl", numbered(300)), ActionText(), 0.1)
    grown = numbered(300, "other") + numbered(300)[::-1]
    second = load_recipe_texts(write_jsonl(tmp_path / "b.jsonl", grown), ActionText(), 0.1)
    assert set(first.held_out) == {text for text in second.held_out if "other" not in text}
    assert all(is_held_out(f"r{i}", 0.2) for i in range(300) if is_held_out(f"r{i}", 0.1))


def test_too_few_recipes_are_refused(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", numbered(3))
    with pytest.raises(ValueError, match=r"leaves none of .*'s 3 recipes to measure perplexity on: give a larger"):
        load_recipe_texts(path, ActionText(), 1e-6)
    with pytest.raises(ValueError, match="to train on: give a smaller"):
        load_recipe_texts(path, ActionText(), 1 - 1e-6)


@pytest.mark.parametrize("block_length", [8, 13, 64, 500])
def test_packed_encoder_blocks_lose_and_repeat_no_token(tiny_encoder, block_length):
    tokenizer = load_tokenizer(tiny_encoder)
    blocks = make_blocks(tokenizer, TEXTS, block_length, causal=False)
    assert all(len(block["input_ids"]) == block_length for block in blocks[:-1])
    assert all(block["input_ids"][0] == tokenizer.cls_token_id for block in blocks)
    assert all(block["input_ids"][-1] == tokenizer.sep_token_id for block in blocks)
    inner = np.concatenate([block["input_ids"][1:-1] for block in blocks])
    expected = tokenizer(" [SEP] ".join(TEXTS), add_special_tokens=False)["input_ids"]
    np.testing.assert_array_equal(inner, expected)


@pytest.mark.parametrize("block_length", [8, 13, 64, 500])
def test_packed_decoder_blocks_predict_each_token_once(tiny_decoder, block_length):
    tokenizer = load_tokenizer(tiny_decoder)
    blocks = make_blocks(tokenizer, TEXTS, block_length, causal=True)
    assert all(len(block["input_ids"]) == block_length for block in blocks[:-1])
    end = tokenizer.eos_token
    stream = tokenizer(end + end.join(TEXTS) + end)["input_ids"]
    np.testing.assert_array_equal(np.concatenate([block["input_ids"] for block in blocks]), stream[:-1])
    np.testing.assert_array_equal(np.concatenate([block["labels"] for block in blocks]), stream[1:])


def test_decoders_with_a_token_of_their_own_to_begin_keep_it(tiny_decoder):
    tokenizer = load_tokenizer(tiny_decoder)
    tokenizer.add_special_tokens({"bos_token": "<begin>"})
    blocks = make_blocks(tokenizer, TEXTS[:2], 500, causal=True)
    begin, end = tokenizer.bos_token, tokenizer.eos_token
    stream = tokenizer(begin + TEXTS[0] + end + begin + TEXTS[1] + end)["input_ids"]
    np.testing.assert_array_equal(blocks[0]["input_ids"], stream[:-1])


@pytest.mark.parametrize("folder", ["tiny_encoder", "tiny_decoder"])
def test_recipes_that_are_not_packed_are_what_a_history_is_to_the_teacher(folder, request):
    tokenizer, causal = load_tokenizer(request.getfixturevalue(folder)), folder == "tiny_decoder"
    blocks = make_blocks(tokenizer, TEXTS, 500, causal=causal, packing=False)
    assert [block["input_ids"].tolist() for block in blocks] == encode(tokenizer, TEXTS, 500)
    assert len(make_blocks(tokenizer, TEXTS[2:3], 8, causal=causal, packing=False)) > 1


def test_the_markers_text_is_packed_too(tiny_encoder):
    tokenizer = load_tokenizer(tiny_encoder)
    text = ActionText("markers").recipe([("add", "egg"), ("stir", "dough")])
    (block,) = make_blocks(tokenizer, [text], 64, causal=False)
    assert tokenizer.decode(block["input_ids"][1:-1]).replace(" ", "") == "add<v>egg<a>stir<v>dough"


def test_masking_predicts_15_percent_and_never_special_tokens(tiny_encoder):
    tokenizer = load_tokenizer(tiny_encoder)
    blocks = make_blocks(tokenizer, TEXTS * 100, 62, causal=False)[:-1]
    blocks.append({"input_ids": blocks[0]["input_ids"][:10]})  # shorter: padded
    torch.manual_seed(0)
    batch = BlockCollator(tokenizer)(blocks)
    original = torch.tensor(np.stack([block["input_ids"] for block in blocks[:-1]])).long()
    assert batch["attention_mask"].sum() == sum(len(block["input_ids"]) for block in blocks)
    assert (batch["input_ids"][-1, 10:] == tokenizer.pad_token_id).all()
    ids, labels = batch["input_ids"][:-1], batch["labels"][:-1]
    ordinary = ~torch.isin(original, torch.tensor(tokenizer.all_special_ids))
    predicted = labels != -100
    assert not predicted[~ordinary].any()
    assert (batch["labels"][-1, 9:] == -100).all()
    assert torch.equal(labels[predicted], original[predicted])
    assert torch.equal(ids[~predicted], original[~predicted])
    assert predicted.sum() / ordinary.sum() == pytest.approx(0.15, abs=0.02)
    assert (ids[predicted] == tokenizer.mask_token_id).float().mean() == pytest.approx(0.8, abs=0.05)
    assert (ids[predicted] == original[predicted]).float().mean() == pytest.approx(0.1, abs=0.05)


def test_masks_change_in_training_and_stay_on_held_out_recipes(tiny_encoder):
    collator = BlockCollator(load_tokenizer(tiny_encoder))
    blocks = make_blocks(collator.tokenizer, TEXTS, 32, causal=False)
    assert not torch.equal(collator(blocks)["labels"], collator(blocks)["labels"])
    torch.manual_seed(1)
    first = collator(collator.mask_once(blocks))
    torch.manual_seed(2)
    second = collator(collator.mask_once(blocks))
    assert all(torch.equal(first[name], second[name]) for name in ("input_ids", "labels", "attention_mask"))
    assert (first["labels"] != -100).any()


def test_tokenizers_that_cannot_separate_recipes_are_refused(tiny_encoder, tiny_decoder):
    with pytest.raises(ValueError, match="no mask or no separator token"):
        make_blocks(load_tokenizer(tiny_decoder), TEXTS, 8, causal=False)
    with pytest.raises(ValueError, match="no end-of-text token"):
        make_blocks(load_tokenizer(tiny_encoder), TEXTS, 8, causal=True)
