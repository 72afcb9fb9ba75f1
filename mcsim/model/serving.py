"""The fleet as a service: independent replicas of a model, each of a few devices.

A replica answers several requests at a time: when one is answered, the next one's prompt is run and
it takes the place (continuous batching: Yu et al., "Orca", OSDI 2022; caches in pages: Kwon et al.,
"Efficient memory management for large language model serving with PagedAttention", SOSP 2023). No
replica waits for another, so what they answer adds up; the devices of a replica share every layer
and wait for the slowest of them in every pass. All that a device does is slowed by its factors,
what the memory bounds too: an upper bound of the loss, since measured speeds of memory-bound work
differ 50 times less than those of compute-bound work (0.04 % against 2 %).

Left out: random delays of messages inside a replica, failures, and requests of unlike length that
are not answered in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mcsim.errors import SimulationError
from mcsim.laws import FloatArray
from mcsim.model.lockstep import slowed
from mcsim.model.plan import Group, Plan
from mcsim.model.queueing import m_g_c
from mcsim.model.roofline import Replica, Served
from mcsim.model.served import Known

_LEAST = 1e-9
"""Of a factor of times; what is below it is none."""


@dataclass(frozen=True)
class Pool:
    """The replicas of a group of devices.

    batch: requests that a replica answers at a time.
    """

    group: Group
    replica: Replica
    batch: int

    @property
    def replicas(self) -> int:
        """Whole ones; the devices that are left over do nothing."""
        return self.group.count // self.replica.devices

    @cached_property
    def token_time(self) -> tuple[float, float]:
        """From a token to the next, undisturbed, s: of the devices, and of what they exchange."""
        step, prefill = self.replica.step(self.batch), self.replica.prefill()
        each = self.batch / self.replica.served.output
        return (
            step.devices + each * prefill.devices,
            step.exchange + each * prefill.exchange,
        )

    @property
    def ideal(self) -> float:
        """Requests a second of all devices, undisturbed, with a free network and none left over."""
        output = self.replica.served.output
        whole = self.group.count / self.replica.devices
        return whole * self.batch / (output * self.token_time[0])

    @property
    def reading(self) -> float:
        """Part of the devices' undisturbed time in passes that the memory bounds."""
        prefill, step = self.replica.prefill(), self.replica.step(self.batch)
        prompts = self.batch / self.replica.served.output * prefill.devices
        time = prompts * prefill.by_memory + step.devices * step.by_memory
        return time / self.token_time[0]

    @property
    def taking_part(self) -> float:
        """Part of the devices that are in a whole replica."""
        return self.replicas * self.replica.devices / self.group.count

    def rates(self, factor: FloatArray) -> FloatArray:
        """Requests a second of each replica. factor: by which its devices are slower."""
        devices, exchange = self.token_time
        output = self.replica.served.output
        return np.asarray(self.batch / (output * (factor * devices + exchange)))

    def latencies(self, factor: FloatArray) -> FloatArray:
        """Of a request that waits for no other, of each replica: prompt and answer, s."""
        devices, exchange = self.token_time
        output = self.replica.served.output
        return self.first_token(factor) + output * (factor * devices + exchange)

    def first_token(self, factor: FloatArray) -> FloatArray:
        """Until the prompt has been run, of each replica, s."""
        prefill = self.replica.prefill()
        return np.asarray(factor * prefill.devices + prefill.exchange)


@dataclass(frozen=True)
class Drawn:
    """What the pools of a drawn cluster do.

    Shape (pools,): capacity: requests a second. wait, wait_at_random: s, for a place in the pool,
    and in a replica that is chosen at random. latency, first_token, slowest: s, of a request: the
    mean, until its first token, and in the slowest replica; waiting included. factor: by which
    replicas are slower, their mean.
    """

    capacity: FloatArray
    wait: FloatArray
    wait_at_random: FloatArray
    latency: FloatArray
    first_token: FloatArray
    slowest: FloatArray
    factor: FloatArray

    @classmethod
    def stacked(cls, several: Sequence[Drawn]) -> Drawn:
        """Several clusters, shape (replicates, pools)."""
        names = cls.__dataclass_fields__
        return cls(*(np.array([getattr(one, name) for one in several]) for name in names))


@dataclass(frozen=True)
class Service:
    """All that a scenario says of the fleet as a service.

    known: the keys of [inference] with what they are, given or not, and what they follow from.
    """

    served: Served
    pools: tuple[Pool, ...]
    known: dict[str, Known]

    @property
    def load(self) -> float:
        """Requests over the most that can be answered."""
        return self.known["utilisation"].value

    @property
    def ideal(self) -> float:
        """Requests a second, undisturbed and with a free network."""
        return sum(pool.ideal for pool in self.pools)

    @property
    def exchanging(self) -> float:
        """Requests a second where nothing disturbs but replicas exchange, and devices are left."""
        one = np.ones(1)
        return sum(pool.replicas * float(pool.rates(one)[0]) for pool in self.pools)

    @property
    def whole(self) -> float:
        """Requests a second where nothing disturbs, replicas exchange nothing, devices are left."""
        return sum(pool.ideal * pool.taking_part for pool in self.pools)

    def drawn(self, plan: Plan, base: Sequence[FloatArray]) -> Drawn:
        """Of a cluster. base: per group, the times of its devices in training, s."""
        rows = [self._pool(pool, plan, times) for pool, times in zip(self.pools, base, strict=True)]
        return Drawn(*np.array(rows).T)

    def _pool(self, pool: Pool, plan: Plan, base: FloatArray) -> tuple[float, ...]:
        factor = slowed(pool.group, base, pool.replica.devices, plan.slow_sites)
        if not (factor > _LEAST).all():
            raise SimulationError(f"devices of {pool.group.name} that take no time serve no one")
        rates, latencies = pool.rates(factor), pool.latencies(factor)
        share = rates / rates.sum()
        service, cv2 = float(latencies @ share), self.known["variation"].value ** 2
        wait = m_g_c(pool.replicas * pool.batch, self.load, service, cv2)
        at_random = m_g_c(pool.batch, self.load, service, cv2)
        first = float(pool.first_token(factor) @ share)
        slowest = float(latencies.max())
        return (
            float(rates.sum()),
            wait,
            at_random,
            wait + service,
            wait + first,
            wait + slowest,
            float(factor.mean()),
        )
