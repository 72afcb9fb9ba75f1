"""Who may import whom: the table of the design, held by reading the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mcsim"

# What modules of each part may import: other parts of mcsim, and packages.
ALLOWED = {
    "errors": (set(), set()),
    "signature": (set(), set()),
    "tables": (set(), set()),
    "threads": (set(), set()),
    "suggest": (set(), set()),
    "units": ({"errors"}, set()),
    "fields": ({"units"}, set()),
    "catalogue": ({"errors", "units", "suggest"}, set()),
    "laws": ({"errors", "units", "fields", "suggest", "catalogue"}, {"numpy", "scipy"}),
    "scenario": ({"errors", "units", "fields", "suggest", "catalogue", "laws"}, set()),
    "model": (
        {"errors", "units", "catalogue", "laws", "scenario", "tables", "threads"},
        {"numpy", "scipy"},
    ),
    "engine": ({"errors", "laws", "model", "threads"}, {"numpy", "numba"}),
    "results": (
        {
            "errors",
            "units",
            "laws",
            "scenario",
            "model",
            "engine",
            "signature",
            "suggest",
            "tables",
        },
        {"numpy", "scipy", "xarray", "netCDF4", "matplotlib"},
    ),
    "executors": ({"errors"}, {"distributed", "mpi4py"}),
    "batch": ({"errors", "scenario", "model", "engine", "results", "threads"}, set()),
    "study": (
        {
            "batch",
            "catalogue",
            "errors",
            "laws",
            "scenario",
            "model",
            "engine",
            "results",
            "suggest",
            "threads",
            "units",
        },
        {"numpy", "scipy", "xarray", "SALib"},
    ),
    "api": (
        {"errors", "scenario", "model", "engine", "results", "batch", "study", "signature"},
        {"xarray"},
    ),
    "cli": (
        {
            "errors",
            "units",
            "fields",
            "api",
            "batch",
            "catalogue",
            "executors",
            "laws",
            "scenario",
            "model",
            "results",
            "study",
            "signature",
            "suggest",
            "tables",
            "threads",
        },
        {"click", "xarray"},
    ),
    "__main__": ({"cli"}, set()),
    "__init__": ({"api", "errors", "results", "scenario"}, set()),
}
STANDARD = set(__import__("sys").stdlib_module_names)


def part_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports relatively"
            if node.module == "mcsim":
                yield from (f"mcsim.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: str(f.relative_to(PACKAGE))
)
def test_modules_import_only_what_the_design_allows(file):
    part = part_of(file)
    inside, outside = ALLOWED[part]
    for name in imports(file):
        package, _, rest = name.partition(".")
        if package == "mcsim":
            assert rest.partition(".")[0] in inside | {part}, f"{part} imports {name}"
        elif package not in STANDARD:
            assert package in outside, f"{part} imports {name}"


def test_heavy_modules_are_imported_inside_the_commands():
    tree = ast.parse((PACKAGE / "cli" / "main.py").read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top for alias in node.names} | {
        node.module for node in top if isinstance(node, ast.ImportFrom)
    }
    assert not any("numpy" in str(n) or "xarray" in str(n) or "engine" in str(n) for n in names)
