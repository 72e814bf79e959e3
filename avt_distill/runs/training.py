"""A `Trainer` whose checkpoints can be resumed: of finite numbers, and with every process's part."""

from typing import Any

import torch
from transformers import EarlyStoppingCallback, Trainer

from .resuming import last_whole_checkpoint


class ResumableTrainer(Trainer):
    """A `Trainer` that stops where the loss is not finite, and saves no checkpoint that training cannot resume from.

    `trainer_state.json`, by which a checkpoint counts as whole, is written once every process has written its part.
    """

    def _run_epoch(self, *args: Any, **kwargs: Any):
        """Trains for an epoch, but not after the last step: transformers 5.23 takes one more where it resumes."""
        if self._has_ended():
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)

    def _has_ended(self) -> bool:
        stops = [each for each in self.callback_handler.callbacks if isinstance(each, EarlyStoppingCallback)]
        is_stopped = any(stop.early_stopping_patience_counter >= stop.early_stopping_patience for stop in stops)
        return is_stopped or self.state.global_step >= self.state.max_steps

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any):
        """Logs losses wherever a checkpoint may be saved: those since the last time are lost when training resumes."""
        self.control.should_log |= self.control.should_save or self.control.should_evaluate
        return super()._maybe_log_save_evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any):
        """Logs all but the mean loss of all steps, which would be that of the steps since training was resumed."""
        super().log({name: value for name, value in logs.items() if name != "train_loss"}, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss).all():
            raise ValueError(self._not_finite(f"The loss of step {self.state.global_step + 1} is {float(loss)}"))
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any):
        model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        for name, weights in model.named_parameters():
            if not torch.isfinite(weights).all():
                raise ValueError(self._not_finite(f"After step {self.state.global_step}, {name} is not finite"))
        super()._save_checkpoint(*args, **kwargs)

    def _save_rng_state(self, *args: Any, **kwargs: Any):
        super()._save_rng_state(*args, **kwargs)
        self.accelerator.wait_for_everyone()

    def _not_finite(self, what: str) -> str:
        return (
            f"{what}: training stops without a checkpoint of this step. Give a lower learning_rate than "
            f"{self.args.learning_rate:g} and another output_dir, and check inputs and soft labels."
        )

    def resume(self):
        """Trains from the last checkpoint in `output_dir` that can be resumed, or from the beginning.

        Raises:
            ValueError: see `last_whole_checkpoint`; and where the loss is not finite, naming the step.
        """
        folder = str(self.args.output_dir)
        self.args.restore_callback_states_from_checkpoint = True  # how long there was no improvement
        return self.train(resume_from_checkpoint=last_whole_checkpoint(folder, self.args.world_size))
