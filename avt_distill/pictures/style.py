"""The style that all pictures share: colors, text, and how a figure is made and saved."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..runs.folder import whole_file

# Six of Okabe and Ito's colors, then colors of Paul Tol's and matplotlib's palettes, each the farthest from those so
# far. Any two, and OTHER, differ by at least 0.058 in OKLab, also under protanopia and deuteranopia (tab20: 0.007). The
# first seven and OTHER, which are visible on light and dark pages, are also those of space/timeline.py.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#843C39", "#AA3377", "#DBDB8D")
COLORS += ("#332288", "#661100", "#99DDFF", "#74C476", "#AD494A", "#CC3311", "#6699CC", "#EE7733", "#EE6677")
OTHER, GREY, LINE = "#BBBBBB", "#57606A", "#D0D7DE"
HIT, MISS = "#006B6B", "#C04000"  # darker than COLORS, to be read as text
SMALL_PT = 7
DPI, MAX_HEIGHT_PX = 130, 64_000  # Agg draws at most 2^16 pixels a side
LETTERS_PER_INCH = 11  # of a title
STYLE = {
    "text.parse_math": False,
    "figure.titlesize": 11,
    "figure.constrained_layout.hspace": 0,  # it is a share of the height, of which a table may have a lot
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.borderaxespad": 0,
}


@contextmanager
def picture(
    path: str | Path, width: float, height: float, title: str, text_pt: float = 9.5, mark: str = ""
) -> Iterator:
    """Yields an empty `Figure` in the shared style. On exit, saves it as a PNG, cropped to what was drawn.

    Args:
        path (`str` or `Path`): PNG to write.
        width, height (`float`): Size before cropping, in inches. The resolution is lowered if the PNG would
            otherwise exceed 64,000 pixels in height.
        title (`str`): Text above the picture. Long lines are wrapped.
        text_pt (`float`, *optional*, defaults to 9.5): Size of text, but for the title.
        mark (`str`, *optional*): Written to the file, so that `runs.outputs` recognizes the command that created it.
    """
    from matplotlib import rc_context  # of an extra
    from matplotlib.figure import Figure

    with rc_context({**STYLE, "font.size": text_pt}):
        figure = Figure(figsize=(width, height), layout="constrained")
        lines = [textwrap.fill(line, int(width * LETTERS_PER_INCH)) for line in title.splitlines()]
        figure.suptitle("\n".join(lines), x=0.004, ha="left")
        yield figure
        dpi = min(DPI, MAX_HEIGHT_PX / height)
        options = {"bbox_inches": "tight", "pad_inches": 0.15, "format": "png", "metadata": {"Source": mark}}
        with whole_file(path) as partial:
            figure.savefig(partial, dpi=dpi, **options)


def shortened(name: str, length: int = 26) -> str:
    """Returns a name of at most `length` letters, the last of them an ellipsis if some are left out."""
    return name if len(name) <= length else f"{name[: length - 1]}\N{HORIZONTAL ELLIPSIS}"
