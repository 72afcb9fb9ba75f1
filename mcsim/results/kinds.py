"""What kind of result a Dataset is."""

from __future__ import annotations

import xarray as xr

_BY_DIMENSION = (
    ("piece", "part"),
    ("cause", "explanation"),
    # Before comparisons: a verdict may have remedies too.
    ("use", "verdict"),
    ("remedy", "comparison"),
)


def kind_of(dataset: xr.Dataset) -> str:
    """ "part", "explanation", "verdict", "comparison", the study of a sweep, or "run"."""
    if "study" in dataset.attrs:
        return str(dataset.attrs["study"])
    found = (kind for dimension, kind in _BY_DIMENSION if dimension in dataset.sizes)
    return next(found, "run")
