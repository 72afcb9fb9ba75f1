"""Pictures: bars and lines are the numbers, units fit, nothing collides or needs colour."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from drawn import KINDS, asked, made, of_kind, one_group
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

import mcsim
from mcsim.cli import main
from mcsim.engine.histogram import Histogram, edges_of, quantile_of
from mcsim.results.plot import draw, figure_of, svg_of
from mcsim.results.plot_run import survival
from mcsim.results.plot_shared import BAND, PART, PLAIN, WHOLE, time_unit, wrapped
from mcsim.results.summary import causes


@pytest.fixture(scope="module", params=KINDS)
def result(request):
    return made(request.param)


@pytest.fixture(scope="module")
def compared():
    return made("comparison")


def bars(axes):
    """Left ends and lengths, from the top."""
    found = [bar for bar in axes.patches if bar.get_facecolor()[:3] != to_rgb(BAND)]
    found.sort(key=lambda bar: bar.get_y())
    return np.array([(bar.get_x(), bar.get_width()) for bar in found])


def ends_of_errors(axes):
    """Of all error bars, their two ends; one row each."""
    found = [
        path[:, 0]
        for collection in axes.collections
        for path in (p.vertices for p in collection.get_paths())
        if len(path) == 2
    ]
    return np.array(found)


def texts_of(figure):
    """What is written, and the box that it covers in the drawn picture."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    found = []
    for axes in figure.axes:
        texts = [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            texts += [text for place, text in ticks if low <= place <= high]
        found += [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    return [(text, box) for text, box in found if text]


def assert_nothing_collides(figure):
    found = texts_of(figure)
    assert len(found) > 8
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in found:
        assert box.x0 > -1, text
        assert box.y0 > -1, text
        assert box.x1 < width + 1, text
        assert box.y1 < height + 1, text
    for (one, box), (other, around) in itertools.combinations(found, 2):
        assert not box.shrunk(0.98, 0.9).overlaps(around), (one, other)


def test_pictures_come_in_every_format(result, tmp_path):
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    for suffix, start in starts.items():
        draw(result, tmp_path / f"a{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == sorted(starts)
    ElementTree.parse(tmp_path / "a.svg")


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_same_result_is_the_same_picture(compared, tmp_path, suffix):
    for name in "ab":
        draw(compared, tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_every_axis_says_what_and_in_what_unit(result):
    for axes in figure_of(result).axes:
        assert re.search(r", (s|ms|us|%|number of .*)(;|$)", axes.get_xlabel()), axes.get_xlabel()
        named = [label for label in axes.get_yticklabels() if label.get_text()]
        assert axes.get_ylabel().endswith(", %") or named


def test_nothing_collides(result):
    assert_nothing_collides(figure_of(result))


def test_long_names_do_not_collide():
    groups = tuple(
        f"group-{i}-of_the.building/on the northern campus+{'x' * 40}" for i in range(30)
    )
    scenario = asked("a name of many words " * 8, groups, steps=8, replicates=2)
    figure = figure_of(mcsim.run(scenario))
    assert_nothing_collides(figure)
    assert "24 of 30 groups" in figure.axes[2].get_title()


def test_names_are_drawn_as_they_are():
    name = "<b>$x^2$ & \\alpha_$"
    drawn, words = svg_of(mcsim.run(asked(name, (name, "b"), steps=4)))
    shown = "".join(ElementTree.fromstring(drawn).itertext())
    # Once in the title and once as a group.
    assert shown.count(name) == 2
    assert words.startswith(f"{name}: 32 devices")


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=300))
def test_wrapped_names_have_two_lines_and_both_their_ends(name):
    drawn = wrapped(name.replace("$", "S")).split("\n")
    assert len(drawn) <= 2
    assert max(map(len, drawn)) <= 24
    whole, name = "".join(drawn), name.replace("$", "S")
    assert whole[0] == name[0]
    assert whole[-1] == name[-1]
    assert whole == name or "..." in whole


def test_names_are_broken_where_they_are_joined():
    assert wrapped("shares-by-device+local-sgd") == "shares-by-device+\nlocal-sgd"
    assert wrapped("islands-by-generation") == "islands-by-generation"
    assert wrapped("a-name-of-more-than-twenty-four") == "a-name-of-more-than-\ntwenty-four"


@pytest.mark.parametrize(
    ("longest", "unit", "seconds"),
    [
        (3e-9, "ns", 1e-9),
        (4.5e-5, "us", 1e-6),
        (0.999, "ms", 1e-3),
        (9_999.0, "s", 1.0),
        (1e4, "h", 3600.0),
        (0.0, "s", 1.0),
        (float("nan"), "s", 1.0),
    ],
)
def test_times_have_the_unit_that_fits(longest, unit, seconds):
    assert time_unit(longest) == (unit, pytest.approx(seconds))


@pytest.mark.parametrize(("compute", "unit"), [("3 us", "us"), ("20 ms", "ms"), ("40 h", "h")])
def test_a_run_is_drawn_in_fitting_units(compute, unit):
    law = {"law": "lognormal", "mean": 1, "cv": 0.001}
    waterfall, distribution, _ = figure_of(mcsim.run(one_group(law, compute, steps=50))).axes
    assert waterfall.get_xlabel() == f"time, {unit}"
    assert distribution.get_xlabel() == f"time of a step, {unit}"
    ideal = float(compute.split()[0])
    assert bars(waterfall)[0] == pytest.approx((0, ideal))
    assert 0.9 * ideal < np.mean(distribution.get_xlim()) < 1.1 * ideal


def test_the_waterfall_of_a_run_is_its_causes():
    run = made("run")
    found = bars(figure_of(run).axes[0])
    seconds = np.array([cause.seconds for cause in causes(run)])
    np.testing.assert_allclose(found[:, 1], seconds)
    # Each begins where the one before ends, and the last is the whole.
    np.testing.assert_allclose(found[1:-1, 0], np.cumsum(seconds)[:-2])
    assert found[-1, 0] == 0
    assert found[-2].sum() == pytest.approx(found[-1, 1])


def test_shares_are_drawn_of_groups_and_of_sites():
    run = made("run")
    axes = figure_of(run).axes[2]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["old", "new", "site north", "site south"]
    waiting, arriving = (
        [bar.get_width() for bar in container.patches] for container in axes.containers[::2]
    )
    np.testing.assert_allclose(waiting, 100 * run.overall_wait_fraction)
    arrivals = np.concatenate([run.overall_straggler_share, run.overall_site_straggler_share])
    np.testing.assert_allclose(arriving, 100 * arrivals)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60))
