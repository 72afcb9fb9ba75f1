import csv
import itertools
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcsim import catalogue
from mcsim.errors import McsimError

MEASURED = Path(__file__).resolve().parents[2] / "shared" / "data" / "v100_sgemm_per_gpu.csv"

NAMES = ("a100", "h100-sxm", "h100-pcie", "h200", "b200", "gb200", "b300", "gb300", "mi300x")
PRECISIONS = {"fp64", "tf32", "bf16", "fp16", "fp8", "fp4", "int8"}

devices = pytest.mark.parametrize("device", catalogue.devices().values(), ids=lambda d: d.name)
distributions = pytest.mark.parametrize(
    "distribution", catalogue.distributions().values(), ids=lambda d: d.name
)


@pytest.fixture(scope="module")
def relative_times():
    """The measured GPUs' relative times, in increasing order."""
    if not MEASURED.exists():
        pytest.skip("the V100 measurements are not beside this checkout")
    with MEASURED.open(newline="") as file:
        return np.sort([float(row["relative_time"]) for row in csv.DictReader(file)])


def test_the_devices_of_the_contract_are_there():
    assert set(NAMES) <= set(catalogue.devices())


def test_peaks_are_dense_and_not_the_headlines_for_sparsity():
    sparse = {"a100": 624e12, "h100-sxm": 1979e12, "h100-pcie": 1513e12, "h200": 1979e12}
    sparse |= {"b200": 4500e12, "gb200": 5000e12, "b300": 4500e12, "gb300": 5000e12}
    sparse |= {"mi300x": 2615e12}
    for name, headline in sparse.items():
        assert catalogue.device(name).peak["bf16"] == pytest.approx(headline / 2, rel=1e-3)
    assert catalogue.device("h100-sxm").peak["bf16"] < 1e15


def test_h100_and_h200_compute_alike():
    assert catalogue.device("h100-sxm").peak == catalogue.device("h200").peak


@devices
def test_fewer_bits_are_never_slower(device):
    peaks = [device.peak[p] for p in ("fp64", "tf32", "bf16", "fp8", "fp4") if p in device.peak]
    assert peaks == sorted(peaks)
    assert device.peak["bf16"] == device.peak["fp16"]
    assert set(device.peak) <= PRECISIONS


@devices
def test_figures_are_of_the_size_of_an_accelerator(device):
    assert all(1e12 <= peak <= 1e17 for peak in device.peak.values())
    assert 16e9 <= device.memory <= 1e12
    assert 0.5e12 <= device.memory_bandwidth <= 20e12
    assert 10e9 <= device.scale_up_bandwidth <= 2e12
    assert 100 <= device.power <= 2500
    assert device.devices_per_node == (72 if device.name in {"gb200", "gb300"} else 8)
    assert 8 <= device.devices_per_node * device.nodes_per_rack <= 72


def test_scale_up_bandwidth_is_one_direction():
    assert catalogue.device("h100-sxm").scale_up_bandwidth == 450e9
    assert catalogue.device("gb200").scale_up_bandwidth == 900e9


@devices
def test_every_device_says_where_it_is_from_and_how_sure_it_is(device):
    assert device.name == next(n for n, d in catalogue.devices().items() if d is device)
    assert device.title
    assert device.source
    assert device.confidence in {"seen", "remembered(high)", "remembered"}


@distributions
def test_every_distribution_says_where_it_is_from_and_how_it_was_read(distribution):
    assert distribution.title
    assert distribution.source
    assert distribution.confidence
    assert distribution.note


@distributions
def test_tables_of_quantiles_rise_from_0_to_1(distribution):
    probabilities, values = distribution.probabilities, distribution.values
    assert probabilities[0] == 0.0
    assert probabilities[-1] == 1.0
    assert len(probabilities) == len(values)
    assert all(a < b for a, b in itertools.pairwise(probabilities))
    assert all(0 < a <= b for a, b in itertools.pairwise(values))


def test_delays_are_in_seconds_and_flat_below_the_median():
    delays = [d for d in catalogue.distributions().values() if d.dimension == "time"]
    assert len(delays) >= 6
    for delay in delays:
        assert delay.probabilities == (0.0, 0.5, 0.99, 0.999, 0.9999, 1.0)
        assert delay.values[0] == delay.values[1]
        assert 1e-6 < delay.values[1] < 50e-6
        assert delay.values[-1] < 10e-3


def test_the_v100_table_holds_measured_order_statistics(relative_times):
    table = catalogue.distribution("v100-sgemm")
    assert table.dimension is None
    assert set(table.values) <= set(relative_times)
    last = len(relative_times) - 1
    pairs = dict(zip(table.probabilities, table.values, strict=True))
    tails = [*range(5), *range(last - 4, last + 1)]
    assert [pairs[k / last] for k in tails] == list(relative_times[tails])


