"""Pages: whole, needing nothing else, holding every figure, and harmless whatever is in a file."""

import re
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from drawn import KINDS, asked, made

import mcsim
from mcsim.cli import main
from mcsim.errors import ResultError
from mcsim.results import sums
from mcsim.results.quantities import MOST_ROWS, quantities
from mcsim.results.summary import paragraphs
from mcsim.tables import Table

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "base", "embed", "source"}
HOSTILE = "<script>alert('x')</script> & $a_b$ \"<b>\" ]]> <!-- &lt; ünï"


class Page(HTMLParser):
    """Elements, attributes and texts; every element has to be closed in its turn."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes = [], [], []
        self.cells, self.texts, self.texts_of = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        # Outside of SVG HTML knows no elements that close themselves.
        assert "svg" in self.open
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        raise AssertionError(data)

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
            self.texts_of.setdefault(self.open[-1], []).append(data)
        if {"td", "th"} & {*self.open}:
            self.cells[-1] += data

    @property
    def text(self):
        return "".join(self.texts)


def page_of(directory, *results):
    """The page of some Datasets, and the parsed one."""
    paths = []
    for number, result in enumerate(results):
        paths.append(directory / f"{number}.nc")
        mcsim.write(result, paths[-1])
    mcsim.report(paths, directory / "page.html")
    text = (directory / "page.html").read_text(encoding="utf-8")
    return text, Page(text)


def pictures(text):
    return re.findall(r"<svg.*?</svg>", text, re.DOTALL)


@pytest.fixture(scope="module", params=KINDS)
def paged(request, tmp_path_factory):
    """A result of each kind, its page, and the parsed one."""
    result = made(request.param)
    return result, *page_of(tmp_path_factory.mktemp(request.param), result)


@pytest.fixture(scope="module")
def hostile():
    return mcsim.run(asked(HOSTILE, (HOSTILE, "new"), steps=4))


def test_a_page_holds_every_figure_of_the_summary(paged):
    result, _, page = paged
    there = {cell.strip() for cell in page.cells}
    tables = 0
    for part in paragraphs(result):
        if isinstance(part, Table):
            tables += 1
            wanted = {cell for row in (part.header, *part.rows) for cell in row}
            assert wanted <= there | {""}
        else:
            assert part in page.text
    assert page.tags.count("table") == tables + len(quantities(result)) + 1


def test_a_page_needs_nothing_else(paged):
    _, text, page = paged
    assert text.startswith("<!doctype html>")
    assert not re.search("https?:|//|@import", text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "image"} & {
        *page.tags
    }
    names = {name for name, _ in page.attributes}
    assert not {"src", "srcset", "action", "data", "poster", "background"} & names
    assert not [name for name in names if name.startswith("on") or ":" in name]
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    assert all(target.startswith("#") for target in re.findall(r"url\((.)", text))


def test_a_page_says_where_the_result_comes_from(paged):
    result, text, page = paged
    for name in ("source", "seed", "generator", "library_versions", "scenario_hash", "history"):
        assert str(result.attrs[name]) in page.cells, name
    assert "complete" in page.cells
    (toml,) = re.findall(r"<details>.*?<pre>(.*?)</pre>", text, re.DOTALL)
    assert unescape(toml) == result.attrs["scenario"]


def test_the_picture_is_whole_and_told_in_words(paged):
    result, text, page = paged
    (svg,) = pictures(text)
    drawn = ElementTree.fromstring(svg)
    assert drawn.get("role") == "img"
    title, words = (drawn.find(name) for name in ("title", "desc"))
    assert drawn.get("aria-labelledby") == f"{title.get('id')} {words.get('id')}"
    assert title.text == result.attrs["title"]
    assert words.text.startswith("drawn: ")
    assert len(words.text) > 50
    assert "viewBox" in drawn.attrib
    assert "width" not in drawn.attrib
    assert "style" not in page.tags[page.tags.index("body") :]


def test_several_results_stand_on_one_page(tmp_path, hostile):
    results = [made("run"), made("comparison"), hostile]
    text, page = page_of(tmp_path, *results)
    assert len(pictures(text)) == page.tags.count("article") == 3
    names = [value for name, value in page.attributes if name == "id"]
    assert len(names) == len({*names})
    targets = {value[1:] for name, value in page.attributes if name == "href"}
    targets |= {*re.findall(r"url\(#(.*?)\)", text)}
    for name, value in page.attributes:
        if name == "aria-labelledby":
            targets |= {*value.split()}
    assert len(targets) > 10
    assert targets <= {*names}
    places = [text.index(f'<h2 id="result-{number}-title">') for number in (1, 2, 3)]
    assert places == sorted(places)
    for one in results:
        assert page.texts_of["h2"].count(one.attrs["title"]) == 1


def test_what_is_in_a_file_stays_text(tmp_path, hostile):
    worse = hostile.assign_attrs(history="</table></body><img src=x onerror=alert(1)>\x07\x1b")
    text, page = page_of(tmp_path, worse)
    assert "<script" not in text
    assert not {"b", "script", "img"} & {*page.tags}
    assert "onerror" not in {name for name, _ in page.attributes}
    assert page.texts_of["title"][0] == HOSTILE
    assert HOSTILE in page.cells
    assert "</table></body><img src=x onerror=alert(1)>\ufffd\ufffd" in page.cells
    # As the title and as the name of a group.
    (svg,) = pictures(text)
    shown = ElementTree.fromstring(svg)
    assert "".join(shown.itertext()).replace("\n", "").count("$a_b$") >= 2
    assert not [one for one in shown.iter() if one.tag in ("script", "b")]


def test_estimates_are_those_of_the_dataset_with_their_errors():
    run = made("run")
    tables = {over: table for over, table, missing in quantities(run) if not missing}
    whole = {row[0]: row for row in tables["of the whole"].rows}
    _, what, value, error, unit = whole["overall_step_time_mean"]
    assert what == run.overall_step_time_mean.attrs["long_name"]
    assert unit == "s"
    assert float(value) == pytest.approx(float(run.overall_step_time_mean), abs=float(error))
    assert float(error) == pytest.approx(float(run.overall_step_time_mean_stderr), rel=0.05)
    groups = tables["by group"]
    assert [row[0] for row in groups.rows] == ["old", "new"]
    column = [head.partition("\n")[0] for head in groups.header].index(
        "overall_device_time_mean, s"
    )
    for row, mean in zip(groups.rows, run.overall_device_time_mean.values, strict=True):
        value, _, error = row[column].partition(" ± ")
        assert float(value) == pytest.approx(mean, abs=float(error))
    said = {str(name) for name in run.data_vars if "replicate" not in run[name].dims}
    shown = {
        head.split(",")[0].split("\n")[0] for table in tables.values() for head in table.header
    }
    assert {name for name in said if not name.endswith("stderr")} <= shown | {*whole}


def test_a_table_that_is_too_long_says_what_is_missing():
    run = made("run")
    several = run[["overall_efficiency"]].expand_dims({"load": range(250)})
    ((over, table, missing),) = quantities(several)
    assert (over, len(table.rows), missing) == ("by load", MOST_ROWS, 250 - MOST_ROWS)
    assert table.rows[7][0] == "7"


def test_a_kind_without_tables_or_a_picture_has_a_page(tmp_path, monkeypatch):
    """Studies that only print their summary, and are not drawn."""

    def refuse(dataset):
        raise ResultError("has no picture")

    said = "first words\n\na   b\n-----\n1 < 2\n\nlast words"
    monkeypatch.setattr("mcsim.results.report.paragraphs", lambda dataset: [said])
    monkeypatch.setattr("mcsim.results.plot.figure_of", refuse)
    _, page = page_of(tmp_path, made("run"))
    assert page.texts_of["p"][:2] == ["first words", "last words"]
    assert page.texts_of["pre"][0] == "a   b\n-----\n1 < 2"
    assert "svg" not in page.tags
    assert "overall_step_time_mean" in page.cells


def test_the_command_makes_the_page(tmp_path):
    """The same page as in Python, to the byte."""
    results = [tmp_path / "compared.nc", tmp_path / "explained.nc"]
    mcsim.write(made("comparison"), results[0])
    mcsim.write(made("explanation"), results[1])
    page = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["report", *map(str, results), "-o", str(page)])
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert done.stderr == f"wrote {page}\n"
    mcsim.report(results, tmp_path / "same.html")
    assert page.read_bytes() == (tmp_path / "same.html").read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("files")
    run = tmp_path / "run.nc"
    mcsim.write(made("run"), run)
    (tmp_path / "half.nc").write_bytes(run.read_bytes()[:5000])
    (tmp_path / "a.checkpoint").write_bytes(sums.CHECKPOINT + b"...")
    (tmp_path / "a.toml").write_text('name = "a"')
    with mcsim.open(run) as dataset:
        mcsim.write(dataset.drop_vars("overall_efficiency"), tmp_path / "lacking.nc")
        part = dataset.assign_attrs(completeness="partial: 1 of 2 steps; `mcsim merge` joins it")
        mcsim.write(part, tmp_path / "part.nc")
    (tmp_path / "result.html").write_bytes(run.read_bytes())
    (tmp_path / "page.html").write_text("an older page")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "output", "code", "message"),
    [
        (["a.toml"], "page.html", 1, r"a\.toml: is not NetCDF"),
        (["a.checkpoint"], "page.html", 1, r"a\.checkpoint: is a checkpoint, not a result"),
        (["half.nc"], "page.html", 1, r"half\.nc: is not a NetCDF file that can be read"),
        (["lacking.nc"], "page.html", 1, r"lacking\.nc: is not a whole result: .*efficiency"),
        (["part.nc"], "page.html", 1, r"part\.nc: is a part of a result: partial: 1 of 2 steps"),
        (["run.nc", "half.nc"], "page.html", 1, r"half\.nc: is not a NetCDF file"),
        (["none.nc"], "page.html", 2, r"none\.nc: no such file"),
        (["run.nc"], "run.nc", 2, r"run\.nc: a page's name ends in \.html or \.htm"),
        (["run.nc"], "result.html", 2, r"result\.html: exists and is a result; it is not replaced"),
        (["run.nc"], "nowhere/page.html", 2, r"there is no directory .*nowhere"),
        (["run.nc"], "a.checkpoint", 2, r"a page's name ends in"),
        ([], "page.html", 2, r"Missing argument 'FILES\.\.\.'"),
    ],
)
def test_what_cannot_be_reported_is_said_and_nothing_is_lost(files, given, output, code, message):
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    paths = [str(files / name) for name in given]
    done = CliRunner().invoke(main, ["report", *paths, "-o", str(files / output)])
    assert done.exit_code == code
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.output
    if given:
        assert len(done.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_in_python_too(tmp_path):
    with pytest.raises(TypeError, match="give a list of names"):
        mcsim.report("run.nc", tmp_path / "page.html")
    with pytest.raises(ResultError, match="at least one result"):
        mcsim.report([], tmp_path / "page.html")
    with pytest.raises(ResultError, match="no such file"):
        mcsim.report([tmp_path / "none.nc"], tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_tables_are_the_printed_ones():
    table = Table(["a", "", "b"], [["1", "± 2", "x"]], left=(2,))
    assert str(table) == "a       b\n---------\n1  ± 2  x"
    assert np.shape(table.rows) == (1, 3)