def test_the_survival_function_is_the_share_above(values):
    histogram = Histogram.of(np.array(values))
    edges, shares = survival(histogram.counts, *edges_of(histogram.number))
    above = [np.mean(np.array(values) >= edge) for edge in edges]
    np.testing.assert_allclose(shares, above, atol=1e-12)
    assert (np.diff(edges) >= 0).all()
    assert (np.diff(shares) <= 0).all()
    assert shares[-1] == 0


@pytest.mark.parametrize("clusters", [1, 8, 32])
def test_each_cluster_is_a_line_and_all_are_one(clusters):
    law = {"law": "exponential", "mean": 1}
    run = mcsim.run(one_group(law, "1 s", steps=400, replicates=clusters))
    axes = figure_of(run).axes[1]
    lines = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert len(lines) == (clusters + 1 if clusters > 1 else 1)
    assert lines[-1].get_label() == ("all clusters" if clusters > 1 else "the cluster")
    counts = run.step_time_histogram.to_numpy().sum(axis=0)
    ends = run.step_time_quantile.to_numpy()
    times = lines[-1].get_xdata()
    np.testing.assert_allclose([times[0], times[-1]], [ends.min(), ends.max()])
    marked = {round(1 - line.get_ydata()[0], 6): line for line in axes.lines if line not in lines}
    beyond_enough = [q for q in (0.99, 0.999, 0.9999) if (1 - q) * 400 * clusters >= 10]
    assert sorted(marked) == beyond_enough
    assert len({line.get_marker() for line in marked.values()}) == len(marked)
    for q, line in marked.items():
        time = quantile_of(counts, run.bin_lower.values, run.bin_upper.values, np.array(q))
        assert line.get_xdata()[0] == pytest.approx(time, rel=0.005)
        assert f"{100 * q:g} %: {line.get_xdata()[0]:.5g} s" == line.get_label()
    assert axes.get_yscale() == "log"


def test_heavy_tails_stand_on_a_logarithmic_axis():
    heavy = {"law": "pareto", "scale": 1, "alpha": 1.5}
    narrow = {"law": "lognormal", "mean": 1, "cv": 0.001}
    for law, scale in ((heavy, "log"), (narrow, "linear")):
        figure = figure_of(mcsim.run(one_group(law, "1 s", steps=2_000)))
        assert figure.axes[1].get_xscale() == scale
        assert_nothing_collides(figure)