def test_the_v100_table_interpolates_to_every_measured_gpu(relative_times):
    table = catalogue.distribution("v100-sgemm")
    at = np.arange(len(relative_times)) / (len(relative_times) - 1)
    interpolated = np.interp(at, table.probabilities, table.values)
    np.testing.assert_allclose(interpolated, relative_times, rtol=1e-3)


def test_the_v100_table_keeps_mean_and_spread(relative_times):
    table = catalogue.distribution("v100-sgemm")
    values, weights = np.array(table.values), np.diff(table.probabilities)
    low, high = values[:-1], values[1:]
    mean = np.sum(weights * (low + high) / 2)
    square = np.sum(weights * (low**2 + low * high + high**2) / 3)
    assert mean == pytest.approx(np.mean(relative_times), rel=1e-3)
    # Half the weight of the second slowest and of the fastest GPU is lost to interpolation.
    spread = statistics.pstdev(relative_times)
    assert np.sqrt(square - mean**2) == pytest.approx(spread, rel=0.015)


ageing = pytest.mark.parametrize("step", catalogue.ageing().values(), ids=lambda step: step.name)


@ageing
def test_every_figure_of_ageing_says_where_it_is_from_and_how_sure_it_is(step):
    assert set(step.source) == set(step.confidence) == {"loss", "flap", "lane_failure"}
    assert all(step.source.values())
    assert set(step.confidence.values()) <= {"seen", "remembered(high)", "assumption"}
    # Figures put together from assumptions do not pose as measured.
    for key, source in step.source.items():
        assert ("assumption" in source) <= (step.confidence[key] == "assumption")


def test_older_links_are_never_better():
    for young, old in itertools.pairwise(catalogue.ageing().values()):
        assert young.below < old.below
        assert young.loss < old.loss
        for (every, duration), (sooner, longer) in (
            (young.flap, old.flap),
            (young.lane_failure, old.lane_failure),
        ):
            assert every >= sooner
            assert duration <= longer
        assert young.flap[0] / young.flap[1] > 1e4


YEAR = 365.25 * 86400


def test_ages_are_looked_up_in_steps():
    new, *_, oldest = catalogue.ageing().values()
    assert catalogue.aged(0.0) is catalogue.aged(1.999 * YEAR) is new
    assert catalogue.aged(2 * YEAR) is catalogue.ageing()["up-to-5-years"]
    assert catalogue.aged(10 * YEAR) is catalogue.aged(19.999 * YEAR) is oldest
    for age in (-1.0, 20 * YEAR, float("nan")):
        with pytest.raises(McsimError, match="below 20, where the table of ageing ends"):
            catalogue.aged(age)


@pytest.mark.parametrize(
    ("find", "wrong", "meant"),
    [
        (catalogue.device, "h100-sxm5", "h100-sxm"),
        (catalogue.device, "H200", "h200"),
        (catalogue.distribution, "v100-gemm", "v100-sgemm"),
        (catalogue.disturbance, "slow-hosts", "slow-host"),
    ],
)
def test_an_unknown_name_gets_the_right_one_suggested(find, wrong, meant):
    with pytest.raises(McsimError, match=f'did you mean "{meant}"'):
        find(wrong)


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(McsimError, match=r'"abacus".*h100-sxm') as caught:
        catalogue.device("abacus")
    assert "did you mean" not in str(caught.value)


def test_data_is_read_once_and_cannot_be_added_to():
    assert catalogue.devices() is catalogue.devices()
    with pytest.raises(TypeError):
        catalogue.devices()["tpu"] = None
    with pytest.raises(AttributeError):
        catalogue.device("h200").power = 1.0


def test_importing_the_catalogue_reads_nothing():
    code = (
        "from mcsim import catalogue;"
        "assert catalogue.devices.cache_info().misses == 0;"
        "assert catalogue.distributions.cache_info().misses == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    "disturbance", catalogue.disturbances().values(), ids=lambda found: found.name
)
def test_every_figure_of_a_disturbance_says_who_says_so_and_how_sure_it_is(disturbance):
    assert disturbance.title
    assert disturbance.unit in {"device", "node", "rack", "site", "cluster"}
    kinds = ({"every", "duration", "factor"}, {"amplitude", "peak", "period"})
    assert set(disturbance.figures) in kinds
    for key, figure in disturbance.figures.items():
        assert figure.source
        assert figure.confidence in {"seen", "remembered(high)", "assumption"}
        # What is ours says so, and what is a source's names it.
        assert figure.source.startswith("ours") == (figure.confidence == "assumption")
        if key not in {"factor", "amplitude"}:
            assert 60 <= figure.value < 10_000 * 86_400
