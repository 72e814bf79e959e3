"""Training AVT with a text teacher: a `Trainer` whose loss adds a distillation term to AVT's own losses."""

from collections.abc import Callable, Sequence, Sized
from contextlib import contextmanager

import numpy as np
import torch
from transformers import PreTrainedModel

from ..data.labels import UNLABELLED
from ..losses import distillation_loss, smoothed_classification_loss
from ..runs.checkpoints import check_features, check_scores
from ..runs.training import ResumableTrainer
from ..sharing.hub import PushedCheckpoint, PushingTrainer
from ..teacher.soft_labels import ROW_COLUMNS, SoftLabelTable
from .arguments import DistillationArguments

# All losses. Each is a mean over a number of examples, frames or pairs of frames: see `_counts`.
COMPONENTS = (
    "action_loss",
    "verb_loss",
    "noun_loss",
    "past_loss",
    "frame_loss",
    "future_loss",
    "feature_loss",
    "distillation_loss",
)
IS_REPEATED = "is_repeated"  # marks a batch that repeats earlier rows only, and must not count again
NOT_FOR_THE_MODEL = ("teacher_logits", "teacher_mask", "uid", IS_REPEATED)


class SoftLabelCollator:
    """Collator that adds a teacher's soft labels, joined by uid, to the batches of another collator.

    Args:
        collator (`Callable`): Maps rows to a batch with `uid`.
        table (`SoftLabelTable`): The teacher's soft labels.
        missing (`str`, *optional*, defaults to `"raise"`): How to handle rows that the table lacks: `"raise"`, or
            `"mask"`, which excludes them from the distillation loss and counts them.

    Returns:
        `dict`: The batch, with `teacher_logits` float32 `(B, A)` and `teacher_mask` bool `(B,)`.

    Raises:
        ValueError: If a row is not the one that the teacher labeled under its uid.

    Attributes:
        num_masked (`int`): Number of rows without soft labels so far in this process.
    """

    def __init__(self, collator: Callable[[Sequence[dict]], dict], table: SoftLabelTable, *, missing: str = "raise"):
        self.collator, self.table, self.missing = collator, table, missing
        self.num_masked = 0

    def __call__(self, rows: Sequence[dict]) -> dict:
        batch = self.collator(rows)
        if all(name in row for row in rows for name in ("uid", *ROW_COLUMNS)):
            self.table.check_rows({name: [row[name] for row in rows] for name in ("uid", *ROW_COLUMNS)})
        logits, mask = self.table.select(batch["uid"], missing=self.missing)
        self.num_masked += int((~mask).sum())
        return {**batch, "teacher_logits": torch.from_numpy(logits), "teacher_mask": torch.from_numpy(mask)}