def test_steps_that_are_all_alike_are_drawn():
    law = {"law": "constant", "value": 1}
    assert_nothing_collides(figure_of(mcsim.run(one_group(law, "1 s", steps=2))))


def test_rounds_are_called_rounds():
    rounds = asked(steps=8).replace({"sync.policy": "local-sgd", "sync.inner_steps": 4})
    waterfall, distribution, _ = figure_of(mcsim.run(rounds)).axes
    assert waterfall.get_title() == "what a round of 4 steps takes"
    assert distribution.get_xlabel() == "time of a round of 4 steps, s"
    axes = figure_of(mcsim.explain(rounds)).axes[0]
    assert axes.get_yticklabels()[-1].get_text() == "a round of 4 steps"


def test_a_comparison_is_bars_the_best_first_under_nothing_done(compared):
    axes = figure_of(compared).axes[0]
    gpus = compared.overall_effective_gpus.to_numpy()
    order = [0, *(1 + np.argsort(-gpus[1:]))]
    np.testing.assert_allclose(bars(axes), [(0, gpu) for gpu in gpus[order]])
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [str(compared.remedy.values[at]) for at in order]
    (fleet,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert fleet.get_xdata() == [32, 32]
    assert fleet.get_label() == "the fleet: 32 devices"
    away = 2 * float(gpus[0]) * compared.gain_stderr.to_numpy()[order[1:]]
    assert (away > 0).all()
    np.testing.assert_allclose(np.ptp(ends_of_errors(axes), axis=1), 2 * away)
    gains = [text.get_text() for text in axes.texts]
    assert gains == [*(f"{100 * compared.gain.values[at]:+.1f} %" for at in order[1:]), "gain"]


def test_a_comparison_of_one_cluster_has_no_errors():
    figure = figure_of(of_kind("comparison", asked(replicates=1)))
    np.testing.assert_allclose(np.ptp(ends_of_errors(figure.axes[0]), axis=1), 0)


def test_an_explanation_is_a_waterfall_to_the_step():
    explained = made("explanation")
    axes = figure_of(explained).axes[0]
    found = bars(axes)
    ideal, step = float(explained.ideal_step_time), float(explained.overall_step_time_mean)
    assert found[0] == pytest.approx((0, ideal))
    assert found[-1] == pytest.approx((0, step))
    np.testing.assert_allclose(found[1:-1, 0], ideal + np.cumsum([0, *found[1:-2, 1]]))
    assert found[-2].sum() == pytest.approx(step)
    alone, without = (line for line in axes.lines if line.get_marker() in ("^", "D"))
    cost = explained.overall_shapley_time.to_numpy()
    order = [at for at in np.argsort(-cost, kind="stable") if cost[at] != 0]
    np.testing.assert_allclose(alone.get_xdata(), ideal + explained.overall_alone_time[order])
    np.testing.assert_allclose(without.get_xdata(), step - explained.overall_removed_time[order])


def test_fills_can_be_told_apart_without_colour():
    def lightness(fill):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(fill)]
        return 116 * np.dot([0.2126, 0.7152, 0.0722], linear) ** (1 / 3) - 16

    lightnesses = [lightness(fill["color"]) for fill in (WHOLE, PART, PLAIN)]
    np.testing.assert_allclose(lightnesses, [33, 79, 88], atol=0.5)
    assert [fill.get("hatch", "") != "" for fill in (WHOLE, PART, PLAIN)] == [False, True, False]


def test_a_part_of_a_run_is_not_drawn(tmp_path):
    scenario, part = tmp_path / "a.toml", tmp_path / "a.nc"
    scenario.write_text(asked(steps=4).to_toml())
    shard = ["run", str(scenario), "-o", str(part), "--shard", "1/3"]
    assert CliRunner().invoke(main, shard).exit_code == 0
    done = CliRunner().invoke(main, ["plot", str(part)])
    assert done.exit_code == 1
    assert "a part of a run is not drawn; `mcsim merge` joins it" in done.stderr
    assert not (tmp_path / "a.png").exists()


def test_without_matplotlib_nothing_is_drawn(monkeypatch, tmp_path):
    mcsim.write(made("run"), tmp_path / "a.nc")
    monkeypatch.setattr("mcsim.results.plot.find_spec", lambda name: None)
    for command in (["plot"], ["report", "-o", str(tmp_path / "a.html")]):
        done = CliRunner().invoke(main, [*command, str(tmp_path / "a.nc")])
        assert done.exit_code == 2
        assert done.stderr == "mcsim: drawing needs matplotlib: pip install 'mcsim[plot]'\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]
