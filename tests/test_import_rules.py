"""The two rings: who may import whom, and what importing the model must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import PROJECT

RING_1 = sorted((PROJECT / "modeling_avt").glob("*.py"))
RING_2 = sorted((PROJECT / "avt_distill").rglob("*.py"))
RING_1_LIBRARIES = {"torch", "transformers", "numpy", "huggingface_hub"}
ARITHMETIC = ("metrics.py", "statistics.py", "cards.py")


def imports(path: Path) -> list[tuple[str, ast.stmt, bool]]:
    """Every absolute import of a file, function bodies included: (module, statement, whether it stands in a `try:`)."""
    found = []

    def visit(node: ast.AST, in_try: bool):
        if isinstance(node, ast.Import):
            found.extend((alias.name, node, in_try) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append((node.module, node, in_try))
        for child in ast.iter_child_nodes(node):
            visit(child, in_try or isinstance(node, ast.Try))

    visit(ast.parse(path.read_text()), False)
    return found


def is_outside(module: str) -> bool:
    return module.split(".")[0] not in sys.stdlib_module_names


@pytest.mark.parametrize("path", RING_1, ids=lambda path: path.name)
def test_ring_1_needs_only_what_a_checkpoint_may_need(path):
    for module, _, in_try in imports(path):
        library = module.split(".")[0]
        allowed = RING_1_LIBRARIES | ({"av"} if in_try else set())
        assert not is_outside(module) or library in allowed, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", RING_1, ids=lambda path: path.name)
def test_ring_1_is_flat_and_imports_siblings_by_name(path):
    relative = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom) and node.level
    ]
    for node in relative:
        assert node.level == 1, f"{path.name}, line {node.lineno}"
        assert node.module is not None, (
            f"{path.name}, line {node.lineno}: transformers copies only `from .name import ...`"
        )
        assert (PROJECT / "modeling_avt" / f"{node.module}.py").is_file(), node.module
    assert all(entry.is_file() or entry.name == "__pycache__" for entry in path.parent.iterdir())


def test_no_line_of_text_looks_like_a_relative_import():
    """Transformers finds imports with a regular expression over the text, docstrings included."""
    for path in RING_1:
        tree = ast.parse(path.read_text())
        real = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert not line.strip().startswith(("from .", "import .")) or number in real, f"{path.name}, line {number}"


@pytest.mark.parametrize("path", RING_2, ids=lambda path: str(path.relative_to(PROJECT)))
def test_ring_2_keeps_its_layers(path):
    modules = {module for module, _, _ in imports(path)}
    assert not any(module.split(".")[0] == "scripts" for module in modules)
    place = path.relative_to(PROJECT / "avt_distill").parts
    if place[0] == "data":
        allowed = {f"modeling_avt.{name}_avt" for name in ("temporal", "video_io", "video_processing")}
        assert not any(m.startswith("modeling_avt") and m not in allowed for m in modules)
        assert not any(m.startswith(("avt_distill.teacher", "avt_distill.student.trainer")) for m in modules)
    if place[0] == "teacher":
        allowed = tuple(f"avt_distill.data.{name}" for name in ("segments", "labels", "history"))
        assert not any(m.startswith("avt_distill.data") and not m.startswith(allowed) for m in modules)
    if path.name in ARITHMETIC:
        assert not any(m.split(".")[0] in ("torch", "transformers", "modeling_avt") for m in modules)


def test_importing_the_model_loads_no_data_libraries():
    code = "import modeling_avt, sys; print([m for m in ('pandas', 'datasets', 'av') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert result.stdout.strip() == "[]"