class DistillationTrainer(PushingTrainer, ResumableTrainer):
    """A `Trainer` for `AVTForAnticipation` with its own losses and, if batches have `teacher_logits`, distillation.

    Each loss is a mean over the labeled examples, frames or rows of an optimizer step, regardless of how these are
    spread over processes and accumulated batches, so the same rows give the same step. In evaluation each is a mean
    over the data set. All components are logged, and are among the metrics of `evaluate`.

    The teacher is not part of the model, so checkpoints contain nothing of it. Checkpoints pushed during training,
    under any `hub_strategy`, include the model's code and a card, so that they load.

    Args:
        model (`AVTForAnticipation`): The student.
        args (`DistillationArguments`): The training arguments.
        eval_collator (`Callable`, *optional*): Maps rows to a batch in evaluation, without augmentation or teacher.
            Default: `data_collator`.
        kwargs: Further arguments of `Trainer`, such as `data_collator` and `train_dataset`.

    Raises:
        ValueError: If one process would use several GPUs.
    """

    args: DistillationArguments
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel,
        args: DistillationArguments,
        *,
        eval_collator: Callable[[Sequence[dict]], dict] | None = None,
        **kwargs,
    ):
        if args.n_gpu > 1:
            raise ValueError(
                f"One process would use {args.n_gpu} GPUs: start one process per GPU with `accelerate launch`."
            )
        super().__init__(model, args, **kwargs)
        self.add_callback(PushedCheckpoint)
        self.eval_collator = self.data_collator if eval_collator is None else eval_collator
        kinds = [f"{kind}_" if kind != "action" else "" for kind in model.config.label_types]
        self.label_names = [f"{kind}labels" for kind in kinds] + (["past_labels"] if model.config.predicts_past else [])
        self.label_names += ["frame_labels"] if model.config.recognizes_frames else []
        self.label_names += ["future_labels"] if model.config.num_future_actions > 1 else []
        self._sums = {True: self._zeros(), False: self._zeros()}  # in training, in evaluation
        self._predicts_future = False

    @property
    def distill_weight(self) -> float:
        """The weight of the distillation loss at the current step, including warm-up."""
        warmup = self.args.distill_warmup_steps
        share = 1.0 if not warmup else min(1.0, self.state.global_step / warmup)
        return self.args.distill_weight * share

    def get_eval_dataloader(self, *args, **kwargs):
        with self._collating_for_evaluation():
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args, **kwargs):
        with self._collating_for_evaluation():
            return super().get_test_dataloader(*args, **kwargs)

    @contextmanager
    def _collating_for_evaluation(self):
        collator, self.data_collator = self.data_collator, self.eval_collator
        try:
            yield
        finally:
            self.data_collator = collator

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        """Returns the batches of an optimizer step, and the counts over all processes that its losses are means
        over."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        remainder = self._remaining_rows()
        batches = batches[:-1] + [self._without_repeated_rows(batch, remainder) for batch in batches[-1:]]
        counts = sum((self._counts(batch) for batch in batches), torch.zeros(len(COMPONENTS)))
        return batches, self.accelerator.reduce(counts.to(device), reduction="sum")

    def _remaining_rows(self) -> int:
        """Returns the number of rows in the last, incomplete batches of an epoch over all processes; 0 if they are
        full.

        Computed here, since accelerate's `gradient_state.remainder` is lost (-1) when training resumes within an epoch.
        """
        assert isinstance(self.train_dataset, Sized)
        processes = 1 if self.accelerator.split_batches else self.accelerator.num_processes
        return 0 if self.args.dataloader_drop_last else len(self.train_dataset) % (self._train_batch_size * processes)

    def _without_repeated_rows(self, batch: dict, remainder: int) -> dict:
        """Returns a batch without the rows that Accelerate repeats from the beginning of the data set (`even_batches`)
        to fill the last batches of several processes.

        If all rows are repeated, one is kept, since every process must compute gradients, and is marked not to count.
        """
        state, size = self.accelerator.gradient_state, len(batch["labels"])
        if self.accelerator.num_processes == 1 or not state.end_of_dataloader or remainder <= 0:
            return batch
        real = min(max(remainder - self.accelerator.process_index * size, 0), size)
        if real == size:
            return batch
        batch = {name: value[: max(real, 1)] for name, value in batch.items()}
        return batch if real else {**batch, IS_REPEATED: True}

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Returns the weighted sum of all losses; see `losses` for its terms."""
        outputs = self._run(model, inputs)
        loss = self._total_loss(outputs, inputs, model.training, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _run(self, model, inputs: dict):
        return model(**{name: value for name, value in inputs.items() if name not in NOT_FOR_THE_MODEL})

    def _total_loss(self, outputs, inputs: dict, training: bool, num_items: torch.Tensor | None = None) -> torch.Tensor:
        losses, counts = self.losses(outputs, inputs, training=training), self._counts(inputs).to(outputs.logits.device)
        self._keep(training, losses, counts)
        # The loss of a step is a mean over all of its processes and accumulated batches, not a mean of their means.
        if num_items is None:
            shares = counts / counts.clamp(min=1)
        else:  # gradients are averaged over processes, so the factor num_processes turns that into their sum
            shares = counts / num_items.clamp(min=1) * self.accelerator.num_processes
        share_of, weights = dict(zip(COMPONENTS, shares, strict=True)), self._weights()
        return sum(weights[name] * share_of[name] * loss for name, loss in losses.items())

    def losses(self, outputs, inputs: dict, *, training: bool = False) -> dict[str, torch.Tensor]:
        """Returns the losses of a batch by their names in `COMPONENTS`, each a mean. Labels are smoothed in training
        only."""
        losses = {name: getattr(outputs, name) for name in COMPONENTS if getattr(outputs, name, None) is not None}
        if training and self.args.label_smoothing_factor:
            smoothing = self.args.label_smoothing_factor
            losses["action_loss"] = smoothed_classification_loss(outputs.logits, inputs["labels"], smoothing)
        if self.args.distill_weight and "teacher_logits" in inputs:
            losses["distillation_loss"] = distillation_loss(
                outputs.logits,
                inputs["teacher_logits"],
                self.args.distill_temperature,
                top_k=self.args.distill_top_k,
                mask=inputs["teacher_mask"],
                reduction=self.args.distill_reduction,
            )
        return losses

    def _weights(self) -> dict[str, float]:
        config = self.accelerator.unwrap_model(self.model).config
        weighted = ("past_loss", "frame_loss", "future_loss", "feature_loss")
        own = {name: getattr(config, f"{name}_weight") for name in weighted}
        return {**dict.fromkeys(COMPONENTS, 1.0), **own, "distillation_loss": self.distill_weight}

    def _counts(self, batch: dict) -> torch.Tensor:
        """Returns the number of items that each of `COMPONENTS` is a mean over, float32 `(8,)`."""
        if IS_REPEATED in batch:
            return torch.zeros(len(COMPONENTS))
        no_labels = torch.empty(0, 0)  # all labels but the next action's are optional, as in the model's `forward`
        past, future = (batch.get(name, no_labels) for name in ("past_labels", "future_labels"))
        exists = batch.get("frame_mask")
        if exists is None:
            exists = torch.ones(len(batch["labels"]), self._num_moments(batch), dtype=torch.bool)
        of_past = past.numel() if self.model.config.past_loss_normalizer == "all" else _num_labelled(past)
        counts = {
            "action_loss": _num_labelled(batch["labels"]),
            "verb_loss": _num_labelled(batch.get("verb_labels", no_labels)),
            "noun_loss": _num_labelled(batch.get("noun_labels", no_labels)),
            "past_loss": of_past,
            "frame_loss": _num_labelled(batch.get("frame_labels", no_labels)),
            "future_loss": _num_labelled(future[:, 1:]),
            "feature_loss": (exists[:, 1:] & exists[:, :-1]).sum(),
            "distillation_loss": batch["teacher_mask"].sum() if "teacher_mask" in batch else 0,
        }
        return torch.tensor([float(counts[name]) for name in COMPONENTS])

    def _num_moments(self, batch: dict) -> int:
        """Returns T, the number of moments in the windows of a batch."""
        if "video_features" in batch:
            return batch["video_features"].shape[1]
        config = self.accelerator.unwrap_model(self.model).config
        return batch["pixel_values_videos"].shape[-4] if config.clip_num_frames is None else config.num_frames

    def _zeros(self) -> torch.Tensor:
        """Returns a sum of losses and a count for each of `COMPONENTS`, float32 `(8, 2)`."""
        return torch.zeros(len(COMPONENTS), 2, device=self.args.device)

    def _keep(self, training: bool, losses: dict[str, torch.Tensor], counts: torch.Tensor):
        for number, (name, count) in enumerate(zip(COMPONENTS, counts, strict=True)):
            if name in losses:
                self._sums[training][number] += torch.stack([losses[name].detach() * count, count])

    def _means(self, training: bool) -> dict[str, float]:
        """Returns the mean of each loss over all processes since the last call, and resets the sums."""
        sums = self.accelerator.reduce(self._sums[training], reduction="sum")
        self._sums[training] = self._zeros()
        return {name: float(total / count) for name, (total, count) in zip(COMPONENTS, sums, strict=True) if count}

    def log(self, logs: dict[str, float], start_time: float | None = None):
        if "loss" in logs:
            logs = {**logs, **self._means(training=True)}
        super().log(logs, start_time)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs):
        self._sums[False] = self._zeros()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        means = self._means(training=False)
        weights = self._weights()
        output.metrics[f"{metric_key_prefix}_loss"] = sum(weights[name] * value for name, value in means.items())
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in means.items()})
        return output

    def predict_future(self, rows) -> np.ndarray:
        """Returns the scores of the next Z actions of rows, float32 `(N, Z, A)`, equal in every process.

        Args:
            rows (`datasets.Dataset`): Rows with `future_actions`. The student must have `config.num_future_actions`
                above 1.
        """
        self._predicts_future = True
        try:
            return np.asarray(self.predict(rows, metric_key_prefix="future").predictions, dtype=np.float32)
        finally:
            self._predicts_future = False

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Returns loss, action logits and labels of a batch. Rows that only fill up a batch do not count in the loss.

        In `predict_future` the logits are those of all steps.

        Raises:
            ValueError: If observed features or logits are not finite: every metric would be computed from NaN.
        """
        inputs = self._prepare_inputs(inputs)
        _check_observed_features(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = self._run(model, inputs)
            counted = self._without_repeated_rows(inputs, self.accelerator.gradient_state.remainder)
            of_counted = outputs if counted is inputs else self._run(model, counted)
            loss = self._total_loss(of_counted, counted, training=False)
        scores = outputs.future_logits if self._predicts_future else outputs.logits
        check_scores(scores)
        return loss, scores.detach(), inputs["labels"]


def _num_labelled(labels: torch.Tensor) -> int:
    return int((labels != UNLABELLED).sum())


def _check_observed_features(batch: dict):
    features, mask = batch.get("video_features"), batch.get("frame_mask")
    if features is not None:
        observed = features if mask is None else features[mask.bool()]
        check_features(observed, "video_features of observed frames", "extract them again")
