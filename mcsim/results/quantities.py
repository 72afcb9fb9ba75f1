"""The estimates of any result as tables: over all clusters, with errors and units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from mcsim.results.summary import with_error
from mcsim.tables import Table

MOST_ROWS = 200
"""Of a table."""


def quantities(dataset: xr.Dataset) -> list[tuple[str, Table, int]]:
    """What each table is over, the table, and how many rows it lacks.

    Single numbers are rows of the first; of the others, variables are columns, over the labels of
    their dimensions and what else there is along these. What is of single clusters is left out.
    """
    by_dims: dict[tuple[str, ...], list[str]] = {}
    for name, variable in dataset.data_vars.items():
        dims = tuple(str(dim) for dim in variable.dims)
        if "replicate" not in dims and not str(name).endswith("stderr"):
            by_dims.setdefault(dims, []).append(str(name))
    tables = []
    if () in by_dims:
        rows = [_row(dataset, name) for name in by_dims.pop(())]
        header = ["variable", "what it is", "value", "std. error", "unit"]
        tables.append(("of the whole", Table(header, rows, left=(0, 1, 4)), 0))
    for dims, names in by_dims.items():
        tables.append((f"by {', '.join(dims)}", *_over(dataset, dims, names)))
    return tables


def _row(dataset: xr.Dataset, name: str) -> list[str]:
    attrs = dataset[name].attrs
    error = f"{name}_stderr"
    value, around = _with_error(
        dataset[name].item(), dataset[error].item() if error in dataset else 0
    )
    return [name, attrs.get("long_name", ""), value, around, attrs.get("units", "")]


def _over(dataset: xr.Dataset, dims: tuple[str, ...], names: list[str]) -> tuple[Table, int]:
    along = [
        str(name)
        for name, one in dataset.coords.items()
        if name not in dims and one.dims and set(one.dims) <= set(dims)
    ]
    columns = [*(dim for dim in dims if dim in dataset.coords), *along, *names]
    cells = [_column(dataset, name, dims) for name in columns]
    sizes = [range(dataset.sizes[dim]) for dim in dims]
    places = [*itertools.islice(itertools.product(*sizes), MOST_ROWS)]
    rows = [[cell(place) for cell in cells] for place in places]
    header = [_titled(dataset[name], name, brief=name in dims) for name in columns]
    words = [at for at, name in enumerate(columns) if dataset[name].dtype.kind not in "iufb"]
    missing = math.prod(len(size) for size in sizes) - len(rows)
    return Table(header, rows, left=(0, *words)), missing


def _column(
    dataset: xr.Dataset, name: str, dims: tuple[str, ...]
) -> Callable[[tuple[int, ...]], str]:
    """What a variable is at a place along `dims`, as text, with its error where it has one."""
    axes = [dims.index(str(dim)) for dim in dataset[name].dims]
    values = dataset[name].to_numpy()
    error = f"{name}_stderr"
    errors = dataset[error].to_numpy() if error in dataset else np.zeros(values.shape)

    def cell(place: tuple[int, ...]) -> str:
        here = tuple(place[axis] for axis in axes)
        value, around = _with_error(values[here].item(), errors[here].item())
        return f"{value} ± {around}" if around else value

    return cell


def _titled(variable: xr.DataArray, name: str, *, brief: bool) -> str:
    """The head of a column; its second line, where it is not brief, says what it is."""
    units, what = (variable.attrs.get(key, "") for key in ("units", "long_name"))
    # What is counted, named or a share has no unit to speak of.
    unit = "" if units in ("", "1") else f", {units}"
    return f"{name}{unit}" if brief else f"{name}{unit}\n{what}"


def _with_error(value: Any, error: float) -> tuple[str, str]:
    """As `with_error`; an error that is not known is no small one."""
    if isinstance(value, str):
        return value, ""
    if np.isnan(error):
        return _plain(value), "unknown"
    shown, around = with_error(float(value), error)
    return (shown, around) if around else (_plain(value), "")


def _plain(value: float) -> str:
    if math.isnan(value):
        return "none"
    whole = float(value).is_integer() or abs(value) >= 1e5
    return f"{value:,.0f}" if whole and abs(value) < 1e15 else f"{value:.6g}"
