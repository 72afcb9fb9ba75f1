"""Comparisons: each remedy on the same clusters, against runs of the changed scenario."""

import numpy as np
import pytest
from click.testing import CliRunner

import mcsim
from mcsim.cli import main
from mcsim.engine.cluster import base_times
from mcsim.errors import ScenarioError
from mcsim.model import lower
from mcsim.results import summarise
from mcsim.study import applicable
from mcsim.study.compare import variant_of


@pytest.fixture(scope="module")
def mixed():
    """Two generations on two sites, small enough to compare all."""
    return mcsim.Scenario.from_dict(
        {
            "name": "mixed",
            "run": {"steps": 128, "replicates": 6},
            "workload": {
                "compute": "1 s",
                "reference": "h100-sxm",
                "gradient": "4 GB",
                "overlap": 0.25,
            },
            "site": [{"name": "a"}, {"name": "b"}],
            "link": [{"between": ["a", "b"], "bandwidth": "200 Gb/s", "age": "10 years"}],
            "network": {"site": {"bandwidth": "20 GB/s", "latency": "5 us"}},
            "jitter": {
                "persistent": {"law": "lognormal", "mean": 1, "cv": 0.04},
                "step": {"law": "lognormal", "mean": 1, "cv": 0.02},
            },
            "fleet": [
                {"name": "old", "device": "h100-sxm", "count": 3_000, "site": "a"},
                {"name": "new", "device": "gb200", "count": 1_440, "site": "b"},
            ],
        }
    )


@pytest.fixture(scope="module")
def compared(mixed):
    return mcsim.compare(mixed)


def test_doing_nothing_is_the_run_itself(mixed, compared):
    run = mcsim.run(mixed.replace({"run.engine": "sampled"}))
    none = compared.sel(remedy="none")
    np.testing.assert_array_equal(none.step_time_mean, run.step_time_mean)
    np.testing.assert_allclose(none.effective_gpus, run.effective_gpus, rtol=1e-12)
    assert none.gain == 0
    assert none.recovered == 0
    assert none.gain_stderr == 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("shares-by-device", {"remedy.shares": "device"}),
        ("double-links", {"link[0].bandwidth": "400 Gb/s"}),
        ("new-links", {"link[0].age": None}),
        ("without-h100-sxm", {"fleet.old": None, "link": None}),
        ("only-a", {"fleet.new": None, "link": None}),
        ("local-sgd", {"sync.policy": "local-sgd", "sync.inner_steps": 10}),
        (
            "shares-by-device+local-sgd",
            {"remedy.shares": "device", "sync.policy": "local-sgd", "sync.inner_steps": 10},
        ),
    ],
)
def test_a_remedy_is_the_run_of_the_changed_scenario(mixed, compared, name, changes):
    changed = mixed.replace({"run.engine": "sampled"} | changes)
    run = mcsim.run(changed)
    one = compared.sel(remedy=name)
    np.testing.assert_array_equal(one.step_time_mean, run.step_time_mean)
    devices = sum(fleet.count for fleet in changed.fleet)
    work = devices * changed.sync.steps_a_round
    np.testing.assert_allclose(one.throughput, work / run.step_time_mean, rtol=1e-12)
    # GPUs of the whole fleet, of which those that are left out are lost.
    ideal = float(compared.sel(remedy="none").throughput.mean())
    ideal *= 4_440 / float(compared.sel(remedy="none").overall_effective_gpus)
    np.testing.assert_allclose(one.effective_gpus, one.throughput / ideal * 4_440, rtol=1e-12)


def test_islands_add_up(compared):
    islands = compared.sel(remedy="islands-by-site")
    alone = [compared.sel(remedy=f"only-{site}") for site in "ab"]
    np.testing.assert_allclose(islands.throughput, alone[0].throughput + alone[1].throughput)
    np.testing.assert_array_equal(
        islands.step_time_mean, np.maximum(*(one.step_time_mean for one in alone))
    )
    assert islands.idle_devices == 0
    assert alone[0].idle_devices == 1_440


