"""Results as one page of HTML that needs nothing else: words, tables, pictures, provenance."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import xarray as xr

from mcsim.errors import ResultError
from mcsim.results.files import check_writable, replacing
from mcsim.results.inline_svg import inline
from mcsim.results.netcdf import open_result
from mcsim.results.plot import require_matplotlib, svg_of
from mcsim.results.quantities import quantities
from mcsim.results.summary import paragraphs
from mcsim.results.sums import is_checkpoint
from mcsim.signature import is_netcdf
from mcsim.tables import Table

SUFFIXES = (".html", ".htm")

_FIRST = ("source", "completeness", "seed", "generator", "engine", "scenario_hash")
"""Of the provenance; the rest follows in its own order."""
_ELSEWHERE = ("scenario", "scenario_name", "title", "Conventions")
"""Attributes that are no rows of the provenance."""


def check_page(path: Path) -> None:
    """Raise ResultError where a page cannot be made, or not under this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise ResultError(f"{path}: a page's name ends in {' or '.join(SUFFIXES)}")
    require_matplotlib()
    check_writable(path)
    if path.exists() and (is_netcdf(path) or is_checkpoint(path)):
        raise ResultError(f"{path}: exists and is a result; it is not replaced")


def write_report(paths: Sequence[Path], output: Path) -> None:
    """Write the page of some results, whole or not at all. Raises ResultError."""
    check_page(output)
    if not paths:
        raise ResultError("a report needs at least one result")
    results = [_read(path, number) for number, path in enumerate(paths, 1)]
    page = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
    names = ", ".join(dict.fromkeys(one.name for one in results))
    text = page.substitute(
        title=_text(names),
        generator=_text(results[0].source),
        contents=_contents(results),
        articles="".join(_article(number, one) for number, one in enumerate(results, 1)),
    )
    try:
        with replacing(output) as temporary:
            temporary.write_bytes(text.encode("utf-8", "replace"))
    except OSError as failed:
        raise ResultError(f"{output}: cannot write the page: {failed.strerror}") from None


class _Result(NamedTuple):
    """What a page shows of a result; body: HTML."""

    name: str
    title: str
    source: str
    body: str


def _read(path: Path, number: int) -> _Result:
    """A result, the so-manieth of its page."""
    with open_result(path) as dataset:
        try:
            attrs = dataset.attrs
            if str(attrs["completeness"]).startswith("partial"):
                raise ResultError(f"{path}: is a part of a result: {attrs['completeness']}")
            name, title, source = (str(attrs[one]) for one in ("scenario_name", "title", "source"))
            return _Result(name, title, source, "".join(_body(dataset, path, number)))
        except (KeyError, AttributeError) as error:
            raise ResultError(f"{path}: is not a whole result: {error}") from None
        except (OSError, RuntimeError) as error:
            raise ResultError(f"{path}: cannot be read: {error}") from None


def _contents(results: Sequence[_Result]) -> str:
    if len(results) == 1:
        return ""
    links = "".join(
        f'<li><a href="#result-{number}">{_text(one.title)}</a></li>\n'
        for number, one in enumerate(results, 1)
    )
    return f'<nav aria-label="Results">\n<ol>\n{links}</ol>\n</nav>\n'


def _article(number: int, result: _Result) -> str:
    return (
        f'<article id="result-{number}" aria-labelledby="result-{number}-title">\n'
        f'<h2 id="result-{number}-title">{_text(result.title)}</h2>\n{result.body}</article>\n'
    )


def _body(dataset: xr.Dataset, path: Path, number: int) -> Iterator[str]:
    for part in paragraphs(dataset):
        if isinstance(part, Table):
            yield _table(part)
        else:
            yield from map(_said, part.split("\n\n"))
    yield _picture(dataset, f"picture-{number}-")
    yield "<h3>Variables</h3>\n"
    for over, table, missing in quantities(dataset):
        yield _table(table, over)
        if missing:
            yield f"<p>and {missing:,} more rows</p>\n"
    yield "<h3>Where it comes from</h3>\n"
    yield _provenance(dataset, path)
    toml = _text(str(dataset.attrs["scenario"]))
    yield f"<details>\n<summary>The scenario (TOML)</summary>\n<pre>{toml}</pre>\n</details>\n"


def _said(text: str) -> str:
    """A paragraph; lines with columns stay as they are."""
    if re.search(r"^-{4,}$", text, re.MULTILINE):
        return f"<pre>{_text(text)}</pre>\n"
    return f'<p class="said">{_text(text)}</p>\n'


def _table(table: Table, caption: str = "") -> str:
    """A real table: columns without a name stand under the one before them."""
    heads: list[list[Any]] = []
    for at, cell in enumerate(table.header):
        if not cell and heads and heads[-1][0]:
            heads[-1][1] += 1
        else:
            heads.append([cell, 1, at in table.left])
    head = "".join(_head(cell, span, words) for cell, span, words in heads)
    rows = "".join(
        f"<tr>{''.join(_cell(cell, at, at in table.left) for at, cell in enumerate(row))}</tr>\n"
        for row in table.rows
    )
    label = _text(caption or table.header[0] or "summary")
    named = f"<caption>{_text(caption)}</caption>\n" if caption else ""
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{label}">\n<table>\n{named}'
        f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )


def _head(cell: str, span: int, words: bool) -> str:
    name, _, what = cell.partition("\n")
    over = f' colspan="{span}"' if span > 1 else ""
    kind = ' class="words"' if words else ""
    if not name:
        return f"<td{over}{kind}></td>"
    small = f" <small>{_text(what)}</small>" if what else ""
    return f'<th scope="col"{over}{kind}>{_text(name)}{small}</th>'


def _cell(cell: str, at: int, words: bool) -> str:
    if at == 0:
        return f'<th scope="row">{_text(cell)}</th>'
    kind = ' class="words"' if words else ""
    return f"<td{kind}>{_text(cell)}</td>"


def _picture(dataset: xr.Dataset, prefix: str) -> str:
    try:
        drawn, words = svg_of(dataset)
    except ResultError:
        # A kind of result that has no picture.
        return ""
    svg = inline(drawn, prefix, str(dataset.attrs["title"]), words)
    return f'<figure>\n<div class="wide" tabindex="0">\n{svg}\n</div>\n</figure>\n'


def _provenance(dataset: xr.Dataset, path: Path) -> str:
    attrs = dataset.attrs
    names = [*_FIRST, *(name for name in attrs if name not in (*_FIRST, *_ELSEWHERE))]
    known = [("file", path.name), *((name, attrs[name]) for name in names if name in attrs)]
    rows = "".join(
        f'<tr><th scope="row">{_text(name.replace("_", " "))}</th>'
        f"<td>{_text(str(value))}</td></tr>\n"
        for name, value in known
    )
    return f'<table class="provenance">\n<tbody>\n{rows}</tbody>\n</table>\n'


def _text(text: str) -> str:
    """A text as HTML shows it, whatever it holds."""
    safe = "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)
    return html.escape(safe)
