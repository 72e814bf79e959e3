"""Every committed run: its file parses, its model and data options exist, and its header says how it is run."""

import pytest
from conftest import PROJECT

from avt_distill.arguments import parse_run
from avt_distill.data.loading import BUILDERS
from avt_distill.teacher.adaptation import AdaptationArguments
from scripts.finetune_teacher import Arguments as TeacherRun

CONFIGS = sorted((PROJECT / "configs").rglob("*.yaml"))
KINDS = {"teacher": TeacherRun, "adaptation": AdaptationArguments}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(PROJECT / "configs")))
def test_a_run_parses_and_says_how_it_is_run(path, tmp_path):
    kind = next(name for name in KINDS if path.stem.startswith(name))
    given = {"teacher": [], "adaptation": ["--model_name_or_path", "x", "--recipes", "y"]}[kind]
    run = parse_run(KINDS[kind], [str(path), "--use_cpu", "--output_dir", str(tmp_path), *given], description="")
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"scripts/{'finetune_teacher' if kind == 'teacher' else 'adapt_language_model'}.py" in h for h in header)
    if kind == "teacher":
        names = [config.name for config in BUILDERS[run.dataset].BUILDER_CONFIGS]
        assert run.config_name is None or run.config_name in names
        assert isinstance(run.label_weights, dict)
