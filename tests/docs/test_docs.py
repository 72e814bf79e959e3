"""The pages of docs/: every command and piece of Python runs, in order, unless a comment above explains why not."""

import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import datasets
import pytest
from helpers.commands import run_command
from helpers.encoders import write_encoder
from helpers.places import PROJECT
from transformers import dynamic_module_utils

from avt_distill.data.benchmarks.demo import generate_demo

DOCS = PROJECT / "docs"
PAGES = ("data", "teacher", "student", "features", "reader", "model", "metrics", "deploy")
AFTER = {"reader": "student", "deploy": "student"}  # pages that use a model that another page trains
SLOW = ("reader",)  # fits readers with a user's settings: all hypotheses and text-free models
# A block: an optional HTML comment directly above, and the fence.
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^:>]+): (?P<why>[^>]+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.DOTALL
)
# Options that only make a command fast on tiny data.
ON_THE_CPU = ["--use_cpu", "true"]
ONE_EPOCH = ["--num_train_epochs", "1", *ON_THE_CPU]
IN_THIS_PROCESS = ["--dataloader_num_workers", "0", "--dataloader_persistent_workers", "false"]
MORE = {
    "distill": [*ONE_EPOCH, *IN_THIS_PROCESS],
    "export_soft_labels": ON_THE_CPU,
    "extract_features": ["--cpu", "--num_workers", "0"],
    "finetune_teacher": ONE_EPOCH,
    "adapt_language_model": [*ONE_EPOCH, "--block_length", "32"],
}
FEWER_EPOCHS = ("num_train_epochs=20", "num_train_epochs=1")


@dataclass
class Block:
    """A fenced block of a page: its language and code, and the mark and reason of the comment above it."""

    language: str
    code: str
    mark: str | None
    why: str | None

    def commands(self) -> list[list[str]]:
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: str) -> list[Block]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return [Block(m["language"], m["code"], m["mark"], m["why"]) for m in BLOCK.finditer(text)]


class Reader:
    """Follows the pages in a folder of its own: each page once, after the page that it builds on."""

    def __init__(self, folder: Path, models: dict[str, Path]):
        self.folder, self.models, self.done = folder, models, set()
        generate_demo(folder / "kitchen", num_videos=10, num_recipes=24)
        shutil.copytree(PROJECT / "configs", folder / "configs")

    def follow(self, page: str, *, slow: bool = False):
        if page in AFTER:
            self.follow(AFTER[page])
        if (page, slow) in self.done:
            return
        self.done.add((page, slow))
        names: dict = {}
        for block in blocks_of(page):
            if block.mark == "not run" or (block.mark == "slow") != slow:
                continue
            if block.language == "python":
                exec(compile(block.code.replace(*FEWER_EPOCHS), f"{page}.md", "exec"), names)
            else:
                for words in block.commands():
                    self.run(*words)

    def run(self, program: str, command: str, *words: str):
        assert program == "avt-distill", f"{program} cannot be run here: say why above the block"
        words = tuple(str(self.models.get(word, word)) for word in words)
        result = run_command(command, *words, *MORE.get(command, []), folder=self.folder)
        assert result.returncode == 0, f"{command} {words}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory, tiny_encoder):
    """A `Reader` with its own caches, and with tiny models under the names of those on the Hub."""
    folder = tmp_path_factory.mktemp("docs")
    models = {
        "distilbert/distilbert-base-uncased": tiny_encoder,
        "facebook/dinov2-small": write_encoder(folder / "encoder", "vit"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        patch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder / "modules"))
        patch.syspath_prepend(folder / "modules")
        for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
            patch.delitem(sys.modules, name)  # modules of checkpoints that other tests loaded from other folders
        yield Reader(folder, models)


@pytest.mark.parametrize("page", [pytest.param(p, marks=pytest.mark.slow) if p in SLOW else p for p in PAGES])
def test_a_page_runs(page, reader):
    reader.follow(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(block.mark == "slow" for block in blocks_of(page))])
def test_the_slow_blocks_of_a_page_run(page, reader):
    reader.follow(page, slow=True)


@pytest.mark.parametrize("page", PAGES)
def test_a_block_is_run_or_marked_with_a_reason(page):
    text, blocks = (DOCS / f"{page}.md").read_text(encoding="utf-8"), blocks_of(page)
    assert len(blocks) == len(re.findall(r"^```\w", text, re.MULTILINE)) == text.count("```") / 2
    assert {block.language for block in blocks} <= {"bash", "python"}
    assert {block.mark for block in blocks} <= {None, "not run", "slow"}
    of_tables = text.count("<!-- table: ") + text.count("<!-- end of table -->")
    assert text.count("<!--") == of_tables + sum(block.mark is not None for block in blocks)
    assert any(block.mark is None for block in blocks)


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.relative_to(DOCS).as_posix())
def test_links_between_pages_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.is_file(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles], link


def test_the_site_lists_every_page():
    text = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(re.findall(r"[\w/]+\.md", text)) == sorted(pages)
