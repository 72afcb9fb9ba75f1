"""Datasets and files: complete, labelled, readable by others, never half-written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from oracle import scenario

import mcsim
from mcsim.engine.histogram import Histogram, bin_of, coarser, edges_of
from mcsim.engine.tally import Moments
from mcsim.errors import ResultError
from mcsim.results import summarise

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}


@pytest.fixture(scope="module")
def asked():
    return scenario(
        {"name": "hopper", "count": 800, "devices_per_node": 8, "jitter": {"step": LOGNORMAL}},
        {"name": "other one", "count": 200, "compute": 1.02, "jitter": {"step": LOGNORMAL}},
        workload={"gradient": "1 GB", "overlap": 0.01},
        network={"site": {"bandwidth": "50 GB/s", "delay": {"law": "exponential", "mean": 1e-3}}},
        steps=2000,
        replicates=3,
        keep="steps",
        seed=11,
    )


@pytest.fixture(scope="module")
def dataset(asked):
    return mcsim.run(asked)


@pytest.fixture(scope="module")
def file(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "result.nc"
    mcsim.write(dataset, path)
    return path


CONTRACT = {
    "step_time": (("replicate", "step"), "s"),
    "step_time_mean": (("replicate",), "s"),
    "step_time_std": (("replicate",), "s"),
    "step_time_quantile": (("replicate", "quantile"), "s"),
    "step_time_histogram": (("replicate", "bin"), "1"),
    "ideal_step_time": ((), "s"),
    "slowdown": (("replicate",), "1"),
    "efficiency": (("replicate",), "1"),
    "effective_gpus": (("replicate",), "1"),
    "straggler_share": (("replicate", "group"), "1"),
    "wait_fraction": (("replicate", "group"), "1"),
    "compute_time_mean": (("replicate",), "s"),
    "communication_time_mean": (("replicate",), "s"),
}


def test_the_dataset_is_that_of_the_contract(dataset):
    for name, (dims, units) in CONTRACT.items():
        assert dataset[name].dims == dims, name
        assert dataset[name].attrs["units"] == units, name
    assert dataset.sizes["replicate"] == 3
    assert list(dataset.group.values) == ["hopper", "other one"]
    assert list(dataset.site.values) == ["main"]
    assert np.allclose(
        dataset["quantile"],
        [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1],
    )
    assert dataset.step_time_histogram.dtype.kind == "i"


def test_what_is_estimated_has_a_standard_error(dataset):
    estimates = [
        name
        for name in CONTRACT
        if name not in ("ideal_step_time", "step_time_histogram", "step_time")
    ]
    for name in estimates:
        error = dataset[dataset[name].attrs["ancillary_variables"]]
        assert error.name == f"{name}_stderr"
        assert error.dims == dataset[name].dims
        assert error.attrs["units"] == dataset[name].attrs["units"]


def test_every_variable_has_units_and_a_name(dataset):
    for name in dataset.variables:
        assert dataset[name].attrs["units"], name
        assert dataset[name].attrs["long_name"], name


def test_without_keep_steps_there_is_no_series(asked):
    short = mcsim.run(asked.replace({"run.keep": "summary", "run.steps": 10}))
    assert "step_time" not in short
    assert "step" not in short.sizes


def test_keeping_steps_changes_nothing_else(asked, dataset):
    summary = mcsim.run(asked.replace({"run.keep": "summary"}))
    for name in summary.data_vars:
        assert np.array_equal(summary[name], dataset[name], equal_nan=True), name


def test_quantiles_are_those_of_the_steps(dataset):
    probability = dataset["quantile"].values
    inside = (probability > 0.005) & (probability < 0.995)
    for replicate in range(3):
        times = dataset.step_time.values[replicate]
        found = dataset.step_time_quantile.values[replicate]
        assert np.allclose(found[inside], np.quantile(times, probability[inside]), rtol=1e-3)
        assert found[0] == times.min()
        assert found[-1] == times.max()


def test_the_histogram_counts_every_step_in_a_narrow_bin(dataset):
    lower, upper = dataset.bin_lower.values, dataset.bin_upper.values
    assert np.all(upper / lower <= 1.005)
    assert np.array_equal(lower[1:], upper[:-1])
    for replicate in range(3):
        edges = np.append(lower, upper[-1])
        counts, _ = np.histogram(dataset.step_time.values[replicate], edges)
        assert np.array_equal(counts, dataset.step_time_histogram.values[replicate])


def test_times_add_up(dataset):
    total = dataset.compute_time_mean + dataset.communication_time_mean
    assert np.allclose(total, dataset.step_time_mean, rtol=1e-12)
    assert np.allclose(dataset.slowdown * dataset.ideal_step_time, dataset.step_time_mean)
    assert np.allclose(dataset.efficiency * dataset.slowdown, 1)
    assert np.allclose(dataset.effective_gpus, dataset.efficiency * 1000)


def test_what_rounding_leaves_of_a_difference_is_shown_as_nothing(dataset):
    found = dataset.copy(deep=True)

    def shown(value, error):
        for name in ("component_time_mean", "wait_fraction"):
            found[f"overall_{name}"][...] = value
            found[f"overall_{name}_stderr"][...] = error
        (line,) = (x for x in summarise(found).splitlines() if "compute does not hide" in x)
        groups = [x for x in summarise(found).splitlines() if x.startswith(("hopper", "other"))]
        return line.split("hide")[1].split(), [x.split()[-4:] for x in groups]

    data, waits = shown(-2.2e-16, 2.2e-17)
    assert data == ["0", "0.0", "%"]
    assert all(wait[-2:] == ["0", "%"] for wait in waits)
    data, waits = shown(2.5e-3, 1e-4)
    assert data[:3] == ["0.00250", "±", "0.00010"]
    assert all(wait == ["0.250", "±", "0.010", "%"] for wait in waits)


def test_perfect_balance_gives_work_by_speed():
    found = mcsim.run(scenario({"count": 3, "compute": 1.0}, {"count": 1, "compute": 0.5}, steps=5))
    assert found.ideal_step_time == 4 / (3 + 2)
    assert found.step_time_mean.item() == 1
    assert found.wait_fraction.values.tolist() == [[0.0, 0.5]]
    assert found.straggler_share.values.tolist() == [[1.0, 0.0]]


def test_equal_work_on_a_mixed_fleet_uses_less_than_nine_tenths_of_its_peak():
    table = {
        "name": "mixed",
        "run": {"steps": 2},
        "workload": {"compute": "2 s", "reference": "h100-sxm"},
        "fleet": [
            {"name": "hopper", "device": "h200", "count": 200_000},
            {"name": "blackwell", "device": "gb200", "count": 20_000},
        ],
    }
    efficiency = mcsim.run(mcsim.Scenario.from_dict(table)).efficiency.item()
    assert efficiency == pytest.approx(220_000 / (200_000 + 20_000 * 2500 / 989.4), rel=1e-12)
    assert 0.87 < efficiency < 0.90


def test_one_step_has_no_standard_error(tmp_path):
    found = mcsim.run(scenario({"count": 10, "jitter": {"step": LOGNORMAL}}, steps=1))
    assert np.isnan(found.step_time_mean_stderr.item())
    assert np.isnan(found.step_time_std.item())
    mcsim.write(found, tmp_path / "one.nc")
    assert "mean step time" in summarise(found)


def test_standard_errors_cover_the_truth():
    # Given the exact mean, the standardised error of 400 short runs must have unit variance.
    exact = sum(1 / i for i in range(1, 51))
    asked = scenario(
        {"count": 50, "jitter": {"step": {"law": "exponential", "mean": 1}}},
        steps=200,
        replicates=400,
    )
    found = mcsim.run(asked)
    score = (found.step_time_mean - exact) / found.step_time_mean_stderr
    assert 0.75 < float(score.var()) < 1.35
    share = (found.wait_fraction.std("replicate") / found.wait_fraction_stderr.mean()).item()
    assert 0.8 < share < 1.25
    spread = (found.step_time_std.std() / found.step_time_std_stderr.mean()).item()
    assert 0.7 < spread < 1.3
    median = found.sel(quantile=0.5)
    spread = (median.step_time_quantile.std() / median.step_time_quantile_stderr.mean()).item()
    assert 0.8 < spread < 1.25


def test_no_error_is_claimed_where_the_variance_is_infinite():
    def found(alpha):
        law = {"law": "pareto", "scale": 1, "alpha": alpha}
        return mcsim.run(scenario({"count": 100, "jitter": {"step": law}}, steps=50, replicates=2))

    assert np.all(found(2.5).step_time_mean_stderr > 0)
    heavy = found(1.9)
    for name in ("step_time_mean", "slowdown", "efficiency", "compute_time_mean"):
        assert np.all(np.isnan(heavy[f"{name}_stderr"])), name
    assert "infinite variance" in heavy.step_time_mean.attrs["comment"]
    assert "nan" not in summarise(heavy)


def test_moments_of_parts_join_to_those_of_the_whole():
    values = np.random.default_rng(5).gamma(2, size=(1000, 2))
    whole = Moments.of(values)
    joined = (
        Moments.of(values[:1]).joined(Moments.of(values[1:300])).joined(Moments.of(values[300:]))
    )
    for name in ("mean", "second", "third", "fourth"):
        assert np.allclose(getattr(whole, name), getattr(joined, name), rtol=1e-12)
    assert np.allclose(whole.variance(), values.var(axis=0, ddof=1))


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20))
def test_every_value_lies_in_its_bin(values):
    array = np.array(values)
    number = bin_of(array)
    lower, upper = edges_of(number)
    inside = np.where(
        array < 0, (lower < array) & (array <= upper), (lower <= array) & (array < upper)
    )
    tiny = np.abs(array) < 2.0**-40
    assert np.all(inside | tiny)
    assert np.all(np.diff(number[np.argsort(array, kind="stable")]) >= 0)


def test_bins_of_parts_add_up():
    values = np.random.default_rng(3).standard_normal(10_000)
    whole = Histogram.of(values)
    first, *others = [Histogram.of(part) for part in np.array_split(values, 7)]
    for other in others:
        first = first.joined(other)
    assert np.array_equal(whole.number, first.number)
    assert np.array_equal(whole.counts, first.counts)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20), st.integers(8, 12))
def test_coarser_bins_hold_the_finer_ones(values, bits):
    number = bin_of(np.array(values))
    lower, upper = edges_of(number)
    wide_lower, wide_upper = edges_of(coarser(number, bits), bits)
    assert np.all((wide_lower <= lower) & (upper <= wide_upper))


def test_quantiles_do_not_lie_in_gaps():
    two = {
        "law": "mixture",
        "parts": [
            {"weight": 0.5, "law": "constant", "value": 1},
            {"weight": 0.5, "law": "constant", "value": 2},
        ],
    }
    found = mcsim.run(scenario({"count": 1, "jitter": {"step": two}}, steps=1000))
    below = found.step_time_quantile.sel(quantile=[0.01, 0.05, 0.25]).values
    above = found.step_time_quantile.sel(quantile=[0.75, 0.9, 0.99]).values
    assert np.all((below >= 1) & (below < 1.0003))
    assert np.all((above >= 2) & (above < 2.0005))


def test_many_clusters_of_a_wild_lottery_keep_the_histogram_small():
    wild = {"law": "lognormal", "median": 1, "sigma": 3}
    asked = scenario({"count": 1, "jitter": {"persistent": wild}}, steps=2, replicates=2000)
    found = mcsim.run(asked)
    assert found.step_time_histogram.nbytes < 100e6
    assert np.all(found.step_time_histogram.sum("bin") == 2)
    assert np.all(found.bin_upper / found.bin_lower <= 1.005)
    assert np.all(found.step_time_quantile.sel(quantile=0.5) == found.step_time_mean)


def test_the_file_opens_as_it_was(dataset, file):
    with mcsim.open(file) as found:
        for name in dataset.variables:
            assert np.array_equal(
                found[name], dataset[name], equal_nan=dataset[name].dtype.kind == "f"
            )
            assert found[name].attrs == dataset[name].attrs, name
        assert found.attrs == dataset.attrs


def test_a_second_independent_reader_opens_the_file(dataset, file):
    with h5py.File(file) as found:
        assert np.array_equal(found["step_time"][...], dataset.step_time)
        assert found["step_time"].attrs["units"] == b"s" or found["step_time"].attrs["units"] == "s"
        # Only what every reader of NetCDF-4 can undo.
        assert found["step_time"].compression == "gzip"
        assert found["step_time"].shuffle


def test_ncdump_prints_the_header(file):
    if not shutil.which("ncdump"):
        pytest.skip("ncdump (package netcdf-bin) is not here")
    header = subprocess.run(
        ["ncdump", "-h", file], check=True, capture_output=True, text=True
    ).stdout
    names = re.findall(r"^\t(?:double|int64|string) (\w+)", header, re.MULTILINE)
    assert "step_time_mean" in names
    for name in names:
        assert f"{name}:units" in header.replace(f"{name} :", f"{name}:")
        assert f"{name}:long_name" in header.replace(f"{name} :", f"{name}:")


def test_the_file_is_clean_under_the_cf_checker(file, tmp_path):
    from compliance_checker.runner import CheckSuite, ComplianceChecker

    CheckSuite.load_all_available_checkers()
    report = tmp_path / "report.txt"
    ComplianceChecker.run_checker(
        [str(file)], ["cf:1.11"], 0, "strict", output_filename=str(report), output_format="text"
    )
    # One check trips over coordinates that are words, for which CF has no name, and is left out
    # by the checker itself.
    assert "All tests passed!" in report.read_text(), report.read_text()


def test_the_stored_scenario_runs_again_bit_for_bit(asked, dataset, file):
    again = mcsim.load(file)
    assert again == asked
    assert again.hash == asked.hash == dataset.attrs["scenario_hash"]
    found = mcsim.run(again)
    for name in dataset.variables:
        assert np.array_equal(found[name], dataset[name], equal_nan=dataset[name].dtype.kind == "f")


def test_provenance_is_complete(dataset, asked):
    attrs = dataset.attrs
    assert attrs["Conventions"] == "CF-1.11"
    assert attrs["seed"] == 11
    assert attrs["completeness"] == "complete"
    assert attrs["engine"] == "sampled"
    assert mcsim.__version__ in attrs["source"]
    assert "numba" in attrs["library_versions"]
    assert attrs["scenario"] == asked.to_toml()
    for name in ("title", "history", "threads", "wall_seconds", "cpu_seconds", "generator"):
        assert attrs[name] != "", name


def test_the_largest_seed_survives_the_file(tmp_path):
    found = mcsim.run(scenario({"count": 1}, steps=1, seed=2**64 - 1))
    mcsim.write(found, tmp_path / "x.nc")
    with mcsim.open(tmp_path / "x.nc") as again:
        assert int(again.attrs["seed"]) == 2**64 - 1


def test_a_reader_that_has_the_file_open_keeps_it(dataset, tmp_path):
    path = tmp_path / "x.nc"
    mcsim.write(dataset, path)
    with netCDF4.Dataset(path) as reader:
        mcsim.write(dataset.isel(replicate=[0]), path)
        assert reader.variables["step_time"][...].shape == (3, 2000)
    with mcsim.open(path) as found:
        assert found.sizes["replicate"] == 1


@pytest.mark.parametrize("fails", ["netcdf.write_netcdf", "files._sync", "netcdf._check"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    dataset, tmp_path, monkeypatch, fails
):
    path = tmp_path / "x.nc"
    path.write_bytes(b"CDF: what was there")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"mcsim.results.{fails}", fail)
    with pytest.raises(ResultError, match=r"x\.nc: cannot write the result"):
        mcsim.write(dataset, path)
    assert path.read_bytes() == b"CDF: what was there"
    assert os.listdir(tmp_path) == ["x.nc"]


def test_a_link_to_a_result_stays_a_link(dataset, tmp_path):
    (tmp_path / "link.nc").symlink_to(tmp_path / "real.nc")
    mcsim.write(dataset, tmp_path / "link.nc")
    assert (tmp_path / "link.nc").is_symlink()
    assert (tmp_path / "real.nc").is_file()


def test_files_that_are_no_results_are_refused_by_name(tmp_path):
    (tmp_path / "empty.nc").touch()
    (tmp_path / "text.nc").write_text("no")
    xr.Dataset({"x": 1}).to_netcdf(tmp_path / "foreign.nc")
    for name in ("empty.nc", "text.nc", "foreign.nc", "missing.nc"):
        with pytest.raises(ResultError, match=name):
            mcsim.open(tmp_path / name)


def test_damaged_files_are_refused_by_name(file, tmp_path):
    whole = file.read_bytes()
    for size in (1, 8, 100, 1000, len(whole) // 2, len(whole) - 1):
        cut = tmp_path / "cut.nc"
        cut.write_bytes(whole[:size])
        with pytest.raises(ResultError, match=r"cut\.nc"):
            mcsim.open(cut)


def test_a_file_that_another_program_locks_is_named_with_a_way_out(tmp_path):
    path = tmp_path / "x.nc"
    mcsim.write(mcsim.run(scenario({"count": 2}, steps=2)), path)
    hold = "f = netCDF4.Dataset(sys.argv[1], 'a'); print(flush=True); sys.stdin.read()"
    code = f"import netCDF4, sys; {hold}"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ResultError, match="HDF5_USE_FILE_LOCKING=FALSE"):
            mcsim.open(path)
        other.stdin.close()
