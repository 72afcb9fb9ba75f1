"""Results of each kind, small, to be drawn and reported; and the axes of a picture as drawn."""

from __future__ import annotations

import functools
import itertools

import mcsim

SITES = ("north", "south")


def asked(
    name: str = "drawn", groups: tuple[str, ...] = ("old", "new"), **run: object
) -> mcsim.Scenario:
    """Groups in turn on two sites, with lotteries, jitter and a link between."""
    return mcsim.Scenario.from_dict(
        {
            "name": name,
            "run": {"steps": 64, "replicates": 3, **run},
            "workload": {"compute": "1 s", "reference": "h100-sxm", "gradient": "1 GB"},
            "site": [{"name": site} for site in SITES],
            "link": [{"between": list(SITES), "bandwidth": "200 Gb/s"}],
            "network": {"site": {"bandwidth": "20 GB/s", "latency": "5 us"}},
            "jitter": {
                "persistent": {"law": "lognormal", "mean": 1, "cv": 0.04},
                "step": {"law": "lognormal", "mean": 1, "cv": 0.02},
            },
            "fleet": [
                {"name": one, "device": device, "count": 16, "site": site}
                for one, site, device in zip(
                    groups, itertools.cycle(SITES), itertools.cycle(("h100-sxm", "gb200"))
                )
            ],
        }
    )


def one_group(law: dict[str, object], compute: str, **run: object) -> mcsim.Scenario:
    """Ten devices without a network."""
    group = {"name": "all", "device": "custom", "compute": compute, "count": 10}
    table = {"name": "one", "run": run, "jitter": {"step": law}, "fleet": [group]}
    return mcsim.Scenario.from_dict(table)


REMEDIES = ("shares-by-group", "only-north")


def of_kind(kind: str, scenario: mcsim.Scenario):
    """The Dataset of a scenario, of a kind."""
    if kind == "comparison":
        return mcsim.compare(scenario, REMEDIES)
    return {"run": mcsim.run, "explanation": mcsim.explain}[kind](scenario)


@functools.cache
def made(kind: str):
    """The Dataset of the usual scenario; not to be changed."""
    return of_kind(kind, asked())


KINDS = ("run", "explanation", "comparison")
