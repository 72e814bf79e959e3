"""Uploads to the Hub, each as one commit, which either succeeds completely or changes nothing."""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, ModelCardData, create_commit

# The client's base class of all transfer errors, whichever HTTP library its version uses.
from huggingface_hub.errors import HTTPError
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.dynamic_module_utils import custom_object_save
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from modeling_avt.configuration_avt import AVTConfig
from modeling_avt.modeling_avt import AVTForAnticipation
from modeling_avt.video_processing_avt import AVTVideoProcessor

from ..recipes.adaptation import AdaptationTrainer, load_masked_or_causal_model
from ..runs.folder import read_record
from ..runs.lock import unchanged
from ..teacher.language_models import load_language_model_config, load_tokenizer
from ..teacher.modeling_teacher import TextTeacherConfig
from ..teacher.prediction import TeacherScorer
from .belongings import files_of_checkpoint, files_of_model, files_of_space
from .cards import space_card, write_card
from .licenses import NONE_STATED
from .markdown import escaped
from .metadata import Stated, check_eval_results

logger = logging.getLogger(__name__)

IN_TRAINING = """# {name}

In training: step {step} of {steps}. There are no results yet.
"""


def create_repository(
    repo_id: str, *, repo_type: str = "model", private: bool = False, token: str | None = None
) -> str:
    """Creates a repository if it does not exist, and returns its full name, `user/name`.

    Call this before a long training to find out whether its result can be pushed.

    Raises:
        OSError: If writing to the repository is not allowed, or the Hub cannot be reached.
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
    """Uploads the files of a folder selected by `belongings`, and returns the repository's full name.

    Args:
        folder (`str` or `Path`): Folder of a student, a teacher, a language model or a Space.
        repo_id (`str`): `user/name`, or `name` for the user's own; created if it does not exist.
        repo_type (`str`, *optional*): `"model"` or `"space"`.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str`, *optional*): Hub token. Default: the one of the login.
        commit_message (`str`): Message of the commit.

    Raises:
        ValueError: If the model does not load because weights or tokenizer files are missing, the Hub could not read
            the results, or another command writes to the folder. Nothing is uploaded then.
        OSError: If the upload fails. The repository is unchanged, and pushing again sends only the large files that
            have not arrived.
    """
    folder = Path(folder)
    with unchanged(folder):
        if repo_type == "model":
            check_checkpoint(folder)
            check_eval_results(folder)
            if Stated.in_card(folder / "README.md").license is None:
                logger.warning(NONE_STATED, folder, "push_to_hub")
        files = files_of_space(folder) if repo_type == "space" else files_of_model(folder)
        if repo_type != "space":  # the Hub requires the SDK to create a Space, so `push_space` does that
            repo_id = create_repository(repo_id, repo_type=repo_type, private=private, token=token)
        failed = f"Upload of {folder} to {repo_id} failed; the repository is unchanged. Retry to send what is missing"
        api, operations = HfApi(token=token), additions(files)
        with hub_errors_in_one_line(failed):
            api.create_commit(repo_id, operations, repo_type=repo_type, commit_message=commit_message)
    return repo_id


def additions(files: Mapping[str, Path | bytes]) -> list[CommitOperationAdd]:
    """Returns the operations that add files to a commit, by their names in the repository."""
    contents = {name: file if isinstance(file, bytes) else str(file) for name, file in files.items()}
    return [CommitOperationAdd(name, content) for name, content in contents.items()]


def check_checkpoint(folder: Path):
    """Raises `ValueError` or `OSError` if a student, teacher or language model does not load completely.

    It would not load from the Hub either.
    """
    config = folder / "config.json"
    if not config.exists():
        raise ValueError(f"{folder} has no config.json: give the folder of a student, a teacher or a language model.")
    model_type = read_record(config, "model_type")["model_type"]
    if model_type == AVTConfig.model_type:
        AVTForAnticipation.from_pretrained(folder)
        if (folder / "video_preprocessor_config.json").exists():
            AVTVideoProcessor.from_pretrained(folder)
    elif model_type == TextTeacherConfig.model_type:
        TeacherScorer.from_pretrained(folder)
    else:
        load_tokenizer(folder, load_language_model_config(folder))
        load_masked_or_causal_model(folder)


def push_space(
    folder: str | Path, repo_id: str, *, model_id: str, private: bool = False, token: str | None = None
) -> str:
    """Uploads the app in a folder with a card as a Space that runs a model, and returns its full name.

    Args:
        folder (`str` or `Path`): `space/`, or a folder with an `app.py` that reads the environment variable
            `AVT_MODEL`.
        repo_id, private, token: As for `push_folder`.
        model_id (`str`): The model's name on the Hub.

    Raises:
        OSError: See `push_folder`.
    """
    with hub_errors_in_one_line(f"The Space {repo_id} could not be created"):
        api = HfApi(token=token)
        made = api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        api.add_space_variable(made.repo_id, "AVT_MODEL", model_id)
    with tempfile.TemporaryDirectory() as staged:
        shutil.copytree(folder, staged, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        space_card(made.repo_id, model_id).save(Path(staged) / "README.md")
        return push_folder(staged, made.repo_id, repo_type="space", token=token, commit_message=f"Shows {model_id}")


class PushedCheckpoint(TrainerCallback):
    """Adds the model's code and a card without results to what a `Trainer` pushes during training, so that it loads.

    Under `hub_strategy` `"every_save"`, `"checkpoint"` and `"all_checkpoints"`, transformers 5.23 only copies
    configuration and weights from a checkpoint to the folder that it pushes, without the files that `auto_map` names.
    """

    def on_push_begin(self, args, state, control, **kwargs):
        folder = Path(args.output_dir)
        for part in (AVTConfig, AVTForAnticipation):
            custom_object_save(part, folder)
        if not (folder / "results.json").exists():
            _write_card_in_training(args, state, ["action-anticipation", "custom_code"])


class PushedLanguageModel(TrainerCallback):
    """Adds a card without results to the language model that a `Trainer` pushes during training."""

    def on_push_begin(self, args, state, control, **kwargs):
        _write_card_in_training(args, state, ["action-anticipation", "recipes"])


def _write_card_in_training(args: TrainingArguments, state: TrainerState, tags: list[str]):
    folder = Path(str(args.output_dir))
    name = (args.hub_model_id or folder.name).rpartition("/")[2]
    stated = Stated.in_card(folder / "README.md").license_fields
    data = ModelCardData(**stated, library_name="transformers", tags=tags)
    text = IN_TRAINING.format(name=escaped(name), step=state.global_step, steps=state.max_steps)
    write_card(folder, ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}"))


class PushingTrainer(Trainer):
    """A `Trainer` that pushes only the files selected by `belongings`.

    `Trainer` itself uploads whole folders, including its arguments with the token. Each `hub_strategy` keeps its
    meaning.
    """

    def _push_from_checkpoint(self, checkpoint_folder: str):
        args = self.args
        pushing: Any = self.push_in_progress  # declared by transformers as a single job
        if not self.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
            return
        if not args.hub_always_push and pushing is not None and not pushing.is_done():
            return
        folder, checkpoint = Path(str(args.output_dir)), Path(checkpoint_folder)
        for name in (name for name in files_of_model(checkpoint) if not name.endswith(".py")):
            shutil.copy(checkpoint / name, folder / name)
        self.callback_handler.on_push_begin(args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        jobs: Any = [self._commit(files_of_model(folder), message)]
        if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            place = "last-checkpoint" if args.hub_strategy == HubStrategy.CHECKPOINT else checkpoint.name
            jobs.append(self._commit(files_of_checkpoint(checkpoint, place), f"{message}, checkpoint"))
        if pushing is None or pushing.is_done():
            self.push_in_progress = PushInProgress(jobs)
        else:
            pushing.jobs.extend(jobs)

    def _commit(self, files: Mapping[str, Path | bytes], message: str):
        """Starts an upload and returns its future."""
        commit: dict[str, Any] = {"commit_message": message, "revision": self.args.hub_revision}
        # The module's shared client, whose single background thread keeps commits in order.
        return create_commit(
            str(self.hub_model_id), additions(files), token=self.args.hub_token, run_as_future=True, **commit
        )

    def push_to_hub(self, commit_message: str | None = "End of training", blocking: bool = True, **kwargs):
        """Saves the model and uploads it with its files in one commit; always waits for the upload."""
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=kwargs.get("token"))
        self.save_model(_internal_call=True)
        if self.is_world_process_zero():
            self._finish_current_push()
            message = commit_message or "End of training"
            push_folder(str(self.args.output_dir), str(self.hub_model_id), commit_message=message)


class PushingAdaptationTrainer(PushingTrainer, AdaptationTrainer):
    """An `AdaptationTrainer` that pushes the language model while it trains, as `hub_strategy` says."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.add_callback(PushedLanguageModel)


@contextmanager
def hub_errors_in_one_line(what: str) -> Iterator[None]:
    """Converts errors of transfers to the Hub to `OSError` with the message "<what> (<why>)."."""
    try:
        yield
    except (HTTPError, RuntimeError) as error:  # huggingface-hub 2.4 wraps failures of large files in a RuntimeError
        reasons = f"{error} {error.__cause__ or ''}" if isinstance(error, RuntimeError) else str(error)
        raise OSError(f"{what} ({' '.join(reasons.split()).rstrip('.')}).") from error
