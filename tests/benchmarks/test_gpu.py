"""One command for all measurements on a GPU: each case is measured, or recorded with the reason why it was not."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from helpers.parts_of_a_benchmark import end, hang

from benchmarks import gpu, gpu_parts
from benchmarks.gpu_parts import Case, Setting, run_cases


@pytest.fixture
def setting(tmp_path) -> Setting:
    return Setting("cpu", smallest=True, peaks={"bfloat16": 2.0, "float32": 1.0}, folder=tmp_path)


def figures() -> dict:
    return {"ms": 2.0}


def fails() -> dict:
    raise ValueError("The model is too large: take a smaller one.\nMore on it.")


def soon() -> float:
    return time.monotonic() + 100


def test_a_case_that_fails_or_is_unavailable_is_recorded_and_others_are_measured(tmp_path, capsys):
    cases = [Case(fails, {"n": 1}), Case(figures, {"n": 2}, unavailable="needs more"), Case(figures, {"n": 3})]
    run_cases(cases, soon(), tmp_path / "cases.json")
    failed, skipped, measured = json.loads((tmp_path / "cases.json").read_text())
    assert (failed["status"], failed["reason"]) == ("failed", "ValueError: The model is too large: take a smaller one.")
    assert skipped == {"labels": {"n": 2}, "status": "skipped", "reason": "needs more"}
    assert (measured["status"], measured["ms"], measured["labels"]) == ("measured", 2.0, {"n": 3})
    assert "Traceback" in capsys.readouterr().err


def test_cases_after_the_deadline_are_not_run(tmp_path):
    ends = time.monotonic() + 0.05
    cases = [Case(lambda: time.sleep(0.1) or figures()), Case(lambda: pytest.fail("was run"))]
    run_cases(cases, ends, tmp_path / "cases.json")
    records = json.loads((tmp_path / "cases.json").read_text())
    assert [record["status"] for record in records] == ["measured", "not run"]
    assert records[1]["reason"] == "out of time"


def test_a_part_that_crashes_keeps_what_it_measured(tmp_path):
    cases = gpu.in_process_until(soon(), tmp_path / "cases.json", end, 3, 3)
    assert [case["status"] for case in cases] == ["measured", "failed", "not run"]
    assert {case["reason"] for case in cases[1:]} == {"its process ended with exit code 3"}


@pytest.mark.parametrize(("exit_code", "num_records"), [(3, 0), (0, 0), (3, 1)])
def test_a_part_that_ends_outside_of_its_cases_has_failed(tmp_path, exit_code, num_records):
    cases = gpu.in_process_until(soon(), tmp_path / "cases.json", end, exit_code, num_records)
    assert len(cases) == num_records + 1
    assert cases[-1] == {"status": "failed", "reason": f"its process ended with exit code {exit_code}"}


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    cases = gpu.in_process_until(time.monotonic() + 2, tmp_path / "cases.json", hang, tmp_path / "process")
    assert [(case["status"], case.get("reason")) for case in cases] == [
        ("measured", None),
        ("not run", "out of time"),
        ("not run", "out of time"),
    ]
    stat = Path(f"/proc/{(tmp_path / 'process').read_text()}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_the_times_of_all_parts_are_under_eight_minutes():
    assert list(gpu.PART_SECONDS) == list(gpu_parts.PARTS)
    assert sum(gpu.PART_SECONDS.values()) < gpu.TOTAL_SECONDS < 480


def test_peaks_are_of_whole_devices_alone():
    assert gpu.peak_of("NVIDIA H200") == {"bfloat16": 989.4, "float32": 66.9}
    assert gpu.peak_of("NVIDIA H200 MIG 1g.18gb") is None
    assert gpu.peak_of("cpu") is None


RESULT = {
    "setting": "full",
    "machine": {
        **{"device": "NVIDIA L4", "memory_gb": 23.6, "cuda": "13.0", "processor": "EPYC", "cores": 8},
        **{"torch": "2.13.0", "transformers": "5.23.0", "flash-attn": None},
    },
    "peak_tflops": {"bfloat16": 121.0, "float32": 30.3},
    "total_s": 61.4,
    "parts": {
        "tests": {"took_s": 9, "cases": [{"labels": {}, "status": "measured", "passed": 21, "skipped": 1}]},
        "training, video": {
            "took_s": 30,
            "cases": [
                {
                    **{"labels": {"model": "avt_b", "way": "bfloat16, sdpa", "batch": 3}, "status": "measured"},
                    **{"ms": 1234.567, "clips_per_s": 2.43, "tflops": 2.6, "share_of_peak": 0.02149, "peak_mb": 6000.4},
                },
                {
                    **{"labels": {"model": "avt_b", "way": "bfloat16, flash"}, "status": "skipped"},
                    "reason": "flash_attention_2 needs flash-attn.",
                },
            ],
        },
        "streaming": {"took_s": 0, "cases": [{"status": "not run", "reason": "out of time"}]},
    },
}


def test_the_table_holds_every_figure_and_every_reason():
    assert gpu.markdown(RESULT).splitlines() == [
        "NVIDIA L4 (23.6 GB, CUDA 13.0), torch 2.13.0, transformers 5.23.0, flash-attn not installed; peak 121 TFLOP/s "
        "in bfloat16, 30.3 in float32; 61 s in total.",
        "",
        "Tests:",
        "",
        "| passed | skipped |",
        "| --- | --- |",
        "| 21 | 1 |",
        "",
        "Training, video:",
        "",
        "| model | way | batch | ms | clips/s | TFLOP/s | of peak | peak memory, MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| avt_b | bfloat16, sdpa | 3 | 1,234.57 | 2.4 | 2.6 | 2.1% | 6,000 |",
        "",
        "Not measured:",
        "",
        "- training, video, model avt_b, way bfloat16, flash: skipped: flash_attention_2 needs flash-attn.",
        "- streaming: not run: out of time",
    ]


def test_figures_of_a_cpu_are_marked_as_such():
    machine = {**RESULT["machine"], "device": "cpu", "memory_gb": None, "cuda": None}
    text = gpu.markdown({**RESULT, "machine": machine, "setting": "smallest", "peak_tflops": None})
    assert text.startswith("No GPU: EPYC, 8 cores, torch 2.13.0")
    assert "whose figures show only that the command works" in text


def test_a_failed_part_fails_the_command_after_the_others_are_written(tmp_path, monkeypatch):
    failed = {"took_s": 1.0, "cases": [{"status": "failed", "reason": "it broke"}]}
    measured = {"took_s": 1.0, "cases": [{"labels": {"dtype": "float32"}, "status": "measured", "rows_per_s": 5.0}]}
    monkeypatch.setattr(gpu, "run_part", lambda name, *rest: failed if name == "tests" else measured)
    output = tmp_path / "results" / "gpu.json"
    with pytest.raises(SystemExit, match="Some cases failed"):
        gpu.main(["--device", "cpu", "--parts", "tests", "soft labels", "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["parts"] == {"tests": failed, "soft labels": measured}
    assert (result["setting"], result["peak_tflops"]) == ("smallest", None)
    assert output.with_suffix(".md").read_text() == gpu.markdown(result)


def test_a_part_without_time_is_not_begun(monkeypatch):
    monkeypatch.setattr(gpu, "in_process_until", lambda *_: pytest.fail("was begun"))
    part = gpu.run_part("tests", gpu.parse_arguments(["--device", "cpu"]), None, time.monotonic() - 1)
    assert part["cases"] == [{"status": "not run", "reason": "out of time"}]


def eager(cases: list[Case]) -> list[Case]:
    return [case for case in cases if "compiled" not in case.labels.get("way", "")]


@pytest.mark.parametrize("part", ["training, features", "training, video", "streaming", "extraction", "soft labels"])
def test_figures_of_a_part_agree_with_each_other(part, setting, tmp_path):
    run_cases(eager(gpu_parts.PARTS[part](setting)), soon(), tmp_path / "cases.json")
    records = json.loads((tmp_path / "cases.json").read_text())
    measured = [record for record in records if record["status"] == "measured"]
    assert len(measured) >= 2
    assert [record["labels"]["way"] for record in records if record["status"] != "measured"] == (
        ["bfloat16, flash"] if "training" in part else []
    )
    for record in measured:
        assert record["fastest_ms"] <= record["ms"] <= record["slowest_ms"]
        assert record["peak_mb"] > 0
        if "clips_per_s" in record:
            assert record["clips_per_s"] == pytest.approx(record["labels"]["batch"] / record["ms"] * 1000)
        if "tflops" in record:
            peak = 2.0 if "bfloat16" in record["labels"]["way"] else 1.0
            assert record["share_of_peak"] == pytest.approx(record["tflops"] / peak)


@pytest.mark.parametrize(
    ("report", "status", "expected"),
    [
        ('<testcase name="a"/><testcase name="b"><skipped/></testcase>', 0, {"passed": 1, "skipped": 1}),
        ('<testcase name="a"/><testcase name="b"><failure/></testcase>', 1, r"1 of 2 tests failed \['b'\]"),
        (None, 4, "ended with exit code 4 before it ran a test"),
    ],
)
def test_failed_tests_are_named(report, status, expected, tmp_path, monkeypatch):
    path = tmp_path / "tests.xml"
    if report is not None:
        path.write_text(f"<testsuites><testsuite>{report}</testsuite></testsuites>")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], status))
    if isinstance(expected, dict):
        assert gpu_parts.run_tests(path) == expected
    else:
        with pytest.raises(RuntimeError, match=expected):
            gpu_parts.run_tests(path)


def test_a_variant_with_another_loss_is_refused(setting, monkeypatch):
    losses = iter([2.0, 2.5])
    measured = {"times": {"training": {"median_ms": 1, "fastest_ms": 1, "slowest_ms": 1}}, "peak_mb": {"training": 1}}
    monkeypatch.setattr(gpu_parts.step, "run", lambda args: {**measured, "loss": next(losses)})
    seen: dict[int, float] = {}
    gpu_parts.measure_training(setting, "tiny", "ours", 2, seen)
    with pytest.raises(AssertionError, match="ours_bf16 does not compute the same model: its loss differs"):
        gpu_parts.measure_training(setting, "tiny", "ours_bf16", 2, seen)
