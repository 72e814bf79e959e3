"""Extracting recipe actions from the command line, including after interruptions."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.commands import avt_distill

from avt_distill.recipes import extraction

pytest.importorskip("spacy", reason="needs the extra [recipes]")

RECIPES = [
    {"id": "a", "title": "Soup", "instructions": ["Chop the onions. Boil water.", "Add the onions to the water."]},
    {"id": "b", "title": "", "instructions": ["Serve."]},
    {"id": "c", "title": "Pie", "instructions": ["Preheat oven."]},
]
ACTIONS = [[["chop", "onion"], ["boil", "water"], ["add", "onion"]], [], [["preheat", "oven"]]]


@pytest.fixture(scope="module")
def parser():
    return extraction.load_parser()


@pytest.fixture(autouse=True)
def loaded_once(parser, monkeypatch):
    monkeypatch.setattr(extraction, "load_parser", lambda name: parser)


def write_lines(path: Path, recipes: list[dict]) -> Path:
    path.write_text("".join(json.dumps(recipe) + "\n" for recipe in recipes))
    return path


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_and_summary(tmp_path, capsys):
    avt_distill(
        "extract_recipe_actions", str(write_lines(tmp_path / "r.jsonl", RECIPES)), "--output", str(tmp_path / "a.jsonl")
    )
    assert [row["actions"] for row in read_lines(tmp_path / "a.jsonl")] == ACTIONS
    assert [(row["id"], row["title"]) for row in read_lines(tmp_path / "a.jsonl")] == [
        ("a", "Soup"),
        ("b", ""),
        ("c", "Pie"),
    ]
    printed = capsys.readouterr().out
    assert "recipes: 3, of which without an action: 1;" in printed
    assert "actions: 4, 1.3 a recipe; 4 different" in printed
    assert "chop onion 1" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"r.jsonl", "a.jsonl"}


def test_input_formats_are_detected_and_parquet_holds_the_same_rows(tmp_path):
    lines = write_lines(tmp_path / "r.jsonl", RECIPES).read_bytes()
    (tmp_path / "lines").write_bytes(gzip.compress(lines))
    layer1 = [{**recipe, "instructions": [{"text": text} for text in recipe["instructions"]]} for recipe in RECIPES]
    (tmp_path / "layer1.json").write_text(json.dumps(layer1, indent=1))
    for name in ("lines", "layer1.json"):
        avt_distill("extract_recipe_actions", str(tmp_path / name), "--output", str(tmp_path / f"{name}.parquet"))
        table = pq.read_table(tmp_path / f"{name}.parquet").to_pylist()
        assert [row["actions"] for row in table] == ACTIONS
        assert [row["id"] for row in table] == ["a", "b", "c"]
        assert not list(tmp_path.glob("*.unfinished*"))


def test_several_processes_write_the_same(tmp_path):
    recipes = write_lines(tmp_path / "r.jsonl", RECIPES)
    avt_distill("extract_recipe_actions", str(recipes), "--output", str(tmp_path / "a.jsonl"), "--num_proc", "2")
    assert [row["actions"] for row in read_lines(tmp_path / "a.jsonl")] == ACTIONS


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_file(tmp_path):
    many = [
        {**RECIPES[number % 3], "id": str(number), "title": "cr\N{LATIN SMALL LETTER E WITH GRAVE}me"}
        for number in range(450)
    ]
    arguments = [str(write_lines(tmp_path / "r.jsonl", many)), "--output"]
    avt_distill("extract_recipe_actions", *arguments, str(tmp_path / "undisturbed.jsonl"))
    output, unfinished = tmp_path / "a.jsonl", tmp_path / "a.jsonl.unfinished"
    command = [sys.executable, "-m", "avt_distill", "extract_recipe_actions", *arguments, str(output)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not (unfinished.exists() and unfinished.stat().st_size):
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = unfinished.read_text().count("\n")
    assert 0 < kept < 450
    assert not output.exists()
    with open(unfinished, "a") as file:
        file.write('{"id": "half a li')
    inode = unfinished.stat().st_ino
    avt_distill("extract_recipe_actions", *arguments, str(output))
    assert output.stat().st_ino == inode  # the existing file was appended to
    assert output.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()


def test_another_input_or_parser_does_not_continue(tmp_path, parser, monkeypatch):
    recipes = write_lines(tmp_path / "r.jsonl", RECIPES)
    arguments = [str(recipes), "--output", str(tmp_path / "a.parquet")]
    monkeypatch.setattr(extraction, "_finish", lambda *_: sys.exit("stopped"))
    with pytest.raises(SystemExit, match="stopped"):
        avt_distill("extract_recipe_actions", *arguments)
    write_lines(recipes, RECIPES[:2])
    with pytest.raises(SystemExit, match=r"^error: .*a.parquet.unfinished was begun with other recipes \("):
        avt_distill("extract_recipe_actions", *arguments)
    write_lines(recipes, RECIPES)
    monkeypatch.setitem(parser.meta, "version", "0.0")
    with pytest.raises(SystemExit, match=r"^error: .* was begun with other parser \(en_core_web_sm"):
        avt_distill("extract_recipe_actions", *arguments)
    (tmp_path / "a.parquet.unfinished.json").unlink()
    with pytest.raises(SystemExit, match=r"^error: .* has no a.parquet.unfinished.json, so its settings are unknown"):
        avt_distill("extract_recipe_actions", *arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": 1, "instructions": []}\n\n{"id": ', r"r\.jsonl, line 3 is no JSON: "),
        ('{"id": 1, "instructions": []}\n{"id": 2}\n', r"r\.jsonl, line 2 has no instructions: "),
        ('{"instructions": []}', r"r\.jsonl, line 1 has no id: "),
        ('{"id": 1, "instructions": [3]}', r'r\.jsonl, line 1: an instruction is neither text nor \{"text": '),
        ('[{"id": 1, "instructions": []}, 5]', r"r\.jsonl, recipe 2 is no JSON object: "),
        ('[{"id": 1', r"r\.jsonl begins like a JSON list but is not valid: "),
        ("\n", r"r\.jsonl holds no recipes\.$"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, content, message):
    (tmp_path / "r.jsonl").write_text(content)
    with pytest.raises(SystemExit, match=rf"^error: .*{message}") as error:
        avt_distill("extract_recipe_actions", str(tmp_path / "r.jsonl"), "--output", str(tmp_path / "a.jsonl"))
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["r.jsonl"]


def test_invalid_paths_are_refused(tmp_path):
    (tmp_path / "whole.jsonl").touch()
    for recipes, output, message in (
        ("missing.jsonl", "a.jsonl", "No such file"),
        ("whole.jsonl", "a.csv", r"ends in \.jsonl or \.parquet"),
        ("whole.jsonl", "whole.jsonl", "exists and is complete"),
    ):
        with pytest.raises(SystemExit, match=f"^error: .*{message}"):
            avt_distill("extract_recipe_actions", str(tmp_path / recipes), "--output", str(tmp_path / output))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(RECIPES[0]).encode())[:-9])
    with pytest.raises(SystemExit, match=r"^error: .*cut\.gz cannot be read completely"):
        avt_distill("extract_recipe_actions", str(tmp_path / "cut.gz"), "--output", str(tmp_path / "a.jsonl"))


def test_instructions_that_are_not_english_are_counted(tmp_path, capsys):
    foreign = {"id": "d", "instructions": ["Zwiebeln hacken.", "Mit Salz und Pfeffer w\u00fcrzen."]}
    recipes = write_lines(tmp_path / "r.jsonl", [*RECIPES, foreign])
    avt_distill("extract_recipe_actions", str(recipes), "--output", str(tmp_path / "a.jsonl"))
    assert [row["actions"] for row in read_lines(tmp_path / "a.jsonl")] == [*ACTIONS, []]
    assert "left out: 2 of 6 instructions that are not English" in capsys.readouterr().out
