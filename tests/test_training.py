"""What training a model asks of a device, against published figures."""

from __future__ import annotations

from typing import ClassVar

import pytest

import mcsim
from mcsim.errors import ScenarioError
from mcsim.model import lower
from mcsim.model.estimate import before_running
from mcsim.model.training import Training
from mcsim.scenario.workload import Model, Parallel

DENSE = {"layers": 32, "hidden": 4096, "sequence": 2048, "batch": 2**22, "mfu": 0.4}


def training(parallel=None, replicas=1, **model):
    return Training(Model(**(DENSE | model)), Parallel(**(parallel or {})), replicas)


def test_llama_3_405b_took_its_published_operations():
    """3.8e25 for 15.6e12 tokens: 6 a parameter and token (arXiv:2407.21783, section 3)."""
    model = training(parameters=405e9, layers=126, hidden=16_384, sequence=8192)
    attention = 12 * 126 * 16_384 * 8192
    assert (model.operations_per_token - attention) * 15.6e12 == pytest.approx(3.8e25, rel=0.005)


def test_mixtral_8x7b_has_its_published_experts():
    """46.7e9 parameters of which 12.9e9 are active, arXiv:2401.04088; its experts are three
    matrices of 4096 x 14336 each, eight in each of 32 layers."""
    model = training(parameters=46.7e9, active_parameters=12.9e9, experts=8, experts_per_token=2)
    assert model.expert_parameters == pytest.approx(32 * 8 * 3 * 4096 * 14_336, rel=0.002)
    # A device of an eighth of the replicas holds one of eight.
    shared = training(
        {"expert": 8},
        8,
        parameters=46.7e9,
        active_parameters=12.9e9,
        experts=8,
        experts_per_token=2,
    )
    assert shared.expert == pytest.approx(model.expert / 8)
    assert shared.dense == pytest.approx(model.dense)
    assert shared.dense + 8 * shared.expert == pytest.approx(46.7e9)


