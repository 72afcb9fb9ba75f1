"""The parts of a scenario: every key a user may write, with its unit, bounds and meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mcsim import fields
from mcsim.scenario.decode import UNREADABLE, listing
from mcsim.scenario.jitter import Jitter
from mcsim.scenario.part import LONGEST, MAX_COUNT, SHORTEST, Part

MAX_SEED = 2**64 - 1
MAX_STEPS = 2**32 - 1
"""A step's number is one 32-bit word of a random number's address."""
MAX_REPLICATES = 2**24
"""A replicate's number shares a word of the address with the purpose of the draw."""

CUSTOM = "custom"
"""The device that is described in the scenario instead of in the catalogue."""

TARGETS = (
    "step_time_mean",
    "step_time_p50",
    "step_time_p99",
    "step_time_p999",
    "communication_time_mean",
)
"""The statistics whose error `run.target_relative_error` may apply to."""


@dataclass(frozen=True)
class Run(Part):
    """How much is sampled, and what is kept of it."""

    seed: int = fields.integer(
        "selects all random numbers", default=0, at_least=0, at_most=MAX_SEED
    )
    steps: int = fields.integer(
        "training steps per replicate", default=1_000, at_least=1, at_most=MAX_STEPS
    )
    replicates: int = fields.integer(
        "clusters drawn from the lottery", default=1, at_least=1, at_most=MAX_REPLICATES
    )
    engine: str = fields.choice(
        "`sampled` draws every device, `exact` the law of the slowest; `auto` takes the cheaper",
        ("auto", "sampled", "exact"),
        default="auto",
    )
    target: str = fields.choice(
        "where devices are sampled; `auto` takes a GPU where there is one, for long runs",
        ("auto", "cpu", "cuda"),
        default="auto",
    )
    keep: str = fields.choice(
        "`steps` keeps the time of every step, `devices` histograms of all devices",
        ("summary", "steps", "devices"),
        default="summary",
    )
    target_relative_error: float | None = fields.quantity(
        "steps and replicates are added until this relative standard error is reached",
        None,
        default=None,
        at_least=1e-6,
        below=1,
    )
    target_statistic: str = fields.choice(
        "what target_relative_error applies to", TARGETS, default="step_time_mean"
    )
    max_steps: int | None = fields.integer(
        "where a run with a target stops; default: 10,000,000 per replicate",
        default=None,
        at_least=1,
        at_most=MAX_STEPS,
    )
    max_replicates: int | None = fields.integer(
        "where a run with a target stops; default: 10,000, or the one cluster of one",
        default=None,
        at_least=1,
        at_most=MAX_REPLICATES,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        for key, least in (("steps", self.steps), ("replicates", self.replicates)):
            most = getattr(self, f"max_{key}")
            if UNREADABLE in (most, least, self.target_relative_error) or most is None:
                continue
            if self.target_relative_error is None:
                yield f"max_{key}", "is given, but no target_relative_error that it would bound"
            elif most < least:
                yield f"max_{key}", f"{most:,} is below {key}, {least:,}"
        if self.engine == "exact" and self.target == "cuda":
            yield "target", '"cuda" samples devices, and the exact engine draws none'
        if self.engine == "exact" and self.keep == "devices":
            yield "engine", '"exact" draws no device, and keep = "devices" asks for all of them'


@dataclass(frozen=True)
class Site(Part):
    """A campus: devices with one local network."""

    name: str = fields.text("unique among the sites")


@dataclass(frozen=True)
class Fleet(Part):
    """A group of like devices at one site."""

    later = MappingProxyType({"age": "ageing of devices"})

    name: str = fields.text("unique among the groups; part of the address of every draw")
    device: str = fields.text('from the catalogue, or "custom"')
    count: int = fields.integer("devices", at_least=1, at_most=MAX_COUNT)
    site: str | None = fields.text("where the devices are", default=None)
    compute: float | None = fields.quantity(
        "one undisturbed step of a custom device",
        "time",
        default=None,
        at_least=SHORTEST,
        at_most=LONGEST,
    )
    efficiency: float = fields.quantity(
        "share of peak reached, relative to the share that the reference device reaches",
        None,
        default=1.0,
        above=0,
    )
    devices_per_node: int | None = fields.integer(
        "default: the catalogue's; custom: 1", default=None, at_least=1, at_most=MAX_COUNT
    )
    nodes_per_rack: int | None = fields.integer(
        "default: the catalogue's; custom: 1", default=None, at_least=1, at_most=MAX_COUNT
    )
    jitter: Jitter | None = fields.table(
        "overrides the scenario's [jitter], key by key", Jitter, default=None
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.device is UNREADABLE:
            return
        if self.device == CUSTOM and self.compute is None:
            yield "compute", "is missing: a custom device needs the time of one step"
        if self.device != CUSTOM and self.compute is not None:
            yield (
                "compute",
                f'is given, but "{self.device}" takes its time from the workload;'
                f' use device = "{CUSTOM}" to give it here',
            )


POLICIES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "bsp": {},
        "backup": {"wait_for": "a step ends with so many replicas"},
        "timeout": {"timeout": "a step ends then at the latest"},
        "local-sgd": {"inner_steps": "it meets once in so many steps"},
        "diloco": {"inner_steps": "it meets once in so many steps"},
        "hierarchical": {"inner_steps": "sites meet once in so many steps"},
        "quorum": {"quorum": "a round waits for so many sites", "inner_steps": "", "grace": ""},
        "streaming-diloco": {
            "inner_steps": "each fragment is exchanged once in so many steps",
            "fragments": "the model is exchanged in so many parts",
            "overlap_steps": "",
        },
        "ssp": {"staleness": "a replica may be so many steps ahead of the slowest"},
        "async": {},
    }
)
"""What each policy has keys for; and why the key is needed, if it is."""