def test_pairs_are_at_least_five_times_narrower_on_the_reference_case():
    """What varies between its clusters are the links, which these remedies leave as they are."""
    reference = mcsim.load("three-campus").replace({"run.steps": 100, "run.replicates": 10})
    found = mcsim.compare(reference, ["shares-by-group", "double-inside"])
    for one in (found.isel(remedy=1), found.isel(remedy=2)):
        assert one.gain > 10 * one.gain_stderr
        assert 5 * one.gain_stderr < one.gain_unpaired_stderr, one.remedy.item()


def test_errors_of_pairs_are_those_of_many_comparisons(mixed):
    """Over comparisons with other seeds, the gain varies by its error."""
    few = mixed.replace({"run.steps": 16, "run.replicates": 8})
    found = [
        mcsim.compare(few.replace({"run.seed": seed}), ["shares-by-device"]).isel(remedy=1)
        for seed in range(40)
    ]
    gains = np.array([one.gain.item() for one in found])
    errors = np.array([one.gain_stderr.item() for one in found])
    # 39 degrees of freedom: the ratio is within 0.6 and 1.6 but for one in 1e6.
    assert 0.6 < gains.std(ddof=1) / np.sqrt((errors**2).mean()) < 1.6


def test_the_best_number_is_found():
    """Some devices are hopeless, and the others alike: leave out the hopeless, and no other."""
    slow = {"weight": 0.01, "law": "uniform", "low": 1.4, "high": 1.6}
    fine = {"weight": 0.99, "law": "constant", "value": 1}
    scenario = mcsim.Scenario.from_dict(
        {
            "name": "hopeless",
            "run": {"steps": 1, "replicates": 1},
            "jitter": {"persistent": {"law": "mixture", "parts": [slow, fine]}},
            "fleet": [{"name": "all", "device": "custom", "compute": "1 s", "count": 5_000}],
        }
    )
    (base,) = base_times(lower(scenario), 0)
    variant = variant_of(scenario, "drop-devices")
    assert variant.scenarios[0].remedy.drop_devices == np.count_nonzero(base > 1)
    assert f"{np.count_nonzero(base > 1)}" in variant.description


def test_spares_count_as_extra_and_the_left_out_as_idle(compared):
    spared = compared.sel(remedy="spare-nodes")
    # 375 nodes of 8 and 20 of 72: 1 % of each, rounded up.
    assert spared.extra_devices == 4 * 8 + 72
    assert spared.idle_devices == 4 * 8 + 72
    assert spared.gain > 0


def test_costs_are_of_the_same_work_and_of_all_devices(mixed, compared):
    islands, spared = (compared.sel(remedy=name) for name in ("islands-by-site", "spare-nodes"))
    assert float(compared.sel(remedy="none").relative_cost) == 1
    assert float(islands.relative_cost) == pytest.approx(1 / (1 + float(islands.gain)))
    more = (4_440 + 4 * 8 + 72) / 4_440
    assert float(spared.relative_cost) == pytest.approx(more / (1 + float(spared.gain)))
    assert "cost_a_month" not in compared
    priced = mixed.replace({"prices.gpu_hour": 2})
    month = mcsim.compare(priced, ["spare-nodes"]).cost_a_month
    assert float(month[0]) == pytest.approx(2 * 4_440 * 730.5)
    assert float(month[1]) == pytest.approx(2 * (4_440 + 4 * 8 + 72) * 730.5)


def test_every_remedy_that_applies_is_there_and_one_is_best(mixed, compared):
    assert compared.remedy.values.tolist() == ["none", *applicable(mixed)]
    assert float(compared.best_share.sum()) == pytest.approx(1)
    assert "evict" not in compared.remedy
    assert "placement" not in compared.remedy