@pytest.mark.parametrize(("zero", "gigabytes"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_leaves_what_its_authors_say(zero, gigabytes):
    """Rajbhandari et al., SC 2020, figure 1: 7.5e9 parameters on 64 devices."""
    memory = training({"zero": zero}, 64, parameters=7.5e9).memory()
    del memory["activations"]
    assert sum(memory.values()) == pytest.approx(gigabytes * 1e9, abs=0.05e9)


def test_activations_are_those_of_the_microbatches_in_flight():
    """Korthikanti et al., MLSys 2023: s b h 34 / t a layer, of as many as there are stages."""
    one = DENSE["batch"] / 16 * 4096 * 34 / 2 * 32
    held = training({"tensor": 2, "microbatches": 16}, parameters=7e9).memory()["activations"]
    assert held == pytest.approx(one)
    stages = training({"tensor": 2, "pipeline": 4, "microbatches": 16}, parameters=7e9)
    assert stages.memory()["activations"] == pytest.approx(one)
    few = training({"tensor": 2, "pipeline": 4, "microbatches": 2}, parameters=7e9)
    assert few.memory()["activations"] == pytest.approx(8 * one * 2 / 4)
    chunks = Parallel(2, 4, 1, 16, "interleaved", 2)
    assert Training(stages.model, chunks, 1).memory()["activations"] == pytest.approx(
        one * (1 + 3 / 8)
    )
    full = training({"tensor": 2, "microbatches": 16}, parameters=7e9, recompute="full")
    assert full.memory()["activations"] == pytest.approx(one * 2 / 34)


def given(parallel=None, count=1024, **model):
    return mcsim.Scenario.from_dict(
        {
            "name": "model",
            "workload": {
                "reference": "h100-sxm",
                "model": DENSE | {"parameters": 7e9} | model,
                "parallel": parallel or {"zero": 3},
            },
            "fleet": [{"name": "a", "device": "h100-sxm", "count": count}],
        }
    )


def test_compute_is_the_operations_over_what_the_device_reaches():
    plan = lower(given())
    operations = (6 * 7e9 + 12 * 32 * 4096 * 2048) * 2**22 / 1024
    assert plan.groups[0].compute == pytest.approx(operations / (0.4 * 989.4e12))
    faster = given().replace({"fleet[0].device": "gb200"})
    assert lower(faster).groups[0].compute == pytest.approx(operations / (0.4 * 2500e12))


def test_given_times_and_payloads_win_over_the_model():
    changed = given().replace({"workload.compute": "3 s"})
    assert lower(changed).groups[0].compute == 3.0


def test_a_model_that_does_not_fit_is_refused_with_its_parts():
    with pytest.raises(ScenarioError, match=r"workload\.model") as caught:
        lower(given({"zero": 0}, parameters=70e9))
    for part in ("optimizer 840 GB", "gradients 140 GB", "h100-sxm has 80 GB"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"active_parameters": 1e9}, "experts: is missing"),
        ({"experts": 8}, "active_parameters: is missing"),
        ({"experts": 8, "active_parameters": 8e9}, "are more than all 7e+09"),
        ({"experts": 2, "active_parameters": 6e9, "experts_per_token": 2}, "must be below"),
        (
            {"experts": 8, "active_parameters": 8e8},
            "active_parameters: 8e+08 must be at least 8.75e+08: a token uses 1 of 8 experts",
        ),
        (
            {"parameters": 1e3, "layers": 8, "hidden": 1024},
            "parameters: 1000 must be at least 1.67772e+07: each of 8 layer(s) of width 1,024",
        ),
        (
            {"parameters": 7e9, "active_parameters": 1e9, "experts": 8, "hidden": 8192},
            "active_parameters: 1e+09 must be at least 4.29497e+09",
        ),
        ({"mfu": 1.5}, "mfu: 1.5 must be"),
        ({"layers": 0}, "layers: 0 must be at least 1"),
        ({"parameters": -1}, "parameters: -1 must be above 0"),
        ({"hiden": 1}, 'did you mean "hidden"'),
    ],
)
def test_a_model_that_cannot_be(model, message):
    with pytest.raises(ScenarioError) as caught:
        given(None, **model)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ({"pipeline": 64}, "parallel.pipeline: 64 stage(s) are more than the 32 layers"),
        (
            {
                "pipeline": 8,
                "microbatches": 8,
                "schedule": "interleaved",
                "virtual_stages": 5,
            },
            "parallel.virtual_stages: 8 stage(s) of 5 pieces each are more than the 32 layers",
        ),
    ],
)
def test_more_pieces_than_layers_are_refused(parallel, message):
    with pytest.raises(ScenarioError) as caught:
        given(parallel)
    assert message in str(caught.value)


def test_embedding_and_output_may_be_pieces_of_their_own():
    """As in Llama 3 405B: 126 layers, and 16 stages of 8 pieces (arXiv:2407.21783, 3.3.2)."""
    scenario = given({"pipeline": 2, "microbatches": 2, "schedule": "interleaved", "zero": 3})
    fine = scenario.replace({"workload.parallel.virtual_stages": 17, "fleet[0].count": 512})
    said = [remark for remark in before_running(fine) if "layers" in remark]
    assert said == ["32 layers do not divide into 34 pieces: each counts as 0.941 layers"]
    even = scenario.replace({"workload.parallel.virtual_stages": 16, "fleet[0].count": 512})
    assert not [remark for remark in before_running(even) if "layers" in remark]


def test_less_than_a_sequence_a_microbatch_is_refused():
    """2^22 tokens are 2,048 sequences: of 1,024 devices, two each."""
    lower(given({"zero": 3, "microbatches": 2}))
    with pytest.raises(ScenarioError, match=r"workload\.model\.batch: 4,194,304 tokens") as caught:
        lower(given({"zero": 3, "microbatches": 4}))
    assert "1,024 of each of 4,096 microbatch(es)" in str(caught.value)
    assert "at least 8,388,608" in str(caught.value)
    (said,) = (
        remark for remark in before_running(given(count=1536)) if remark.startswith("a microbatch")
    )
    assert "has 1.33333 sequences" in said


