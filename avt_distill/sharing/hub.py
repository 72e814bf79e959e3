"""Uploads to the Hub: each one commit, which is there as a whole or has changed nothing."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelCardData

# The client's own base of all that can go wrong on the way, whichever HTTP library its version is built on.
from huggingface_hub.errors import HTTPError
from transformers import TrainerCallback, TrainingArguments
from transformers.dynamic_module_utils import custom_object_save

from modeling_avt.configuration_avt import AVTConfig
from modeling_avt.modeling_avt import AVTForAnticipation

from ..runs.folder import read_json, write_text
from ..teacher.modeling_teacher import TextTeacherConfig
from ..teacher.prediction import TeacherScorer
from .cards import space_card

NOT_FOR_THE_HUB = ("checkpoint-*", "training_args.bin")
IN_TRAINING = """# {name}

In training: step {step} of {steps}. Nothing was measured yet, so that there are no numbers here.
"""


def create_repository(
    repo_id: str, *, repo_type: str = "model", private: bool = False, token: str | None = None
) -> str:
    """Makes a repository unless it is there, and returns its full name, `user/name`.

    Before a long training, this shows whether its result can be pushed.

    Raises:
        OSError: where that is not allowed, or no Hub answers.
    """
    advice = "check its name, the connection, and with `hf auth whoami` the token"
    with hub_errors_in_one_line(f"{repo_id} cannot be written: {advice}"):
        return HfApi(token=token).create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    repo_type: str = "model",
    private: bool = False,
    token: str | None = None,
    commit_message: str,
) -> str:
    """Uploads a folder, but for the `Trainer`'s checkpoints in it, and returns the repository's full name.

    Args:
        folder (`str` or `Path`): What is to be uploaded.
        repo_id (`str`): `user/name`, or `name` for one's own; made unless it is there.
        repo_type (`str`, *optional*): `"model"`, `"dataset"` or `"space"`.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str`, *optional*): By default the one that was logged in with.
        commit_message (`str`): Of the one commit.

    Raises:
        ValueError: for a student or teacher that lacks weights or tokenizer files; nothing is uploaded then.
        OSError: where the upload failed. The repository is then as it was before, and pushing once more sends only
            the large files that had not arrived.
    """
    if repo_type == "model":
        check_checkpoint(Path(folder))
    if repo_type != "space":  # which needs to know what it is built with
        repo_id = create_repository(repo_id, repo_type=repo_type, private=private, token=token)
    failed = f"{folder} did not get to {repo_id}, which is as it was; push again, and large files that arrived stay"
    with hub_errors_in_one_line(failed):
        HfApi(token=token).upload_folder(
            repo_id=repo_id,
            repo_type=repo_type,
            folder_path=str(folder),
            ignore_patterns=list(NOT_FOR_THE_HUB),
            commit_message=commit_message,
        )
    return repo_id


def check_checkpoint(folder: Path):
    """Raises `ValueError` or `OSError` where a student or teacher is not whole: loaded from the Hub it would be no
    better."""
    config = folder / "config.json"
    model_type = read_json(config).get("model_type") if config.exists() else None
    if model_type == AVTConfig.model_type:
        AVTForAnticipation.from_pretrained(folder)
    elif model_type == TextTeacherConfig.model_type:
        TeacherScorer.from_pretrained(folder)


def push_space(
    folder: str | Path, repo_id: str, *, model_id: str, private: bool = False, token: str | None = None
) -> str:
    """Uploads the app in a folder, with a card, as a Space that shows a model, and returns its full name.

    Args:
        folder (`str` or `Path`): `space/`, or one's own with an `app.py` that reads the variable `AVT_MODEL`.
        repo_id, private, token: As for `push_folder`.
        model_id (`str`): The model's name on the Hub.

    Raises:
        OSError: as `push_folder`.
    """
    with hub_errors_in_one_line(f"The Space {repo_id} was not made"):
        api = HfApi(token=token)
        made = api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        api.add_space_variable(made.repo_id, "AVT_MODEL", model_id)
    with tempfile.TemporaryDirectory() as staged:
        shutil.copytree(folder, staged, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        space_card(made.repo_id, model_id).save(Path(staged) / "README.md")
        return push_folder(staged, made.repo_id, repo_type="space", token=token, commit_message=f"Shows {model_id}")


def use_token(args: TrainingArguments):
    """Hands a token that was given as an option to the Hub's client.

    `Trainer` would save it with its arguments, and push those.
    """
    if args.hub_token:
        os.environ["HF_TOKEN"], args.hub_token = args.hub_token, None


class PushedCheckpoint(TrainerCallback):
    """Makes what a `Trainer` pushes while it trains usable: adds the model's code, and a card without numbers.

    Under `hub_strategy` `"every_save"`, `"checkpoint"` and `"all_checkpoints"`, transformers 5.23 copies configuration
    and weights alone from a checkpoint to the folder that it pushes.
    """

    def on_push_begin(self, args, state, control, **kwargs):
        folder = Path(args.output_dir)
        for part in (AVTConfig, AVTForAnticipation):
            custom_object_save(part, folder)
        if not (folder / "results.json").exists():
            name = (args.hub_model_id or folder.name).rpartition("/")[2]
            data = ModelCardData(library_name="transformers", tags=["action-anticipation", "custom_code"])
            text = IN_TRAINING.format(name=name, step=state.global_step, steps=state.max_steps)
            write_text(folder / "README.md", str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")))


@contextmanager
def hub_errors_in_one_line(what: str) -> Iterator[None]:
    """Raises what went wrong between here and the Hub as an `OSError`, "<what> (<why>)."."""
    try:
        yield
    except (HTTPError, RuntimeError) as error:  # a large file's failure comes wrapped in a RuntimeError
        reasons = f"{error} {error.__cause__ or ''}" if isinstance(error, RuntimeError) else str(error)
        raise OSError(f"{what} ({' '.join(reasons.split()).rstrip('.')}).") from error