def test_keys_are_a_remedy_too(mixed, compared):
    keys = "link[0].bandwidth=400 Gb/s"
    found = mcsim.compare(mixed, [keys]).sel(remedy=keys)
    np.testing.assert_array_equal(found.gain, compared.sel(remedy="double-links").gain)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "shares-by-devices",
            r'"shares-by-devices" \(did you mean "shares-by-device"\?\)',
        ),
        ("shares-by-device+nothing", 'unknown remedy "nothing"'),
        ("evict", r"remedy\.evict_after: changes nothing"),
        ("placement", "the remedy placement does not apply: there is no pipeline"),
        ("sync.inner_step=4", r'sync\.inner_step: unknown key \(did you mean "inner_steps"\?\)'),
        ("run.steps", 'unknown remedy "run.steps"'),
        ("run.seed=9", r"run\.seed: is not what a remedy can change"),
        ("fleet[0].name=x", "is not what a remedy can change"),
        ("workload.overlap=0.5;link", "link.* is no key=value"),
        ("jitter.step.cv=1e+0+nothing", 'unknown remedy "nothing"'),
    ],
)
def test_what_does_not_apply_is_said(mixed, name, message):
    with pytest.raises(ScenarioError, match=message):
        mcsim.compare(mixed, [name])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run.target_relative_error": 0.01}, "compare takes the steps"),
        ({"run.engine": "exact"}, "compare samples"),
        ({"run.target": "cuda"}, "on the processor"),
    ],
)
def test_what_would_not_be_done_is_refused(mixed, changes, said):
    with pytest.raises(ScenarioError, match=said):
        mcsim.compare(mixed.replace(changes), ["double-links"])


def two_sites(**changes):
    table = {
        "name": "two",
        "run": {"steps": 32, "replicates": 2},
        "workload": {"gradient": "1 GB"},
        "jitter": {"step": {"law": "exponential", "mean": 1}},
        "site": [{"name": "m"}, {"name": "n"}],
        "link": [{"between": ["m", "n"], "bandwidth": "10 GB/s"}],
        "fleet": [
            {"name": "a", "device": "custom", "compute": 1, "count": 40, "site": "m"},
            {"name": "b", "device": "custom", "compute": 1, "count": 24, "site": "n"},
        ],
        **changes,
    }
    return mcsim.Scenario.from_dict(table)


def test_nobody_left_at_a_site_is_no_best_number():
    slow = {"law": "constant", "value": 3}
    fleet = two_sites().to_dict()["fleet"]
    fleet[1]["jitter"] = {"persistent": slow}
    found = mcsim.compare(two_sites(fleet=fleet), ["drop-devices", "drop-nodes"])
    assert (found.gain >= 0).all()


def test_each_island_has_its_best_number():
    both = variant_of(two_sites(), "islands-by-site+backup")
    alone = [
        variant_of(two_sites(), f"only-{site}+backup").scenarios[0].sync.wait_for for site in "mn"
    ]
    assert [one.sync.wait_for for one in both.scenarios] == alone
    assert alone[0] < 40
    assert alone[1] < 24


def test_islands_that_would_share_links_are_refused():
    kinds = [
        {"name": f"{device}-{site}", "device": device, "count": 16, "site": site}
        for device in ("h100-sxm", "gb200")
        for site in "mn"
    ]
    workload = {"compute": "1 s", "reference": "h100-sxm", "gradient": "1 GB"}
    shared = two_sites(fleet=kinds, workload=workload, jitter={})
    with pytest.raises(ScenarioError, match="would share the links"):
        mcsim.compare(shared, ["islands-by-generation"])
    assert "islands-by-generation" not in list(applicable(shared))


def test_a_group_without_a_site_is_at_the_only_one():
    table = two_sites().to_dict()
    fleet = [one | {"site": "m"} for one in table["fleet"]]
    del fleet[1]["site"], table["link"]
    one_site = mcsim.Scenario.from_dict(table | {"site": [{"name": "m"}], "fleet": fleet})
    assert not {"islands-by-site", "only-m"} & set(applicable(one_site))


def test_links_by_way_of_a_site_that_is_left_out_stay():
    kinds = [
        {"name": "a", "device": "h100-sxm", "count": 16, "site": "m"},
        {"name": "b", "device": "h100-sxm", "count": 16, "site": "n"},
        {"name": "c", "device": "gb200", "count": 16, "site": "t"},
    ]
    links = [{"between": [end, "t"], "bandwidth": "10 GB/s"} for end in "mn"]
    workload = {"compute": "1 s", "reference": "h100-sxm", "gradient": "1 GB"}
    sites = [{"name": name} for name in "mnt"]
    by_way = two_sites(fleet=kinds, link=links, workload=workload, site=sites, jitter={})
    assert "without-gb200" in list(applicable(by_way))


