"""Tables of measured numbers agree with their JSON files."""

import json

import pytest

from benchmarks import tables
from benchmarks.words.gains import draw_gains, gains


def test_every_table_is_what_its_results_make():
    tables.main(["--check"])


def test_every_result_has_its_command_and_commit():
    paths = sorted(tables.RESULTS.glob("*.json"))
    assert paths
    for path in paths:
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert set(kept) == {"command", "commit", "result"}, path
        assert kept["command"], path
        assert kept["commit"], path


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    """Results of a text model after 5 videos, and a document whose table of them is out of date."""
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "DOCUMENTS", ("page.md",))
    to = {
        "counts": {"log_loss": {"difference": -0.1234, "low": -0.2, "high": -0.0501}},
        "vectors, scrambled": {"log_loss": {"difference": 0.01, "low": -0.02, "high": 0.03}},
    }
    models = {"counts": {"log_loss": 2.0}, "vectors, scrambled": {"log_loss": 1.9}}
    models |= {"vectors": {"log_loss": 1.8766, "to": to}}
    found = {"command": "a command", "commit": "0123456", "result": {"parts": {"true": {"5": models}}}}
    (tmp_path / "words_kitchen.json").write_text(json.dumps(found))
    before = "# Page\n\n<!-- table: words true log_loss kitchen -->\n\n{}\n\n<!-- end of table -->\n\nAfter.\n"
    (tmp_path / "page.md").write_text(before.format("| old |"))
    return tmp_path, before


def test_a_table_is_rebuilt_and_all_else_is_kept(kitchen):
    folder, text = kitchen
    with pytest.raises(SystemExit, match=r"page\.md: tables differ"):
        tables.main(["--check"])
    tables.main([])
    expected = (
        "| training videos | counts | vectors, scrambled | vectors | vectors to counts | vectors to scrambled |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| 5 | 2.000 | 1.900 | 1.877 | **-0.123** [-0.200, -0.050] | +0.010 [-0.020, +0.030] |"
    )
    assert (folder / "page.md").read_text() == text.format(expected)
    tables.main(["--check"])


def test_a_result_is_kept_without_folders_of_its_machine(kitchen):
    folder, _ = kitchen
    found = json.loads((folder / "words_kitchen.json").read_text())["result"]
    found |= {"data_dir": "/home/me/kitchen", "seeds": [0], "options": ["/home/me/a", "b/c"]}
    (folder / "words.json").write_text(json.dumps(found))
    tables.main(["--add", "words_kitchen", str(folder / "words.json"), "--command", "a command", "--commit", "89abcde"])
    kept = json.loads((folder / "words_kitchen.json").read_text())
    assert (kept["command"], kept["commit"]) == ("a command", "89abcde")
    assert kept["result"] == found | {"data_dir": "kitchen", "options": ["a", "b/c"]}
    assert "**-0.123**" in (folder / "page.md").read_text()


def test_an_unknown_table_is_named(kitchen):
    folder, text = kitchen
    (folder / "page.md").write_text(text.replace("words true", "word true").format(""))
    with pytest.raises(ValueError, match=r"'word' is not a table: give one of results, .*words"):
        tables.main([])


def test_a_result_needs_its_command(kitchen, capsys):
    folder, _ = kitchen
    with pytest.raises(SystemExit):
        tables.main(["--add", "words_kitchen", str(folder / "words_kitchen.json")])
    assert "--add needs --command" in capsys.readouterr().err


def test_the_picture_of_gains_shows_the_numbers_of_the_table(tmp_path):
    pytest.importorskip("matplotlib")
    found = gains("top5")
    _, *rows = tables.gains("top5")
    assert {(of, str(count)) for of, counts in found.items() for count in counts} == {(row[0], row[1]) for row in rows}
    for of, count, _, to_no_teacher, to_counts, to_scrambled in rows:
        shown = [tables.difference(one, bold=True) for one in found[of][int(count)].values()]
        assert shown == [to_no_teacher.split(", ", 1)[1], to_counts.split(", ", 1)[1], to_scrambled]
    draw_gains(found, tmp_path / "gains.png", "top5")
    assert (tmp_path / "gains.png").read_bytes().startswith(b"\x89PNG")
