"""Comparisons, as they are printed."""

from avt_distill.evaluation.comparison import comparison_text


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
