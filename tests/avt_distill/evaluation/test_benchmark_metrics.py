"""Printed tables of several models' metrics."""

from avt_distill.evaluation.benchmark_metrics import models_table


def test_models_table_has_a_line_for_each_model_and_a_column_for_each_metric_of_actions():
    teacher = {"action_top1_accuracy": 25.0, "action_top5_accuracy_tail": float("nan"), "verb_top1_accuracy": 50.0}
    bigrams = {**teacher, "action_top1_accuracy": 7.516}
    header, *lines = models_table({"teacher": teacher, "bigrams": bigrams}).splitlines()
    assert header.split() == ["top1", "accuracy", "top5", "accuracy", "tail"]
    assert [line.split() for line in lines] == [["teacher", "25.00", "-"], ["bigrams", "7.52", "-"]]
    assert len(header) == len(lines[0]) == len(lines[1])
