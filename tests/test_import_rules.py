"""Rules of imports between modules, and libraries that imports must not load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import PROJECT

RING_1 = sorted((PROJECT / "modeling_avt").glob("*.py"))
RING_2 = sorted((PROJECT / "avt_distill").rglob("*.py"))
RING_1_LIBRARIES = {"packaging", "torch", "transformers", "numpy", "huggingface_hub"}
# A room may import the rooms to its left, and itself; only `__main__` starts a command.
FLOORS = (
    *("runs", "losses", "conversion", "features", "data", "metrics", "evaluation", "teacher", "recipes"),
    *("pictures", "sharing", "student", "reader", "commands"),
)
# Modules that only compute numbers and text: `cards`, `card_values` and the rooms of metrics and evaluation.
ARITHMETIC = ("metrics/", "evaluation/", "sharing/card")
DATA_OF_TEACHERS = ("builder", "labels", "history", "performances", "segments")
MODEL_OF_DATA = ("temporal_avt", "video_io_avt", "video_processing_avt", "video_source_avt")


def imports(path: Path, *, for_type_checkers: bool = False) -> list[tuple[str, ast.stmt, bool]]:
    """Returns every import of a file, including function bodies: (absolute module, statement, whether in a `try:`).

    Imports for type checkers only are left out unless `for_type_checkers`.
    """
    found, package = [], list(path.relative_to(PROJECT).with_suffix("").parts[:-1])

    def visit(node: ast.AST, in_try: bool):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_type_checkers:
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, node, in_try) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            modules = [[*base, node.module]] if node.module else [[*base, alias.name] for alias in node.names]
            found.extend((".".join(module), node, in_try) for module in modules)
        for child in ast.iter_child_nodes(node):
            visit(child, in_try or isinstance(node, ast.Try))

    visit(ast.parse(path.read_text()), False)
    return found


def room_of(module: str) -> str:
    """Returns the room of a module of ring 2: `avt_distill.teacher.prediction` is in `teacher`."""
    return module.split(".")[1]


def is_outside(module: str) -> bool:
    return module.split(".")[0] not in sys.stdlib_module_names


@pytest.mark.parametrize("path", RING_1, ids=lambda path: path.name)
def test_ring_1_needs_only_what_a_checkpoint_may_need(path):
    for module, _, in_try in imports(path):
        library = module.split(".")[0]
        allowed = RING_1_LIBRARIES | {"modeling_avt"} | ({"av"} if in_try else set())
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
    assert not any(node.level == 0 and (node.module or "").startswith("modeling_avt") for node in relative)
    assert all(entry.is_file() or entry.name == "__pycache__" for entry in path.parent.iterdir())


def test_no_line_of_text_looks_like_a_relative_import():
    """Transformers finds imports with a regular expression over the whole text, including docstrings."""
    for path in RING_1:
        tree = ast.parse(path.read_text())
        real = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert not line.strip().startswith(("from .", "import .")) or number in real, f"{path.name}, line {number}"


@pytest.mark.parametrize("path", RING_2, ids=lambda path: str(path.relative_to(PROJECT)))
def test_ring_2_keeps_its_layers(path):
    found, place = imports(path), path.relative_to(PROJECT / "avt_distill")
    for module, node, _ in found:
        if module.startswith("avt_distill"):
            assert isinstance(node, ast.ImportFrom), f"{place} imports {module}"
            assert node.level, f"{place} imports {module} by its absolute name"
    own = [module for module, _, _ in found if module.startswith("avt_distill.")]
    if len(place.parts) > 1 or place.stem not in ("__init__", "__main__"):
        room = room_of(".".join(["avt_distill", *place.with_suffix("").parts]))
        above = [module for module in own if FLOORS.index(room_of(module)) > FLOORS.index(room)]
        assert not above, f"{place} imports {above} from above"
    model = {module.split(".")[1] for module, _, _ in found if module.startswith("modeling_avt.")}
    if place.parts[0] == "data":
        assert model <= set(MODEL_OF_DATA)
    if place.parts[0] == "teacher":
        of_data = {module.split(".")[2] for module in own if room_of(module) == "data"}
        assert of_data <= set(DATA_OF_TEACHERS)
        assert not model
    if str(place).startswith(ARITHMETIC):
        assert not {module.split(".")[0] for module, _, _ in found} & {"torch", "transformers", "modeling_avt"}


def test_there_are_no_circular_imports():
    """With circular imports, the available names would depend on which file is imported first."""
    modules = {".".join(path.relative_to(PROJECT).with_suffix("").parts): path for path in (*RING_1, *RING_2)}
    edges = {
        name: {module for module, _, _ in imports(path, for_type_checkers=True)} & set(modules)
        for name, path in modules.items()
    }

    def visit(name: str, above: tuple[str, ...]):
        assert name not in above, f"a circle: {' -> '.join([*above[above.index(name) :], name])}"
        for other in sorted(edges[name] - done):
            visit(other, (*above, name))
        done.add(name)

    done: set[str] = set()
    for name in modules:
        visit(name, ())


def loaded(code: str, *libraries: str, beyond: str = "pass") -> list[str]:
    """Returns those of the libraries that code loads in a new process, in addition to those that `beyond` loads."""
    code = f"{beyond}\nimport sys; before = set(sys.modules)\n{code}"
    code += f"\nprint([name for name in {libraries} if name in sys.modules and name not in before])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    return ast.literal_eval(result.stdout.splitlines()[-1])


def test_importing_the_model_loads_no_data_libraries():
    # Transformers' own pipelines load av in release 5.19.
    assert loaded("import modeling_avt", "pandas", "datasets", "av", beyond="from transformers import Pipeline") == []


def test_importing_a_label_space_loads_no_framework():
    assert loaded("from avt_distill import LabelSpace", "torch", "transformers", "pandas", "datasets") == []