class TestComputingAgain:
    """All of a layer computed again: 8 operations a parameter and token instead of 6."""

    PARALLEL: ClassVar = {"tensor": 8, "pipeline": 4, "microbatches": 8, "zero": 3}

    def run(self, **model):
        network = {"node": {"bandwidth": "450 GB/s", "latency": "1 ms"}}
        bare = given(self.PARALLEL, **model).to_dict() | {"network": network}
        return mcsim.run(mcsim.Scenario.from_dict(bare).replace({"run.steps": 2}))

    def test_a_step_takes_a_forward_pass_more_and_its_collectives_once_more(self):
        plain, full = self.run(), self.run(recompute="full")

        def part(found, name):
            return found.component_time_mean.sel(component=name).item()

        assert part(full, "compute") == pytest.approx(part(plain, "compute") * 4 / 3, rel=1e-12)
        assert part(full, "tensor") == pytest.approx(part(plain, "tensor") * 3 / 2, rel=1e-12)
        assert full.clock.item() == pytest.approx(full.step_time_mean.item(), rel=1e-12)
        # What is done again is no work of the model's.
        assert full.mfu.item() == pytest.approx(
            plain.mfu.item() * plain.step_time_mean.item() / full.step_time_mean.item()
        )

    def test_its_backward_pass_takes_three_times_a_forward_pass(self):
        plans = [lower(given(self.PARALLEL, recompute=one)) for one in ("selective", "full")]
        (plain, full) = (
            (one.division.forward * g.compute, one.division.backward * g.compute)
            for one in plans
            for g in one.groups
        )
        assert full[0] == pytest.approx(plain[0], rel=1e-12)
        assert full[1] == pytest.approx(plain[1] + plain[0], rel=1e-12)

    def test_random_delays_of_collectives_come_once_more_too(self):
        delay = {"law": "exponential", "mean": "1 ms"}
        found = []
        for again in ("selective", "full"):
            bare = given({"tensor": 8, "zero": 3}, recompute=again).to_dict()
            bare["network"] = {"node": {"latency": 0, "delay": delay}}
            run = mcsim.Scenario.from_dict(bare).replace({"run.steps": 40})
            found.append(mcsim.run(run).component_time_mean.sel(component="tensor").item())
        assert found[1] / found[0] == pytest.approx(3 / 2, rel=0.02)

    def test_what_is_kept_may_be_said(self):
        plain, said = training(parameters=7e9), training(parameters=7e9, kept=17.0)
        assert said.memory()["activations"] == plain.memory()["activations"] / 2


def test_parameters_that_are_gathered_set_the_pace_where_the_network_is_slow():
    """ZeRO stage 3: no operation is shorter than the all-gather of its parameters."""
    slow = given().to_dict() | {"network": {"site": {"bandwidth": "1 GB/s"}}}
    result = mcsim.run(mcsim.Scenario.from_dict(slow).replace({"run.steps": 2}))
    # 14 GB, 1/8 of it by each device of a node, all but the node's own part, twice; then the
    # scattered gradients, half of what is gathered together with them.
    share = 14e9 / 8 * (1 - 1 / 128) / 1e9
    assert result.step_time_mean.item() == pytest.approx(3 * share)


def test_the_utilisation_is_what_is_left_of_the_peak():
    found = mcsim.run(given().replace({"run.steps": 2}))
    assert found.mfu.item() == pytest.approx(0.4, rel=1e-12)
    pipelined = {"pipeline": 4, "microbatches": 4, "zero": 3}
    found = mcsim.run(given(pipelined).replace({"run.steps": 2}))
    assert found.mfu.item() == pytest.approx(0.4 / (1 + 3 / 4), rel=1e-12)
    mixed = given(count=1536).to_dict()
    mixed["fleet"].append(mixed["fleet"][0] | {"name": "b", "device": "gb200", "count": 512})
    mixed = mcsim.Scenario.from_dict(mixed).replace({"run.steps": 2})
    # Equal work: the fast devices wait for the others.
    peak = (1536 * 989.4 + 512 * 2500) / 2048
    assert mcsim.run(mixed).mfu.item() == pytest.approx(0.4 * 989.4 / peak, rel=1e-12)
    assert "mfu" not in mcsim.run(
        mixed.replace({"fleet[1].device": "custom", "fleet[1].compute": 1})
    )