OF_SITES = ("hierarchical", "quorum", "streaming-diloco")
"""Policies under which sites are the workers."""


@dataclass(frozen=True)
class Sync(Part):
    """How devices wait for each other."""

    policy: str = fields.choice(
        "`bsp`: everybody waits for the slowest, in each step; `backup`: for the first `wait_for`;"
        " `timeout`: no longer than that; `local-sgd`, `diloco`: once in `inner_steps`, so that a"
        " step of the result is a round of so many; `hierarchical`: inside a site in each step,"
        " between sites once a round; `quorum`: so, but for a part of the sites;"
        " `streaming-diloco`: so, by `fragments`, behind `overlap_steps`; `ssp`: each replica by"
        " itself, at most `staleness` steps ahead of the slowest; `async`: however far ahead",
        tuple(POLICIES),
        default="bsp",
    )
    inner_steps: int | None = fields.integer(
        "steps between two collectives (of sites, where those are the workers)",
        default=None,
        at_least=1,
        at_most=1_000_000,
    )
    wait_for: int | None = fields.integer(
        "model replicas that a step waits for: the first; the others' samples are lost",
        default=None,
        at_least=1,
        at_most=MAX_COUNT,
    )
    timeout: float | None = fields.quantity(
        "after which a step waits for nobody: what is late is lost",
        "time",
        default=None,
        at_least=SHORTEST,
        at_most=LONGEST,
    )
    quorum: int | None = fields.integer(
        "sites that a round waits for", default=None, at_least=1, at_most=MAX_COUNT
    )
    grace: float | None = fields.quantity(
        "that a round waits for the other sites after its quorum; default: 0 s",
        "time",
        default=None,
        at_least=0,
        at_most=LONGEST,
    )
    fragments: int | None = fields.integer(
        "parts in which the model is exchanged", default=None, at_least=1, at_most=1_000_000
    )
    overlap_steps: int | None = fields.integer(
        "inner steps that an exchange may take until its result is waited for; default: 0",
        default=None,
        at_least=0,
        at_most=1_000_000,
    )
    staleness: int | None = fields.integer(
        "steps that a replica may be ahead of the slowest",
        default=None,
        at_least=0,
        at_most=MAX_STEPS,
    )
    statistical_efficiency: float | None = fields.quantity(
        "what a sample is worth under the policy, of what it is under `bsp`; stands beside the"
        " results, and changes none of them",
        None,
        default=None,
        above=0,
        at_most=1,
    )

    @property
    def steps_a_round(self) -> int:
        """Steps from one collective to the next."""
        return self.inner_steps or 1

    @property
    def steps_averaged(self) -> int:
        """Steps of a round in which devices wait for nobody, not even inside their site."""
        return 1 if self.policy in OF_SITES else self.steps_a_round

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.policy is UNREADABLE:
            return
        keys = POLICIES[self.policy]
        for key in dict.fromkeys(key for every in POLICIES.values() for key in every):
            value = getattr(self, key)
            if value is None and keys.get(key):
                yield key, f'is missing: with "{self.policy}" {keys[key]}'
            if value not in (None, UNREADABLE) and key not in keys:
                others = [name for name, known in POLICIES.items() if key in known]
                take = f"take policy = {listing(others)}"
                yield key, f'changes nothing with "{self.policy}"; {take}'
        if self.policy == "streaming-diloco":
            yield from self._fragment_faults()

    def _fragment_faults(self) -> Iterable[tuple[str, str]]:
        inner, parts, overlap = self.inner_steps, self.fragments, self.overlap_steps
        if UNREADABLE in (inner, parts) or inner is None or parts is None:
            return
        if parts > inner:
            yield "fragments", f"{parts:,} is above inner_steps, {inner:,}: take at most that"
        elif overlap not in (None, UNREADABLE) and overlap > inner // parts:
            most = inner // parts
            yield (
                "overlap_steps",
                f"{overlap:,} is above {most:,}, the steps from one exchange to the next"
                " (inner_steps / fragments): take fewer, or fewer fragments",
            )
