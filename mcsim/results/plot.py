"""A result as a picture, by what it is a result of."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from mcsim.errors import ResultError
from mcsim.results.files import replacing
from mcsim.results.kinds import kind_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")


def require_matplotlib() -> None:
    """Raise ResultError where pictures cannot be drawn."""
    if find_spec("matplotlib") is None:
        raise ResultError("drawing needs matplotlib: pip install 'mcsim[plot]'")


def check_format(path: Path) -> None:
    """Raise ResultError where a picture cannot be drawn, or not in the format of the name."""
    if path.suffix not in FORMATS:
        raise ResultError(f"{path}: a picture's name ends in {', '.join(FORMATS)}")
    require_matplotlib()


def figure_of(dataset: xr.Dataset) -> Figure:
    """The picture of a result: of a run, an explanation or a comparison.

    Raises ResultError for what has none.
    """
    kind = kind_of(dataset)
    if kind == "part":
        raise ResultError("a part of a run is not drawn; `mcsim merge` joins it with the others")
    if kind == "verdict":
        raise ResultError("a verdict has no picture; `mcsim show` prints it")
    if kind == "explanation":
        from mcsim.results.plot_explained import draw_explanation

        return draw_explanation(dataset)
    if kind == "comparison":
        from mcsim.results.plot_compared import draw_comparison

        return draw_comparison(dataset)
    if kind != "run":
        from mcsim.results import plot_sweep

        return plot_sweep.figure_of(dataset)
    from mcsim.results.plot_run import draw_run

    return draw_run(dataset)


def draw(dataset: xr.Dataset, path: Path) -> None:
    """Draw a result into a file; its suffix chooses the format, and the same result has the same
    bytes. Raises ResultError."""
    check_format(path)
    # Dates would differ from picture to picture.
    undated = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}[path.suffix]
    try:
        with _drawing(), replacing(path) as temporary:
            figure = figure_of(dataset)
            figure.savefig(temporary, dpi=120, format=path.suffix[1:], metadata=undated)
    except OSError as failed:
        raise ResultError(f"{path}: cannot write the picture: {failed.strerror}") from None


def svg_of(dataset: xr.Dataset) -> tuple[str, str]:
    """The picture of a result as SVG, and in words: its title, its parts, what their axes are."""
    with _drawing():
        figure = figure_of(dataset)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue(), _in_words(figure)


@contextmanager
def _drawing() -> Iterator[None]:
    """Texts stay texts in SVG, the names in it do not depend on chance, and no font is missed."""
    from matplotlib import rc_context, rcParams

    with rc_context(), warnings.catch_warnings():
        rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "mcsim", "text.usetex": False})
        # Names may have characters that the font lacks.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        yield


def _in_words(figure: Figure) -> str:
    parts = []
    for axes in figure.axes:
        along = [text for text in (axes.get_xlabel(), axes.get_ylabel()) if text]
        parts.append(f"{axes.get_title() or 'bars'} ({'; '.join(along)})")
    words = f"{figure.get_suptitle()}. Shown: {'; '.join(parts)}."
    return words.replace(r"\$", "$").replace("\n", " ")
