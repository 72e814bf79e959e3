"""A `Trainer` with reliable checkpoints: finite, complete over all processes, and resuming to the same weights."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import DistributedType
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PreTrainedModel, Trainer
from transformers.core_model_loading import revert_weight_conversion
from transformers.trainer_pt_utils import BatchRebalanceSampler

from .batches import EpochOrder, EpochRows, SeededCollator
from .folder import share_weights
from .resuming import last_whole_checkpoint
from .sharding import build_whole, check_made, check_saves_whole, whole


def names_by_saved_ones(model: PreTrainedModel) -> dict[str, str]:
    """Returns the model's own names of weights that transformers saves under other names, by the saved names."""
    weights = model.state_dict()
    names = {id(weight): name for name, weight in weights.items()}
    saved = revert_weight_conversion(model, weights)
    return {name: names[id(weight)] for name, weight in saved.items() if names.get(id(weight), name) != name}


class ResumableTrainer(Trainer):
    """A `Trainer` that stops if the loss is not finite, and saves only checkpoints from which training can resume.

    `trainer_state.json`, which marks a complete checkpoint, is written after every process has written its part.
    Checkpoints with missing or unexpected weights are refused, since `Trainer` would continue with random ones.

    Batches, and a collator's draws from torch's generator, depend only on seed, epoch and rows: see `batches`.

    Raises:
        ValueError: If FSDP or DeepSpeed was requested and Accelerate set up something else: see `sharding`.
    """

    def create_accelerator_and_postprocess(self):
        super().create_accelerator_and_postprocess()
        check_made(self.args, self.accelerator)
        check_saves_whole(self.accelerator)
        build_whole()  # the next student

    def _build_accelerator_args(self, **kwargs: Any) -> dict[str, Any]:
        """Returns the accelerator's arguments; under DeepSpeed, the plugin of the run's first student is reused."""
        args = super()._build_accelerator_args(**kwargs)
        if is_initialized() and AcceleratorState().distributed_type == DistributedType.DEEPSPEED:
            args["deepspeed_plugin"] = None  # Accelerate 1.15 refuses a second plugin in a process
        return args

    def get_train_dataloader(self) -> DataLoader:
        rows, collator = self.train_dataset, self.data_collator
        if not hasattr(rows, "__len__"):
            raise ValueError(
                f"train_dataset is a {type(rows).__name__}, which has no length: give a data set with indexed rows."
            )
        self.train_dataset = self.epoch_rows = EpochRows(rows, self.args.seed)
        self.data_collator = SeededCollator(self._get_collator_with_removed_columns(collator))
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset, self.data_collator = rows, collator

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> EpochOrder | BatchRebalanceSampler:
        sampler = super()._get_train_sampler(self.epoch_rows.rows)
        if not isinstance(sampler, BatchRebalanceSampler):  # it has its own seed, and Trainer checks its class
            assert sampler is not None  # rows have a length
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            sampler = EpochOrder(sampler, seed)
        self.order = sampler
        return sampler

    def _run_epoch(self, *args: Any, **kwargs: Any):
        """Trains for an epoch, but not beyond the last step: transformers 5.23 would add one step after resuming
        there."""
        if self._has_ended():
            self.control.should_training_stop = True
        else:
            self.epoch_rows.epoch.fill_(kwargs["epoch"])
            self.order.set_epoch(kwargs["epoch"])
            super()._run_epoch(*args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any):
        with self._without_seeds_of_workers():
            return super().get_batch_samples(*args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any):
        with self._without_seeds_of_workers():
            return super().evaluation_loop(*args, **kwargs)

    def _without_seeds_of_workers(self) -> AbstractContextManager[None]:
        """Returns a context in which persistent workers do not advance the generator that dropout draws from.

        Their loader draws a seed from it when they start: once in a run, and once more when the run resumes. Other
        loaders draw a seed each time they are iterated.
        """
        return torch.random.fork_rng(devices=[], enabled=self.args.dataloader_persistent_workers)

    def _has_ended(self) -> bool:
        stops = [each for each in self.callback_handler.callbacks if isinstance(each, EarlyStoppingCallback)]
        is_stopped = any(stop.early_stopping_patience_counter >= stop.early_stopping_patience for stop in stops)
        return is_stopped or self.state.global_step >= self.state.max_steps

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any):
        """Logs losses whenever a checkpoint may be saved, since `Trainer` loses the sums since the last log when it
        resumes."""
        self.control.should_log |= self.control.should_save or self.control.should_evaluate
        return super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any):
        """Logs everything except `train_loss`, which would be the mean over the steps since training resumed only."""
        super().log({name: value for name, value in logs.items() if name != "train_loss"}, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss).all():
            raise ValueError(self._not_finite(f"The loss of step {self.state.global_step + 1} is {float(loss)}"))
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any):
        model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        for name, weights in model.named_parameters():
            with whole(weights) as values:
                is_finite = bool(torch.isfinite(values).all())
            if not is_finite:
                raise ValueError(self._not_finite(f"After step {self.state.global_step}, {name} is not finite"))
        super()._save_checkpoint(*args, **kwargs)

    def _determine_best_metric(self, metrics: dict[str, float], *args: Any, **kwargs: Any) -> bool:
        best = self.args.metric_for_best_model
        if best is not None and f"eval_{best.removeprefix('eval_')}" not in metrics:
            measured = sorted(name for name in metrics if name.startswith("eval_"))
            raise ValueError(f"metric_for_best_model is '{best}', which is not measured: give one of {measured}.")
        return super()._determine_best_metric(metrics, *args, **kwargs)

    def _save(self, output_dir: str | None = None, *args: Any, **kwargs: Any):
        super()._save(output_dir, *args, **kwargs)
        if self.args.should_save:
            share_weights(str(output_dir or self.args.output_dir))

    def _save_rng_state(self, *args: Any, **kwargs: Any):
        super()._save_rng_state(*args, **kwargs)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any):
        self.loaded_from = resume_from_checkpoint
        try:
            with self._loading_by_saved_names():
                super()._load_from_checkpoint(resume_from_checkpoint, *args, **kwargs)
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            raise ValueError(self._of_another_model("holds weights of other sizes")) from error

    def _load_best_model(self):
        self.loaded_from = str(self.state.best_model_checkpoint)
        with self._loading_by_saved_names():
            super()._load_best_model()

    @contextmanager
    def _loading_by_saved_names(self) -> Iterator[None]:
        """Makes the model load weights by the names under which transformers saves them, like `from_pretrained`.

        `Trainer` (transformers 5.23) loads by the model's own names, and would not load the encoder of a ViT.
        """
        model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        names = names_by_saved_ones(model) if isinstance(model, PreTrainedModel) else {}

        def rename(module: torch.nn.Module, weights: dict[str, Any], *args: Any):
            renamed = {names.get(name, name): weight for name, weight in weights.items()}
            weights.clear()
            weights.update(renamed)

        hook = model.register_load_state_dict_pre_hook(rename)
        try:
            yield
        finally:
            hook.remove()

    def _issue_warnings_after_load(self, load_result: Any):
        """Raises a `ValueError` if a checkpoint lacks weights, which would stay random, or holds others."""
        model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        own, missing = model.state_dict(keep_vars=True), set(load_result.missing_keys)
        loaded = {id(weights) for name, weights in own.items() if name not in missing}
        left_out = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
        # Tied weights are saved only once.
        missing = [name for name in missing - left_out if id(own[name]) not in loaded]
        if missing:
            raise ValueError(self._of_another_model(f"lacks {len(missing)} weights, such as '{min(missing)}'"))
        if unexpected := load_result.unexpected_keys:
            raise ValueError(self._of_another_model(f"holds {len(unexpected)} others, such as '{min(unexpected)}'"))

    def _of_another_model(self, what: str) -> str:
        return (
            f"{self.loaded_from} is not a complete checkpoint of this model: it {what}. Delete it and rerun, to "
            "resume from an earlier one or to start again."
        )

    def _not_finite(self, what: str) -> str:
        return (
            f"{what}: training stops without a checkpoint of this step. Give a lower learning_rate than "
            f"{self.args.learning_rate:g} and another output_dir, and check inputs and soft labels."
        )

    def resume(self):
        """Trains from the last checkpoint in `output_dir` that can be resumed, or from the beginning.

        Raises:
            ValueError: See `last_whole_checkpoint`; also if the loss is not finite. The message names the step.
        """
        folder = str(self.args.output_dir)
        self.args.restore_callback_states_from_checkpoint = True  # restores the patience counter of early stopping
        return self.train(resume_from_checkpoint=last_whole_checkpoint(folder, self.args.world_size))
