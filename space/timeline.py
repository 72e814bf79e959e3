"""A timeline of anticipated actions as HTML, with their times and probabilities, and a cursor."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape

# Six of Okabe and Ito's colors and one more, which color-blind people can distinguish on light and dark pages. The
# same as the first of avt_distill/pictures/style.py, which a Space does not have.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#843C39")
OTHER = "#BBBBBB"
TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
MOST_TICKS = 9
LISTED = 5  # of what was recognized

STYLE = """<style>
.timeline { position: relative; margin: 0 1.2em; font-size: 0.85rem; }
.timeline .bars { position: relative; height: 5em; border-bottom: 1px solid currentColor; }
.timeline .bars div { position: absolute; bottom: 0; min-width: 1px; }
.timeline .bars .cursor { top: 0; width: 0; min-width: 0; border-left: 2px solid currentColor; }
.timeline .bars .seen { height: 100%; background: currentColor; opacity: 0.12; }
.timeline .recognized { position: relative; height: 1.2em; margin-top: 0.3em; }
.timeline .recognized div { position: absolute; height: 100%; min-width: 1px; }
.timeline .axis { position: relative; height: 1.6em; }
.timeline .axis span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.timeline ul { display: flex; flex-wrap: wrap; gap: 0.2em 1.2em; list-style: none; margin: 0; padding: 0 !important; }
.timeline li { margin: 0 !important; display: flex; align-items: center; gap: 0.4em; overflow-wrap: anywhere; }
.timeline li i { flex: none; width: 0.9em; height: 0.9em; border-radius: 2px; }
</style>"""


def timeline_html(moments: Sequence[Mapping], chosen: int) -> str:
    """Returns the likeliest action of each moment, drawn at its anticipated start.

    With a reader, a band below shows the actions recognized by the chosen moment, and a list the last of them.

    Args:
        moments (`Sequence[Mapping]`): The pipeline's answer with `every`: `at_s`, `starts_at_s`, `anticipated`, and
            `history` with a reader.
        chosen (`int`): The moment whose observed window is shaded, and whose anticipated start the cursor marks.
    """
    best = [moment["anticipated"][0] for moment in moments]
    interval_s = moments[1]["at_s"] - moments[0]["at_s"] if len(moments) > 1 else max(moments[0]["at_s"], 1.0)
    end_s = moments[-1]["starts_at_s"] + interval_s
    # Colors depend on all moments, so that they do not change with the chosen one.
    recognized = [entry["label"] for moment in moments for entry in moment.get("history", [])[-1:]]
    labels = [*(answer["label"] for answer in best), *recognized]
    colors = colours_of(labels)

    def share(seconds: float) -> str:
        return f"{100 * seconds / end_s:.3f}%"

    bars = [
        f'<div title="{escape(answer["label"])}, {100 * answer["score"]:.0f} %" style="left: '
        f"{share(moment['starts_at_s'])}; width: {share(interval_s)}; height: {100 * answer['score']:.1f}%; "
        f'background: {colors.get(answer["label"], OTHER)}"></div>'
        for moment, answer in zip(moments, best, strict=True)
    ]
    now = best[chosen]
    seen_s = now["observed_until_s"] - now["observed_from_s"]
    observed = f'<div class="seen" style="left: {share(now["observed_from_s"])}; width: {share(seen_s)}"></div>'
    cursor = f'<div class="cursor" style="left: {share(now["starts_at_s"])}"></div>'
    axis = [f'<span style="left: {share(tick)}">{clock(tick)}</span>' for tick in ticks(end_s)]
    names = [*colors.items(), *([("other actions", OTHER)] if len(set(labels)) > len(colors) else [])]
    legend = [f'<li><i style="background: {color}"></i>{escape(name)}</li>' for name, color in names]
    return (
        f'{STYLE}<div class="timeline"><div class="bars">{observed}{"".join(bars)}{cursor}</div>'
        f'{_band(moments[chosen], colors, share)}<div class="axis">{"".join(axis)}</div><ul>{"".join(legend)}</ul>'
        f"{recognized_html(moments[chosen])}</div>"
    )


def _band(moment: Mapping, colors: Mapping[str, str], share: Callable[[float], str]) -> str:
    """Returns the actions recognized by a moment, each from its beginning to the next one's; "" without a reader."""
    if "history" not in moment:
        return ""
    history = moment["history"]
    ends = [*(entry["start_s"] for entry in history), moment["at_s"]][1:]
    actions = [
        f'<div title="recognized: {_words(entry)}" style="left: {share(entry["start_s"])}; '
        f"width: {share(end - entry['start_s'])}; opacity: {0.3 + 0.7 * entry['probability']:.2f}; "
        f'background: {colors.get(entry["label"], OTHER)}"></div>'
        for entry, end in zip(history, ends, strict=True)
    ]
    return f'<div class="recognized">{"".join(actions)}</div>'


def recognized_html(moment: Mapping) -> str:
    """Returns the last actions recognized by a moment as a sentence, newest first; "" without a reader.

    Args:
        moment (`Mapping`): With `at_s`, and with a reader `history`: of the pipeline's answers, or a stream's.
    """
    if "history" not in moment:
        return ""
    newest_first = moment["history"][: -LISTED - 1 : -1]
    words = "; ".join(map(_words, newest_first)) or "no action yet"
    return f"<p>Recognized by {clock(round(moment['at_s'], 1))}, newest first: {words}</p>"


def _words(entry: Mapping) -> str:
    return f"{escape(entry['label'])}, from {clock(round(entry['start_s'], 1))}, {100 * entry['probability']:.0f} %"


def colours_of(labels) -> dict[str, str]:
    """Returns a color for each of the most frequent labels."""
    return {label: color for (label, _), color in zip(Counter(labels).most_common(len(COLOURS)), COLOURS, strict=False)}


def ticks(end_s: float) -> list[float]:
    """Returns times for the axis, from 0 s to the end at most, a round number apart."""
    step = next((step for step in TICK_STEPS_S if end_s / step <= MOST_TICKS), TICK_STEPS_S[-1])
    return [number * step for number in range(int(end_s / step) + 1)]


def clock(seconds: float) -> str:
    """Returns a time as a viewer reads it: "7 s", "0.5 s", "2:05", "1:00:05"."""
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
