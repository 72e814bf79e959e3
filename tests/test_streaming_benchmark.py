"""The streaming benchmark runs, and compares like with like."""

import json

from benchmarks.streaming import main


def test_streaming_benchmark(tmp_path, capsys):
    output = tmp_path / "streaming.json"
    options = ["--tiny", "--num_layers", "1", "--num_frames", "3", "--num_actions", "7", "--repeats", "2"]
    main([*options, "--height", "240", "--width", "320", "--output", str(output)])
    result = json.loads(output.read_text())
    assert result["largest_difference_of_logits"] < 1e-6
    assert result["smallest_change_between_answers"] > 1e-5
    for kind in ("elapsed", "processor_time"):
        assert set(result[kind]) == {"stream", "whole_model", "whole_model_prepared"}
        assert result[kind]["stream"]["times_the_stream"] == 1
    assert "Logits differ" in capsys.readouterr().out
