"""Which key matters: Sobol indices against a model whose indices are known."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import sobol_indices

import mcsim
from mcsim.cli import main
from mcsim.study.design import design


def two_sites():
    """A step takes the compute time C, two messages of latency L, and a constant."""
    fleet = [
        {"name": name, "device": "custom", "compute": 1.0, "count": 1, "site": name}
        for name in "ab"
    ]
    return mcsim.Scenario.from_dict(
        {
            "name": "two",
            "run": {"steps": 1},
            "workload": {"gradient": "1 GB"},
            "site": [{"name": "a"}, {"name": "b"}],
            "link": [{"between": ["a", "b"], "bandwidth": "1 GB/s"}],
            "fleet": fleet,
        }
    )


OVER = {"fleet[*].compute": "1..2", "link[0].latency": "0..1", "link[0].distance": "0..1"}


def test_the_points_are_those_of_the_method():
    """Of Ishigami's function: the same indices as SciPy's, from its own order of points."""
    every = dict.fromkeys(("link[0].latency", "fleet[0].compute", "fleet[1].compute"), "0..1")
    every = {key: "0.001..1" if "compute" in key else text for key, text in every.items()}
    found = design(two_sites(), every, "sobol", 1024, indices=True)
    assert len(found.points) == 1024 * 5
    low = np.array([0.0, 0.001, 0.001])
    cube = (np.array([axis.values for axis in found.axes]).T - low) / (1 - low)
    x = np.pi * (2 * cube - 1)
    y = np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])
    rows = y.reshape(1024, 5)
    values = {"f_A": rows[:, 0][None], "f_B": rows[:, 4][None], "f_AB": rows[:, 1:4].T[:, None]}
    indices = sobol_indices(func=values, n=1024)
    np.testing.assert_allclose(indices.first_order, [0.3139, 0.4424, 0.0], atol=0.02)
    np.testing.assert_allclose(indices.total_order, [0.5576, 0.4424, 0.2437], atol=0.02)


def test_a_sum_has_the_indices_of_its_terms():
    """C is uniform on [1, 2] and 2 L on [0, 2]: a fifth and four fifths of the variance."""
    found = mcsim.sweep(two_sites(), OVER, method="sobol", points=32, indices=True)
    assert found.sizes["point"] == 32 * 5
    assert list(found.key.to_numpy()) == list(OVER)
    mean = found.sel(statistic="step_time_mean")
    np.testing.assert_allclose(mean.sobol_first, [0.2, 0.8, 0.0], atol=0.05)
    np.testing.assert_allclose(mean.sobol_total, [0.2, 0.8, 0.0], atol=0.08)
    assert (mean.sobol_first_half_width.to_numpy()[:2] > 0).all()
    assert np.isnan(found.sobol_first.sel(statistic="step_time_std")).all()


def test_the_command_prints_them(tmp_path):
    file, output = tmp_path / "two.toml", tmp_path / "out.nc"
    file.write_text(two_sites().to_toml())
    asked = ["sweep", str(file), "--method", "sobol", "--points", "4", "--indices"]
    asked += [f"--over={key}={values}" for key, values in OVER.items()]
    done = CliRunner().invoke(main, [*asked, "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert "of the variance of the mean step" in done.stdout
    again = CliRunner().invoke(main, ["show", str(output)])
    assert again.stdout == done.stdout


def test_without_salib_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("mcsim.study.sensitivity.find_spec", lambda name: None)
    file = tmp_path / "two.toml"
    file.write_text(two_sites().to_toml())
    asked = ["sweep", str(file), "--method", "sobol", "--points", "4", "--indices"]
    done = CliRunner().invoke(main, [*asked, "--over", "fleet[*].compute=1..2"])
    assert done.exit_code == 2
    assert done.stderr == "mcsim: Sobol indices need SALib: pip install 'mcsim[salib]'\n"


def test_indices_need_ranges_and_the_sequence():
    for method, over in (("lhs", "1..2"), ("sobol", [1, 2])):
        with pytest.raises(mcsim.ScenarioError, match="indices need"):
            mcsim.sweep(
                two_sites(), {"fleet[*].compute": over}, method=method, points=4, indices=True
            )
