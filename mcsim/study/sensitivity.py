"""Which key matters: Sobol indices of a sweep's estimates, by SALib.

The first-order index of a key is the part of the variance over all points that it explains by
itself, the total one what it explains with all others (Saltelli et al., Computer Physics
Communications 181, 2010). Points have the same random numbers, so that chance is no part of it.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import xarray as xr

from mcsim.errors import McsimError
from mcsim.results import axes_of

LEVEL = 0.95
_RESAMPLES = 200


def require_salib() -> None:
    """Raise McsimError where SALib is not there."""
    if find_spec("SALib") is None:
        raise McsimError("Sobol indices need SALib: pip install 'mcsim[salib]'")


def with_indices(dataset: xr.Dataset, seed: int) -> xr.Dataset:
    """A sweep whose points are laid out for it, with the indices of all its scalar estimates.

    Over `statistic` and `key`: `sobol_first` and `sobol_total`, and the half widths of their 95 %
    intervals by resampling. Not a number where an estimate is the same at all points, or is none at
    some. Raises McsimError where SALib is not there.
    """
    require_salib()
    from SALib.analyze import sobol

    axes = axes_of(dataset)
    names = [
        str(name)
        for name, one in dataset.data_vars.items()
        if str(name).startswith("overall_")
        and not str(name).endswith("_stderr")
        and one.dims == ("point",)
    ]
    # Only the number of the keys is asked for here, and their names where it prints.
    problem = {
        "num_vars": len(axes),
        "names": [axis.key for axis in axes],
        "bounds": [[0.0, 1.0]] * len(axes),
    }
    found = {name: np.full((len(names), len(axes)), np.nan) for name in _INDICES}
    for row, name in enumerate(names):
        values = dataset[name].to_numpy()
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            continue
        indices = sobol.analyze(
            problem,
            values,
            calc_second_order=False,
            num_resamples=_RESAMPLES,
            conf_level=LEVEL,
            # Of the resampling: SALib takes 0 for none, and older versions 32 bits.
            seed=1 + seed % (2**32 - 1),
        )
        for index, (theirs, _) in _INDICES.items():
            found[index][row] = np.asarray(indices[theirs])
    variables = {
        name: (("statistic", "key"), values, {"units": "1", "long_name": _INDICES[name][1]})
        for name, values in found.items()
    }
    coordinates = {
        "statistic": (
            ("statistic",),
            [name.removeprefix("overall_") for name in names],
            {"units": "1", "long_name": "estimate over all clusters"},
        ),
        "key": (
            ("key",),
            [axis.key for axis in axes],
            {"units": "1", "long_name": "key of the scenario"},
        ),
    }
    return dataset.assign(variables).assign_coords(coordinates)


_INDICES = {
    "sobol_first": ("S1", "part of the variance that the key explains by itself"),
    "sobol_first_half_width": ("S1_conf", "half width of the 95 % interval of sobol_first"),
    "sobol_total": ("ST", "part of the variance that the key explains with all others"),
    "sobol_total_half_width": ("ST_conf", "half width of the 95 % interval of sobol_total"),
}
"""The variables, what SALib calls them, and what they are."""
