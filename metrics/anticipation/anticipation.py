"""An `evaluate` metric around `avt_distill.metrics.anticipation_metrics`.

    metric = evaluate.load("metrics/anticipation")
    metric.add_batch(predictions=logits, references=labels)
    metric.compute(label_space=label_space, tail=tail)

It is loaded from this folder, without a network connection; the package `avt_distill` must be installed. In a
`Trainer`, call `anticipation_metrics` directly with the arrays of `compute_metrics`.
"""

# One import per line, and nothing after the name: `evaluate` parses imports with a regular expression by line.
import datasets
import evaluate

from avt_distill.metrics import anticipation_metrics


class Anticipation(evaluate.Metric):
    """Top-k accuracy and class-mean top-k recall of scores, in percent."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.Sequence(datasets.Value("float32")),
            "references": datasets.Value("int64"),
        }
        return evaluate.MetricInfo(
            description="Top-k accuracy and class-mean top-k recall of action anticipation, in percent.",
            citation="",
            inputs_description=anticipation_metrics.__doc__,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, **options) -> dict[str, float]:
        """Returns the metrics of scores `(N, A)` and labels `(N,)`; options are passed to `anticipation_metrics`."""
        return anticipation_metrics(predictions, references, **options)
