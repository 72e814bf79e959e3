"""Parses the options of every command that trains as from its command line."""

from pathlib import Path

from avt_distill.reader.arguments import ReaderArguments
from avt_distill.recipes.arguments import AdaptationArguments
from avt_distill.runs.arguments import parse_run
from avt_distill.student.arguments import RunArguments
from avt_distill.teacher.arguments import TeacherArguments

REQUIRED = {AdaptationArguments: ["--recipes=r", "--model_name_or_path=m"]}
REQUIRED |= {kind: ["--soft_labels=s"] for kind in (RunArguments, ReaderArguments)}
ALL = (RunArguments, ReaderArguments, TeacherArguments, AdaptationArguments)


def parse(kind: type, folder: Path, *options: str, text: str = ""):
    """Returns arguments of one of `ALL`, parsed from options and a YAML file, which is written to `folder`."""
    (folder / "run.yaml").write_text(text)
    given = [str(folder / "run.yaml"), *REQUIRED.get(kind, []), "--use_cpu=true", f"--output_dir={folder}"]
    return parse_run(kind, [*given, *options], description="")
