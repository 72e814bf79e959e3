"""Printed comparisons."""

from avt_distill.evaluation.comparison import calibration_text, comparison_text


def test_a_comparison_is_printed_in_aligned_columns_without_a_p_value_where_none_applies():
    row = {"baseline": 7.5, "candidate": 100.0, "difference": 92.5, "low": -1.25, "high": 95.0, "p_value": 0.03125}
    rows = [{"measure": "accuracy", **row, "mcnemar": {"p_value": 0.5}}, {"measure": "recall", **row}]
    title, header, accuracy, recall = comparison_text(rows, 1200, confidence=0.9).splitlines()
    assert title == "1200 rows, 1 pair of files; intervals of 90 %"
    cells = {"baseline": "7.50", "candidate": "100.00", "difference": "+92.50", "over rows": "[-1.25, +95.00]"}
    for line in (accuracy, recall):
        for column, cell in cells.items():
            assert line.index(cell) + len(cell) == header.index(column) + len(column)
    assert accuracy.split()[-2:] == ["0.0312", "0.5000"]
    assert recall.split()[-1] == "0.0312"


def test_calibration_is_printed_without_a_column_of_mcnemar():
    row = {"baseline": 1.2345, "candidate": 1.0, "difference": -0.2345, "low": -0.3, "high": -0.1, "p_value": 0.03125}
    title, header, line = calibration_text([{"measure": "log loss", **row}]).splitlines()
    assert title.startswith("Probabilities, lower is better")
    assert header.split() == ["baseline", "candidate", "difference", "over", "rows", "p"]
    assert line.split() == ["log", "loss", "1.234", "1.000", "-0.234", "[-0.300,", "-0.100]", "0.0312"]
