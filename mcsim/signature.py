"""What a file is, by how it begins; readers of files would be slow to import for this."""

from __future__ import annotations

from pathlib import Path

_NETCDF = (b"\x89HDF", b"CDF")


def is_netcdf(path: Path) -> bool:
    """Whether a file begins as NetCDF does. Raises OSError, ValueError for an impossible name."""
    with path.open("rb") as file:
        return file.read(4).startswith(_NETCDF)
