"""What a file is, by how it begins; readers of files would be slow to import for this."""

from __future__ import annotations

from pathlib import Path

_NETCDF = (b"\x89HDF", b"CDF")


def is_netcdf(path: Path) -> bool:
    """Whether a file begins as NetCDF does; a pipe, which is read only once, is not looked at.

    Raises OSError, ValueError for an impossible name.
    """
    if path.is_fifo():
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(_NETCDF)
