"""The commands that show results: as text, as a picture, as a page."""

from __future__ import annotations

from pathlib import Path

import click

from mcsim.cli.asking import as_usage, complete, existing
from mcsim.cli.saying import say


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path) -> None:
    """Summarise the result, or the part of one, in FILE."""
    from mcsim.api import open as open_result
    from mcsim.results import is_checkpoint, label, read_part, summarise

    if is_checkpoint(existing(file)):
        click.echo(summarise(label(read_part(file))))
        return
    with open_result(existing(file)) as dataset:
        click.echo(complete(summarise, dataset, file))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Picture; default: FILE with .png."
)
def plot(file: Path, output: Path | None) -> None:
    """Draw the result in FILE: causes, distribution, and who waits (extra `plot`)."""
    from mcsim.api import open as open_result
    from mcsim.results import check_writable
    from mcsim.results.plot import check_format, draw

    source = existing(file)
    target = output if output is not None else source.with_suffix(".png")
    for check in (check_format, check_writable):
        as_usage(check, target)
    with open_result(source) as dataset:
        complete(lambda whole: draw(whole, target), dataset, file)
    say(f"wrote {target}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Page, .html.")
def report(files: tuple[Path, ...], output: Path) -> None:
    """Make one page of HTML of the results in FILES (extra `plot`).

    Of each: summary, picture, estimates with units, scenario and provenance. The page needs
    nothing else, not even a network.
    """
    from mcsim.results.report import check_page, write_report

    as_usage(check_page, output)
    write_report([existing(file) for file in files], output)
    say(f"wrote {output}")


SHOWING = (show, plot, report)