def test_no_error_is_claimed_of_an_infinite_variance():
    heavy = two_sites(jitter={"step": {"law": "pareto", "scale": 1, "alpha": 1.5}})
    found = mcsim.compare(heavy, ["double-links"])
    assert np.isnan(found.overall_step_time_mean_stderr).all()
    assert np.isnan(mcsim.explain(heavy).overall_shapley_time_stderr).all()


def test_one_cluster_has_no_error_of_pairs(mixed):
    found = mcsim.compare(mixed.replace({"run.replicates": 1}), ["double-links"])
    assert np.isnan(found.gain_stderr).all()
    assert "One cluster says nothing of others" in summarise(found)


def test_the_command_line_says_and_keeps_it(mixed, compared, tmp_path):
    scenario, result = tmp_path / "mixed.toml", tmp_path / "compared.nc"
    scenario.write_text(mixed.to_toml())
    names = ["shares-by-device", "double-links"]
    arguments = [part for name in names for part in ("--remedy", name)]
    said = CliRunner().invoke(
        main, ["compare", str(scenario), *arguments, "-o", str(result), "--force"]
    )
    assert said.exit_code == 0, said.output
    with mcsim.open(result) as kept:
        assert kept.remedy.values.tolist() == ["none", *names]
        for name in names:
            assert kept.gain.sel(remedy=name) == compared.gain.sel(remedy=name)
        assert summarise(kept) in said.stdout
    shown = CliRunner().invoke(main, ["show", str(result)])
    assert said.stdout == shown.stdout
    both = CliRunner().invoke(main, ["compare", str(scenario), "--all", *arguments])
    assert both.exit_code == 2
    assert "either --all or --remedy" in both.output


def test_a_result_of_a_run_is_not_replaced(mixed, tmp_path):
    scenario, result = tmp_path / "mixed.toml", tmp_path / "run.nc"
    scenario.write_text(mixed.to_toml())
    mcsim.write(mcsim.run(mixed.replace({"run.steps": 2})), result)
    before = result.read_bytes()
    said = CliRunner().invoke(main, ["compare", str(scenario), "-o", str(result)])
    assert said.exit_code == 2
    assert "is the result of a run; it is not replaced" in said.output
    assert result.read_bytes() == before


def test_a_run_does_not_replace_a_comparison(mixed, tmp_path):
    scenario, result = tmp_path / "mixed.toml", tmp_path / "compared.nc"
    scenario.write_text(mixed.replace({"run.steps": 2}).to_toml())
    mcsim.write(mcsim.compare(mixed.replace({"run.steps": 2}), ["double-links"]), result)
    before = result.read_bytes()
    for command in (["run", str(scenario)], ["explain", str(scenario)]):
        said = CliRunner().invoke(main, [*command, "-o", str(result)])
        assert said.exit_code == 2
        assert "is the result of a comparison; it is not replaced" in said.output
    assert result.read_bytes() == before
    merged = CliRunner().invoke(main, ["merge", str(result), "-o", str(tmp_path / "whole.nc")])
    assert merged.exit_code == 2
    assert "is the result of a comparison, no part of a run" in merged.output


def test_swaps_are_in_the_step_of_a_comparison():
    slow = {"every": "100 s", "duration": "20 s", "factor": {"law": "constant", "value": 1.5}}
    sick = two_sites(jitter={"slow": slow})
    found = mcsim.compare(sick, ["remedy.evict_after=5 s;remedy.swap_cost=1 s"]).isel(remedy=1)
    run = mcsim.run(sick.replace({"remedy.evict_after": "5 s", "remedy.swap_cost": "1 s"}))
    np.testing.assert_allclose(found.step_time_mean, run.step_time_mean + float(run.swap_time))
    np.testing.assert_allclose(found.effective_gpus, 64 / found.step_time_mean)
    assert "more a step while devices are replaced" in summarise(run)
