"""The lines of keys: problems point to where a key stands in its file."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsim.scenario.lines import key_lines, line_of
from mcsim.scenario.toml import dumps


def leaves(value, path=""):
    """The paths of all values that are no tables, and of all tables, as problems name them."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        yield path, None
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


CASES = {
    "keys and comments": (
        "# first\na = 1 # one\n\n  b = 2\n# last",
        {"a": 2, "b": 4},
    ),
    "tables": (
        "a = 1\n[b]\nc = 1\n[b.d]\ne = 1\n[ f . g ]\nh = 1",
        {"a": 1, "b": 2, "b.c": 3, "b.d": 4, "b.d.e": 5, "f": 6, "f.g": 6, "f.g.h": 7},
    ),
    "a table below its own table": (
        "[a.b]\nc = 1\n[a]\nd = 1",
        {"a.b": 1, "a.b.c": 2, "a": 3, "a.d": 4},
    ),
    "arrays of tables in arrays of tables": (
        "[[a]]\nx = 1\n[[a.b]]\ny = 1\n[[a.b]]\ny = 1\n[a.b.c]\nz = 1\n[[a]]\n[[a.b]]\ny = 1\n[d]",
        {
            "a": 1,
            "a[0]": 1,
            "a[0].x": 2,
            "a[0].b": 3,
            "a[0].b[0]": 3,
            "a[0].b[0].y": 4,
            "a[0].b[1]": 5,
            "a[0].b[1].y": 6,
            "a[0].b[1].c": 7,
            "a[0].b[1].c.z": 8,
            "a[1]": 9,
            "a[1].b": 10,
            "a[1].b[0]": 10,
            "a[1].b[0].y": 11,
            "d": 12,
        },
    ),
    "inline tables in arrays over lines": (
        "a = [ # with a ] comment\n  { b = 1, c = [1, 2] },\n\n  { b = { d = 1 } }, # }\n]\ne = 1",
        {
            "a": 1,
            "a[0]": 2,
            "a[0].b": 2,
            "a[0].c": 2,
            "a[0].c[0]": 2,
            "a[0].c[1]": 2,
            "a[1]": 4,
            "a[1].b": 4,
            "a[1].b.d": 4,
            "e": 6,
        },
    ),
    "numbers over lines": (
        "a = [\n1,\n2\n,\n[3,\n4]]\nb = 1",
        {"a": 1, "a[0]": 2, "a[1]": 3, "a[2]": 5, "a[2][0]": 5, "a[2][1]": 6, "b": 7},
    ),
    "strings over lines that look like TOML": (
        'a = """\n[x]\nb = 1\n\\""" # no end """\nc = \'\'\'\n[[y]]\n\'\'\'\nd = 1',
        {"a": 1, "c": 5, "d": 8},
    ),
    "strings that end in quotation marks": (
        'a = """x"""""\nb = """"""\nc = \'\'\'\'x\'\'\'\'\'\nd = ""\n'
        'e = \'\'\nf = "\\\\"\ng = "\\""\nh = 1',
        {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8},
    ),
    "strings that hold delimiters": (
        'a = ["],}", \'#]\', "\\"]"]\nb = { c = "}", d = \'#\' }\ne = \'\\\'\nf = 1',
        {"a": 1, "a[0]": 1, "a[1]": 1, "a[2]": 1, "b": 2, "b.c": 2, "b.d": 2, "e": 3, "f": 4},
    ),
    "dotted keys": (
        "a.b.c = 1\na . b . d = 2\n[x]\ny.z = { p.q = 1 }",
        {
            "a": 1,
            "a.b": 1,
            "a.b.c": 1,
            "a.b.d": 2,
            "x": 3,
            "x.y": 4,
            "x.y.z": 4,
            "x.y.z.p": 4,
            "x.y.z.p.q": 4,
        },
    ),
    "quoted keys": (
        '"a.b" = 1\n\'c\' = 1\n["d e".\'f"g\']\n"" = 1\n"\\u0068" = 1\n[["i]"]]\n"#" = 1',
        {
            '"a.b"': 1,
            "c": 2,
            '"d e"': 3,
            '"d e"."f\\"g"': 3,
            '"d e"."f\\"g".""': 4,
            '"d e"."f\\"g".h': 5,
            '"i]"': 6,
            '"i]"[0]': 6,
            '"i]"[0]."#"': 7,
        },
    ),
    "other values": (
        "a = 1979-05-27 07:32:00\nb = +1e5\nc = 0x1F # x\nd = true\ne = [inf, -nan]\nf = 07:32:00",
        {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "e[0]": 5, "e[1]": 5, "f": 6},
    ),
    "tabs": ("\ta\t=\t1\t\n\t[\tb\t]\t# c\n\tc = 1", {"a": 1, "b": 2, "b.c": 3}),
    "nothing": ("", {}),
    "only comments": ("# a = 1\n\n# [b]", {}),
    "empty values": ("a = []\nb = {}\n[c]\n[[d]]", {"a": 1, "b": 2, "c": 3, "d": 4, "d[0]": 4}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_every_key_has_the_line_on_which_it_stands(name, newline):
    text, lines = CASES[name]
    text = text.replace("\n", newline)
    tomllib.loads(text)
    assert key_lines(text) == lines


def test_a_problem_of_an_absent_key_points_to_the_table_around_it():
    lines = key_lines('[[a]]\n[a.b]\nc = [\n{ d = 1 },\n{ e = 1 }]\n["x.y"]\nz = 1\n')
    assert line_of(lines, "a[0].b.c[1].e") == 5
    assert line_of(lines, "a[0].b.c[1].f") == 5
    assert line_of(lines, "a[0].b.c[7].f.g") == 3
    assert line_of(lines, "a[0].q") == 1
    assert line_of(lines, '"x.y".q') == 6
    assert line_of(lines, '"x.q"') is None
    assert line_of(lines, "") is None


def test_the_lines_of_a_large_file_are_found_in_linear_time():
    text = "values = [" + "1.5,\n" * 200_000 + "]\n" + "[[fleet]]\nname = 'a'\n" * 10_000
    lines = key_lines(text)
    assert lines["values[199999]"] == 200_000
    assert lines["fleet[9999].name"] == 220_001


keys = st.from_regex(r"[A-Za-z0-9_-]{1,6}", fullmatch=True)
scalars = st.one_of(
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["[x]", "a = 1", "]", "}", "#", '"""', "'''", "\\", "\n\n", '"']),
)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.lists(st.lists(scalars, max_size=2)))
tables = st.recursive(
    st.dictionaries(keys, values, max_size=4),
    lambda inner: st.dictionaries(
        keys, st.one_of(values, inner, st.lists(inner, min_size=1, max_size=3)), max_size=4
    ),
    max_leaves=12,
)


@given(tables)
def test_printed_tables_are_read_back(table):
    assert tomllib.loads(dumps(table)) == table


@given(tables)
def test_every_printed_key_has_the_line_on_which_it_stands(table):
    # Each scalar becomes the number of its line: the text itself then says where a key stands.
    printed = dumps(table).split("\n")
    text = "\n".join(
        f"{line.partition(' = ')[0]} = {number}" if " = " in line else line
        for number, line in enumerate(printed, start=1)
    )
    lines = key_lines(dumps(table))
    for path, number in leaves(tomllib.loads(text)):
        assert number is None or lines[path] == number
    assert {path for path, _ in leaves(table)} <= set(lines)
