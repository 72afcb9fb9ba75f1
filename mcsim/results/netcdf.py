"""Result files: written whole or not at all, and read back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr
from xarray.backends import NetCDF4DataStore

from mcsim.errors import ResultError
from mcsim.results import sums
from mcsim.results.files import check_writable, replacing
from mcsim.results.part import Part
from mcsim.results.sums import MOST_COMPRESSED
from mcsim.signature import is_netcdf


def check_output(path: Path) -> None:
    """Raise ResultError where a result could not be written later, or would replace no result.

    A scenario, or any other file that is not NetCDF, is not replaced. Leaves no trace.
    """
    check_writable(path)
    if "\\" in str(path.resolve()):
        raise ResultError(f"{path}: the NetCDF library reads backslashes as slashes; name another")
    if path.exists() and path.stat().st_size > 0 and not is_netcdf(path):
        raise ResultError(f"{path}: exists and is no result (not NetCDF); it is not replaced")


def write(dataset: xr.Dataset, path: str | Path, part: Part | None = None) -> None:
    """Write a Dataset as NetCDF-4, whole or not at all.

    A file that is no result, as a scenario, is not replaced.
    It goes to a temporary file in the same directory, is synced to the disk, read back, and only
    then takes the name; a file of that name stays as it was until then, and readers that have it
    open keep it. Compressed with zlib and shuffle, which every reader of NetCDF-4 knows.
    part: what the Dataset was made of; with it behind the NetCDF, a longer run, or a merge, can go
    on from the file. Raises ResultError.
    """
    path = Path(path)
    check_output(path)
    size = dataset.nbytes
    try:
        with replacing(path) as temporary:
            write_netcdf(dataset, temporary)
            _check(dataset, temporary)
            if part is not None:
                sums.append(part, temporary)
    except (OSError, RuntimeError) as error:
        reason = _reason(error, path.resolve(), size)
        raise ResultError(
            f"{path}: cannot write the result ({size:,} bytes before compression): {reason};"
            " what was there before is unchanged"
        ) from error


def write_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset into a new file, as it comes: `write` is for results."""
    packed: dict[str, object] = {"zlib": True, "shuffle": True, "complevel": 4}
    encoding = {
        str(name): {**(packed if variable.ndim and variable.dtype.kind != "U" else {})}
        for name, variable in dataset.variables.items()
    }
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "f":
            # Coordinates and complete data have no missing values; a fill value says otherwise.
            encoding[str(name)]["_FillValue"] = None
    # Not by `to_netcdf`, which imports Dask where it is installed: half a second of every run.
    with netCDF4.Dataset(path, "w", format="NETCDF4") as file:
        store = NetCDF4DataStore(file)  # type: ignore[no-untyped-call]
        dataset.dump_to_store(store, encoding=encoding)


def _check(dataset: xr.Dataset, path: Path) -> None:
    """Read the file back: all variables there, of their shapes, the attributes readable."""
    with netCDF4.Dataset(path) as file:
        for name, variable in dataset.variables.items():
            if file.variables[str(name)].shape != variable.shape:
                raise OSError(errno.EIO, f"{name} reads back with another shape")
            file.variables[str(name)][...]
        for name, value in dataset.attrs.items():
            # What is not a number is the same as what is not a number.
            if not np.array_equal(file.getncattr(name), value, equal_nan=isinstance(value, float)):
                raise OSError(errno.EIO, f"the attribute {name} reads back differently")


def _reason(error: Exception, target: Path, size: int) -> str:
    # The HDF5 library says no more than "HDF error"; look for the usual causes.
    try:
        free = os.statvfs(target.parent)
        left = free.f_bavail * free.f_frsize
    except OSError as gone:
        return gone.strerror or str(gone)
    if left < max(size, 1 << 20):
        return f"no space left on the disk ({left:,} bytes free)"
    reason = getattr(error, "strerror", None) or f"{error} (a limit on file sizes, or a full disk?)"
    return reason + _advice(error)


_LOCKING = (errno.EAGAIN, errno.ENOLCK, errno.ENOTSUP, -101)
"""Errors that HDF5's locks cause, where others hold them or the file system has none; the last is
HDF5's only word for any."""


def _advice(error: Exception) -> str:
    if getattr(error, "errno", None) not in _LOCKING:
        return ""
    return "; if nobody else has it open, set HDF5_USE_FILE_LOCKING=FALSE: its disk knows no locks"


def open_result(path: Path) -> xr.Dataset:
    """A result of mcsim, read lazily; close it or use it in a `with`. Raises ResultError."""
    stored_scenario(path)
    try:
        dataset = xr.open_dataset(path, engine="netcdf4")
    except (OSError, RuntimeError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read: {error}{_advice(error)}") from None
    if dataset.nbytes > MOST_COMPRESSED * path.stat().st_size:
        dataset.close()
        raise ResultError(f"{path}: is made by hand: it claims to hold {dataset.nbytes:,} bytes")
    return dataset


def stored_scenario(path: Path) -> str:
    """The canonical scenario that a result was computed from, as TOML. Raises ResultError."""
    if not path.exists():
        raise ResultError(f"{path}: no such file")
    try:
        if path.is_file() and sums.is_checkpoint(path):
            raise ResultError(f"{path}: is a checkpoint, not a result; `mcsim show` says of what")
        if not is_netcdf(path):
            raise ResultError(f"{path}: is not NetCDF; scenarios are for `mcsim check` and `run`")
        with netCDF4.Dataset(path) as file:
            text = getattr(file, "scenario", None)
    except (OSError, RuntimeError) as error:
        reason = f"{error}{_advice(error)}"
        raise ResultError(f"{path}: is not a NetCDF file that can be read: {reason}") from None
    if not isinstance(text, str):
        raise ResultError(f"{path}: is not a result of mcsim: it has no attribute `scenario`")
    return text
