"""The timeline of the Space's page."""

import re

import pytest

from space.timeline import STYLE, clock, colours_of, ticks, timeline_html


def moments(labels: list[str], every: float = 1.0, tau_a: float = 1.0) -> list[dict]:
    return [
        {
            "at_s": every * number,
            "starts_at_s": every * number + tau_a,
            "anticipated": [
                {
                    "label": label,
                    "score": 0.5,
                    "observed_from_s": max(0.0, every * number - 2),
                    "observed_until_s": every * number,
                    "starts_at_s": every * number + tau_a,
                }
            ],
        }
        for number, label in enumerate(labels, start=1)
    ]


def test_bars_are_at_the_starts_of_actions():
    html = timeline_html(moments(["cut", "cut", "mix"]), chosen=1)
    bars = re.findall(r"left: ([\d.]+)%; width: ([\d.]+)%; height: ([\d.]+)%; background: (#\w+)", html)
    assert [float(left) for left, *_ in bars] == pytest.approx([40, 60, 80])  # of 5 s
    assert {(float(width), float(height)) for _, width, height, _ in bars} == {(20, 50)}
    assert bars[0][3] == bars[1][3] != bars[2][3]
    assert 'class="cursor" style="left: 60.000%"' in html
    assert 'class="seen" style="left: 0.000%; width: 40.000%"' in html


def test_names_are_text():
    html = timeline_html(moments(["<script>alert(1)</script>"]), chosen=0)
    assert "<script>" not in html


def test_rare_actions_share_a_colour():
    labels = [f"action {number}" for number in range(20)]
    assert len(colours_of(labels)) == 7
    html = timeline_html(moments(labels), chosen=0)
    assert html.count("<li>") == 8
    assert "other actions" in html


def read(moments: list[dict], *history: tuple[str, float]) -> list[dict]:
    """Adds a reader's history to moments: each has recognized the actions that began before it."""
    for moment in moments:
        moment["history"] = [
            {"label": label, "action": 0, "start_s": start_s, "probability": 0.5}
            for label, start_s in history
            if start_s < moment["at_s"]
        ]
    return moments


def test_what_was_recognized_is_a_band_until_the_chosen_moment():
    timeline = read(moments(["cut", "cut", "mix"]), ("mix", 0.5), ("<b>serve</b>", 1.5))
    html = timeline_html(timeline, chosen=1)
    band = re.search(r'<div class="recognized">(.*?)</div></div>', html).group(1)
    places = re.findall(r"left: ([\d.]+)%; width: ([\d.]+)%; opacity: ([\d.]+); background: (#\w+)", band)
    assert [tuple(map(float, place[:3])) for place in places] == [(10, 20, 0.65), (30, 10, 0.65)]  # of 5 s
    legend = dict(re.findall(r'background: (#\w+)"></i>([^<]+)</li>', html))
    assert [legend[color] for *_, color in places] == ["mix", "&lt;b&gt;serve&lt;/b&gt;"]
    assert "Recognized by 2 s, newest first: &lt;b&gt;serve&lt;/b&gt;, from 1.5 s, 50 %; mix, from 0.5 s" in html
    assert "<b>" not in html
    assert "newest first: mix, from 0.5 s, 50 %</p>" in timeline_html(timeline, chosen=0)


def test_nothing_recognized_yet_and_no_reader():
    nothing = timeline_html(read(moments(["cut", "mix"])), chosen=0)
    assert '<div class="recognized"></div>' in nothing
    assert "newest first: no action yet" in nothing
    plain = timeline_html(moments(["cut", "mix"]), chosen=0)
    assert "ecognized" not in plain.replace(STYLE, "")


def test_colors_do_not_depend_on_the_chosen_moment():
    timeline = read(moments(["cut", "cut", "mix"]), ("mix", 0.5), ("serve", 2.5))
    legends = {re.search("<ul>.*</ul>", timeline_html(timeline, chosen)).group() for chosen in range(3)}
    assert len(legends) == 1


@pytest.mark.parametrize(("end_s", "expected"), [(3.0, "0.5"), (9.5, "2"), (100.0, "15"), (7200.0, "900")])
def test_ticks_are_round_and_few(end_s, expected):
    times = ticks(end_s)
    assert times[0] == 0
    assert f"{times[1]:g}" == expected
    assert end_s - times[1] < times[-1] <= end_s
    assert len(times) <= 10


def test_clock():
    assert [clock(s) for s in (0, 0.5, 59, 125, 3605)] == ["0 s", "0.5 s", "59 s", "2:05", "1:00:05"]
