"""Links between sites: queues, loss and its protocols, fair shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import scenario

import mcsim
from mcsim.errors import ScenarioError
from mcsim.model import lower
from mcsim.model.fairness import max_min
from mcsim.model.loss import go_back_n, in_flight, mathis, selective_repeat
from mcsim.model.network import goodput, one_way_latency
from mcsim.model.queueing import kingman, m_d_1, m_m_1
from mcsim.scenario.network import Link


def link(**keys):
    return Link(**{"between": ("a", "b"), "bandwidth": 100e9, **keys})


@pytest.mark.parametrize(("utilisation", "wait"), [(0.0, 0.0), (0.5, 1.0), (0.8, 4.0), (0.9, 9.0)])
def test_waits_of_textbook_queues(utilisation, wait):
    assert m_m_1(utilisation, 2.0) == pytest.approx(2 * wait, rel=1e-12)
    assert m_d_1(utilisation, 2.0) == pytest.approx(wait, rel=1e-12)
    assert kingman(utilisation, 2.0, 1.0, 1.0) == m_m_1(utilisation, 2.0)
    assert kingman(utilisation, 2.0, 0.0, 0.0) == 0.0


def test_waits_of_the_data(shared_data):
    import json

    cases = json.loads((shared_data / "validation_cases.json").read_text())["cases"]
    values = next(case["values"] for case in cases if case["id"] == "G6")
    assert m_m_1(0.8, 1.0) == pytest.approx(values["0.8"], rel=1e-12)
    assert m_m_1(0.9, 1.0) == pytest.approx(values["0.9"], rel=1e-12)
    assert m_d_1(0.8, 1.0) == pytest.approx(values["MD1_0.8"], rel=1e-12)


def test_waits_are_those_of_simulated_queues():
    random = np.random.default_rng(1)
    customers, utilisation = 400_000, 0.7
    between = random.exponential(1 / utilisation, customers)
    for service, expected in (
        (random.exponential(1.0, customers), m_m_1(utilisation, 1.0)),
        (np.ones(customers), m_d_1(utilisation, 1.0)),
    ):
        # Lindley: waits are the walk of service less gaps, over its running minimum.
        walk = np.concatenate([[0.0], np.cumsum(service[:-1] - between[1:])])
        waits = walk - np.minimum.accumulate(walk)
        assert waits.mean() == pytest.approx(expected, rel=0.05)


def test_a_full_queue_is_refused():
    with pytest.raises(ValueError, match="below 1"):
        m_m_1(1.0, 1.0)


def test_go_back_n_is_one_over_one_plus_p_w_where_loss_is_small():
    for loss in (1e-9, 1e-7, 1e-5):
        for window in (1, 10, 1_000, 100_000):
            # What the short form leaves out is of the order of the loss.
            expected = 1 / (1 + loss * window)
            assert go_back_n(loss, window) == pytest.approx(expected, rel=1.01 * loss * window)
    assert go_back_n(1e-7, 1_000) == pytest.approx(1 / (1 + 1e-4), rel=1e-6)
    assert go_back_n(0.0, 1_000) == 1.0
    assert go_back_n(0.3, 1) == selective_repeat(0.3) == 0.7


@pytest.mark.parametrize(("loss", "window"), [(0.01, 10), (0.1, 50), (0.5, 20), (1e-3, 2_000)])
def test_go_back_n_is_what_a_simulated_sender_gets(loss, window):
    random = np.random.default_rng(4)
    delivered = 300_000
    # Each delivery is preceded by the losses of its packet; each costs what is in flight.
    failures = random.negative_binomial(1, 1 - loss, delivered)
    sent = delivered + window * failures.sum()
    error = window * math.sqrt(failures.var() / delivered) * go_back_n(loss, window) ** 2
    assert abs(delivered / sent - go_back_n(loss, window)) < 5 * error


def test_tcp_slows_with_the_root_of_loss_and_with_distance():
    # The published constant: 0.87 / sqrt(p) segments a round trip if every second is acknowledged.
    assert mathis(1e-4, 1460, 0.1) == pytest.approx(1460 / 0.1 * 122.474487, rel=1e-8)
    assert mathis(4e-4, 1460, 0.1) == pytest.approx(mathis(1e-4, 1460, 0.1) / 2, rel=1e-12)
    assert mathis(0.0, 1460, 0.1) == math.inf


@pytest.mark.parametrize(
    ("capacity", "paths", "rates"),
    [
        # Bertsekas & Gallager's line: a long flow and a short one on each link.
        ([1, 1], [[0, 1], [0], [1]], [0.5, 0.5, 0.5]),
        ([1, 2], [[0, 1], [0], [1]], [0.5, 0.5, 1.5]),
        # Five flows over four links, of which two are shared by three.
        ([1, 1, 2, 1], [[0, 2], [2], [2, 3], [0], [0]], [1 / 3, 5 / 6, 5 / 6, 1 / 3, 1 / 3]),
        # A star: two flows leave by the same trunk.
        ([10, 10, 4], [[0, 2], [1, 2], [0]], [2, 2, 8]),
        ([3], [[0, 0], [0]], [1, 1]),
        ([3], [[], [0]], [np.inf, 3]),
    ],
)
def test_fair_shares_on_textbook_graphs(capacity, paths, rates):
    assert max_min(capacity, paths) == pytest.approx(rates, rel=1e-12)


def test_no_share_can_grow_but_from_a_smaller_one():
    random = np.random.default_rng(2)
    for _ in range(50):
        capacity = random.uniform(1, 10, 6)
        paths = [list(random.choice(6, random.integers(1, 4), replace=False)) for _ in range(8)]
        rates = max_min(capacity, paths)
        load = np.array(
            [sum(r for r, p in zip(rates, paths, strict=True) if l in p) for l in range(6)]
        )
        assert np.all(load <= capacity * (1 + 1e-12))
        for rate, path in zip(rates, paths, strict=True):
            # Each flow has a full link on which nobody has more.
            assert any(
                load[l] >= capacity[l] * (1 - 1e-9)
                and all(r <= rate * (1 + 1e-9) for r, p in zip(rates, paths, strict=True) if l in p)
                for l in path
            )


def test_ten_miles_of_fibre_take_79_microseconds():
    assert one_way_latency(link(distance=16_093.44)) == pytest.approx(78.8e-6, rel=1e-3)


def test_other_traffic_takes_bandwidth_and_makes_messages_wait():
    busy = link(utilisation=0.8, packet=1e6)
    assert goodput(busy) == pytest.approx(20e9, rel=1e-12)
    assert one_way_latency(busy) == pytest.approx(4 * 1e6 / 100e9, rel=1e-12)
    assert one_way_latency(link(utilisation=0.8, packet=1e6, queue="m/d/1")) == pytest.approx(
        2 * 1e6 / 100e9, rel=1e-12
    )


def test_loss_costs_what_the_protocol_makes_of_it():
    far = {"distance": 1e6, "loss": 1e-4}
    round_trip = 2 * one_way_latency(link(**far))
    window = in_flight(100e9, round_trip, 4096)
    assert goodput(link(**far)) == pytest.approx(100e9 * go_back_n(1e-4, window), rel=1e-12)
    assert goodput(link(**far)) < 0.1 * 100e9
    assert goodput(link(**far, protocol="selective-repeat")) == pytest.approx(99.99e9, rel=1e-12)
    one = goodput(link(**far, protocol="tcp"))
    assert one == pytest.approx(mathis(1e-4, 4096, round_trip), rel=1e-12)
    assert goodput(link(**far, protocol="tcp", connections=16)) == pytest.approx(
        16 * one, rel=1e-12
    )
    assert goodput(link(protocol="tcp", loss=0.1)) == 100e9


@pytest.mark.parametrize(("connections", "loss"), [(1, 0.01), (4, 0.01), (8, 0.05), (40, 0.1)])
def test_a_queue_pair_sends_again_what_it_has_in_flight_itself(connections, loss):
    """Slot by slot: senders take turns; each hears of a loss a round trip later, and goes back."""
    in_all, slots = 40, 400_000
    lost = (np.random.default_rng(connections).random(slots) < loss).tolist()
    delivered = [0] * connections
    back_at = [0] * connections
    for slot, failed in enumerate(lost):
        sender = slot % connections
        # Between a loss and the news of it the receiver throws away what comes.
        if slot >= back_at[sender]:
            if failed:
                back_at[sender] = slot + in_all
            else:
                delivered[sender] += 1
    # 40 packets of 1 kB are in flight at 1 GB/s and a round trip of 40 us.
    keys = {"bandwidth": 1e9, "packet": 1e3, "latency": 20e-6, "loss": loss}
    expected = goodput(link(**keys, connections=connections)) / 1e9
    assert expected == pytest.approx(go_back_n(loss, in_all / connections), rel=1e-12)
    assert sum(delivered) / slots == pytest.approx(expected, rel=0.02)


def test_a_queue_pair_with_a_single_packet_in_flight_loses_no_other():
    far = {"distance": 1e6, "loss": 1e-2}
    assert goodput(link(**far, connections=10**6)) == pytest.approx(99e9, rel=1e-12)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"protocol": "selective-repeat", "loss": 1e-3}, "only what is lost is sent again"),
        ({"protocol": "go-back-n"}, "no packet is lost; give `loss` or `age`"),
        ({"protocol": "tcp"}, "no packet is lost; give `loss` or `age`"),
    ],
)
def test_connections_that_change_nothing_are_refused(keys, message):
    with pytest.raises(ScenarioError, match=r"link\[0\]\.connections: changes nothing: " + message):
        two_sites({"connections": 8, **keys})


def test_a_lossy_link_slows_the_exchange():
    fleet = [{"count": 2, "site": site, "name": site} for site in ("a", "b")]

    def across(**keys):
        parts = {
            "site": [{"name": "a"}, {"name": "b"}],
            "link": [{"between": ["a", "b"], "bandwidth": "10 GB/s", "distance": "100 km", **keys}],
        }
        return lower(scenario(*fleet, workload={"gradient": "100 GB"}, **parts)).barrier.across

    assert across() == pytest.approx(10.0, rel=1e-3)
    assert across(loss=1e-4) > 12.0
    assert across(utilisation=0.5) == pytest.approx(20.0, rel=1e-3)


def two_sites(link=None, *, jitter=None, **parts):
    """Two sites of 50 devices of a second, and a link of 10 GB/s that carries 10 GB each way."""
    fleet = [{"count": 50, "site": site, "name": site, "jitter": jitter or {}} for site in "ab"]
    return scenario(
        *fleet,
        workload={"gradient": "10 GB"},
        site=[{"name": "a"}, {"name": "b"}],
        link=[{"between": ["a", "b"], "bandwidth": "10 GB/s", **(link or {})}],
        **parts,
    )


FLAP = {"every": "40 s", "duration": "5 s"}


def test_a_flap_is_waited_for_as_often_and_as_long_as_the_chain_says():
    law = lower(two_sites({"flap": FLAP})).barrier.delays[0].messages[0].law
    share, rate = 5 / 45, 1 / 40 + 1 / 5
    down = share * (1 - math.exp(-rate))
    waits = down + (1 - down) * (1 - math.exp(-1 / 40))
    assert law.survival(np.zeros(1))[0] == pytest.approx(waits, rel=1e-12)
    assert law.expectation() == pytest.approx(5 * waits, rel=1e-12)
    # What remains of a flap has the law of a whole one.
    assert law.survival(np.full(1, 7.0))[0] == pytest.approx(waits * math.exp(-7 / 5), rel=1e-12)


def test_rare_flaps_are_met_as_often_as_they_begin():
    flap = {"every": "10 years", "duration": "1 ms"}
    law = lower(two_sites({"flap": flap})).barrier.delays[0].messages[0].law
    # During the exchange of a second, and in the last millisecond before it.
    assert law.survival(np.zeros(1))[0] == pytest.approx(1.001 / (3652.5 * 86400), rel=1e-6)


@pytest.mark.parametrize("jitter", [None, {"step": {"law": "lognormal", "mean": 1, "cv": 0.05}}])
@pytest.mark.parametrize("delay", [None, {"law": "exponential", "mean": "2 s"}])
def test_flaps_cost_the_same_on_both_engines_and_in_the_law(jitter, delay):
    keys = {"flap": FLAP} | ({"delay": delay} if delay else {})
    asked = two_sites(keys, jitter=jitter, steps=50_000)
    law = mcsim.law(asked)
    for engine in ("sampled", "exact"):
        found = mcsim.run(asked.replace({"run.engine": engine}))
        assert abs(found.step_time_mean - law.mean()) < 5 * found.step_time_mean_stderr
        assert abs(found.step_time_std - law.std()) < 5 * found.step_time_std_stderr
        for q in (0.5, 0.9, 0.99):
            # The law may jump here; the bins of the histogram are 0.025 % wide.
            error = 5 * math.sqrt(q * (1 - q) / 50_000)
            low, high = law.quantile([q - error, q + error]) * [1 - 3e-4, 1 + 3e-4]
            assert low <= found.step_time_quantile.sel(quantile=q) <= high


def test_flaps_of_several_links_are_waited_for_together():
    names = ("a", "b", "c")
    fleet = [{"count": 1, "site": site, "name": site} for site in names]
    flap = {"every": "1 ms", "duration": "3 s"}
    links = [
        {"between": pair, "bandwidth": "10 GB/s", "flap": flap}
        for pair in (["a", "b"], ["b", "c"], ["a", "c"])
    ]
    parts = {"site": [{"name": name} for name in names], "link": links}
    asked = scenario(*fleet, workload={"gradient": "10 GB"}, steps=20_000, **parts)
    # Each is down nearly always: the maximum of three exponential times.
    plain = lower(asked).barrier.across
    down = 3 * (1 + 1 / 2 + 1 / 3)
    found = mcsim.run(asked)
    error = 5 * found.communication_time_mean_stderr.item() + 1e-2
    assert abs(found.communication_time_mean.item() - plain - down) < error


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"flap": {"every": 0, "duration": 1}}, r"flap\.every: 0 must be above 0"),
        ({"flap": {"every": 1, "duration": 0}}, r"flap\.duration: 0 must be above 0"),
        ({"flap": {"every": 1}}, "`duration` is missing"),
        ({"loss": 1}, "below 1"),
        ({"loss": -0.1}, "at least 0"),
        ({"utilisation": 1}, "below 1"),
        ({"distance": "-1 km"}, "at least 0"),
        ({"protocol": "udp"}, "go-back-n"),
        ({"packet": 0}, "at least 1"),
    ],
)
def test_impossible_links_are_refused(keys, message):
    parts = {
        "site": [{"name": "a"}, {"name": "b"}],
        "link": [{"between": ["a", "b"], "bandwidth": 1, **keys}],
    }
    with pytest.raises(ScenarioError, match=message):
        scenario({"count": 1, "site": "a"}, {"count": 1, "site": "b"}, **parts)


def test_kingmans_queue_waits_by_both_variations():
    """A packet of 1 MB takes 10 us; at a utilisation of 0.8 it waits four times that, times the
    mean of the squared coefficients of variation."""
    keys = {"packet": 1e6, "utilisation": 0.8, "queue": "kingman"}
    assert one_way_latency(link(**keys)) == pytest.approx(40e-6)
    assert one_way_latency(link(**keys, service_cv=0.0)) == pytest.approx(20e-6)
    assert one_way_latency(link(**keys, arrival_cv=3.0, service_cv=1.0)) == pytest.approx(200e-6)
    assert list(link(arrival_cv=2.0).faults()) != []
