"""Colours, fonts, header and pages of panels, the same for every figure.

Fonts are those of mplhep's experiment styles; sizes are chosen here, since those styles are made for single plots on
slides. Colours are the six of Petroff (arXiv:2107.02270), told apart by readers with any colour vision; markers and
line styles repeat what colours say.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from corrections.results import Interval
    from report.settings import ReportSettings

BLUE, ORANGE, RED, PURPLE, GREY, VIOLET = "#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd"
BLACK, DARK_BLUE = "#000000", "#1845a8"
SHADED = (BLUE, ORANGE, RED, PURPLE, GREY, VIOLET, DARK_BLUE)

PAGE_WIDTH = 12.5
HEADER_HEIGHT = 0.85
PT_TICKS = (20, 30, 50, 100, 200, 300, 500, 1000, 2000, 3000, 5000)


@contextmanager
def experiment_style(settings: ReportSettings) -> Iterator[None]:
    """Fonts, ticks and sizes while figures are made and saved; the caller's are back afterwards."""
    with mpl.rc_context(_style_of(settings.style)):
        yield


@cache
def _style_of(style: str) -> Any:
    chosen = {key: value for key, value in getattr(mplhep.style, style).items() if key in mpl.rcParams}
    ours = {
        "font.size": 12,
        "axes.labelsize": 13,
        "axes.titlesize": 12,
        "axes.linewidth": 1,
        "axes.labelpad": 4,
        "axes.autolimit_mode": "data",
        "mathtext.default": "regular",
        # Hinted to whole pixels, small letters lose their dots and spaces.
        "text.hinting": "none",
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
        "xtick.major.size": 5,
        "ytick.major.size": 5,
        "xtick.minor.size": 2.5,
        "ytick.minor.size": 2.5,
        "xtick.major.pad": 4,
        "xtick.minor.visible": False,
        "ytick.minor.visible": False,
        "lines.linewidth": 1.5,
        "lines.markersize": 4.5,
        "legend.fontsize": 11,
        "legend.borderpad": 0.3,
        "font.family": [chosen["font.sans-serif"][0]],
    }
    return {**chosen, **ours}


def new_figure(width: float, height: float) -> Figure:
    """Empty figure in inches that no global register holds."""
    return Figure(figsize=(width, height))


def header(figure: Figure, settings: ReportSettings, title: str = "") -> None:
    """Experiment and label on the left, energy and luminosity on the right, the figure's subject between them."""
    width, height = figure.get_size_inches()
    margin, is_atlas = 0.12 / width, settings.style == "ATLAS"
    place: dict[str, Any] = {"y": 1 - 0.3 / height, "va": "baseline"}

    def write(x: float, text: str, **look: Any) -> Any:
        return figure.text(x, s=text, **place, **text_options(text), **look)

    name = write(margin, settings.name, weight="bold", style="italic" if is_atlas else "normal", size=16)
    gap = _width_of(name, figure) + 0.08 / width if settings.name else 0.0
    write(margin + gap, settings.label, size=15, style="normal" if is_atlas else "italic")
    write(1 - margin, _conditions(settings), size=13, ha="right")
    write(0.5, title, size=14, ha="center")


def text_options(text: str) -> dict[str, Any]:
    """How words are drawn: never as TeX, since users' names may hold dollar signs, and with a second font for symbols.

    Each font costs time for every text, so that it is named only where the experiment's own may lack a symbol.
    """
    fonts = {} if text.isascii() else {"family": [*mpl.rcParams["font.family"], "DejaVu Sans"]}
    return {"parse_math": False, **fonts}


def _width_of(text: Any, figure: Figure) -> float:
    return float(text.get_window_extent().width / figure.bbox.width)


def _conditions(settings: ReportSettings) -> str:
    energy = "" if settings.com is None else f"√s = {settings.com:g} TeV"
    lumi = "" if settings.lumi is None else f"{settings.lumi:g} fb⁻¹"
    return ", ".join(part for part in (energy, lumi) if part)


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as what its name ends in; the same figure gives the same bytes, so no date is written."""
    kind = path.suffix.removeprefix(".")
    if kind == "png":
        path.write_bytes(png(figure, dpi))
        return
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    figure.savefig(path, format=kind, dpi=dpi, metadata=metadata)


def png(figure: Figure, dpi: int) -> bytes:
    """Figure as PNG with a palette: a third of the size and a quarter of the time of one in full colours."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    colours = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    pixels = Image.fromarray(np.ascontiguousarray(colours))
    target = io.BytesIO()
    pixels.quantize(palette=_palette(), dither=Image.Dither.NONE).save(target, "png", compress_level=6, dpi=(dpi, dpi))
    return target.getvalue()


@cache
def _palette() -> Image.Image:
    """Shades of the colours above on the way to white, and greys: 256 at most."""
    colours = np.array([to_rgb(colour) for colour in (*SHADED, "black")])
    # Nothing paler than this: the quantiser would take it for white.
    paleness = np.linspace(0, 0.93, 27)[:, np.newaxis, np.newaxis]
    shades = (colours * (1 - paleness) + paleness).reshape(-1, 3)
    table = np.concatenate([[[1.0, 1.0, 1.0]], shades, np.repeat(np.linspace(0, 0.95, 39)[:, np.newaxis], 3, axis=1)])
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(255 * table).astype(np.uint8).ravel().tolist())
    return palette


def eta_text(eta: Interval) -> str:
    """Range of |eta| in words."""
    return f"{eta.low:g} ≤ |η| < {eta.high:g}"


def pt_text(pt: Interval) -> str:
    """Range of pT for a heading inside a figure."""
    return f"{pt.low:g} to {pt.high:g} GeV"


def span(
    values: Sequence[float] | np.ndarray[Any, Any], errors: Sequence[float] | np.ndarray[Any, Any]
) -> tuple[float, float] | None:
    """Range of the values with their errors, an error counted at most thrice the typical one; None without values."""
    value, error = np.asarray(values, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    finite = np.isfinite(value)
    if not finite.any():
        return None
    value, error = value[finite], np.nan_to_num(error[finite], nan=0.0, posinf=0.0)
    error = np.minimum(error, 3 * np.median(error[error > 0])) if error.any() else error
    return float((value - error).min()), float((value + error).max())
