"""What training a model asks of a device, against published figures."""

from __future__ import annotations

import pytest

import mcsim
from mcsim.errors import ScenarioError
from mcsim.model import lower
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
