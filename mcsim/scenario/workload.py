"""The workload's tables: a training step, the model that is trained, and how it is divided."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mcsim import fields
from mcsim.scenario.decode import UNREADABLE
from mcsim.scenario.part import LONGEST, MAX_COUNT, SHORTEST, Part

PLACEMENTS = ("contiguous", "interleaved", "by-generation", "explicit")

OUTER_LAYERS = 2
"""The embedding and the output, which may be pieces of their own, as in Llama 3 405B."""


@dataclass(frozen=True)
class Model(Part):
    """A transformer, from which compute, payloads and memory follow."""

    parameters: float = fields.quantity("of the whole model", None, above=0, at_most=1e18)
    layers: int = fields.integer("transformer blocks", at_least=1, at_most=MAX_COUNT)
    hidden: int = fields.integer("width of a layer", at_least=1, at_most=MAX_COUNT)
    sequence: int = fields.integer("tokens of a sequence", at_least=1, at_most=MAX_COUNT)
    batch: int = fields.integer(
        "tokens of a step, all replicas together", at_least=1, at_most=10**15
    )
    mfu: float = fields.quantity(
        "share of the peak that the reference device reaches while it computes, what is computed"
        " again included: without bubble, communication and waiting, which are simulated",
        None,
        above=0,
        at_most=1,
    )
    active_parameters: float | None = fields.quantity(
        "that a token uses; default: all", None, default=None, above=0, at_most=1e18
    )
    experts: int | None = fields.integer(
        "of each layer, of a mixture of experts", default=None, at_least=2, at_most=MAX_COUNT
    )
    experts_per_token: int = fields.integer(
        "that each token is sent to", default=1, at_least=1, at_most=MAX_COUNT
    )
    gradient_precision: str = fields.choice(
        "that gradients are summed in", ("bf16", "fp32"), default="bf16"
    )
    recompute: str = fields.choice(
        "what of the activations is computed again: what attention holds, for nothing, or all of a"
        " layer, for a third more operations, and its collectives once more",
        ("selective", "full"),
        default="selective",
    )
    kept: float | None = fields.quantity(
        "activations of a token and unit of width that are kept of a layer, all devices of `tensor`"
        " together; default: 34 B, or 2 B where all is computed again",
        "data",
        default=None,
        above=0,
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        active, experts = self.active_parameters, self.experts
        if active is not UNREADABLE and experts is not UNREADABLE:
            if experts is None and active is not None:
                yield "experts", "is missing: only a mixture of experts leaves parameters unused"
            if experts is not None and active is None:
                yield "active_parameters", "is missing: how many a token uses of all experts'"
        if UNREADABLE not in (active, self.parameters) and active and active > self.parameters:
            yield "active_parameters", f"{active:g} are more than all {self.parameters:g}"
        each = self.experts_per_token
        if UNREADABLE not in (experts, each) and experts and each >= experts:
            yield "experts_per_token", f"{each} must be below the number of experts, {experts}"
        elif UNREADABLE not in (experts, each, active, self.parameters) and experts and active:
            least = self.parameters * each / experts
            # Reached where there is nothing but experts.
            if active < least * (1 - 1e-9):
                yield (
                    "active_parameters",
                    f"{active:g} must be at least {least:g}: a token uses {each} of {experts}"
                    f" experts, so of {self.parameters:g} parameters that many",
                )
        yield from self._too_few()

    def _too_few(self) -> Iterable[tuple[str, str]]:
        """Where the parameters that a token uses are fewer than the layers' own."""
        if UNREADABLE in (self.parameters, self.active_parameters, self.layers, self.hidden):
            return
        least = 2.0 * self.layers * float(self.hidden) ** 2
        key = "parameters" if self.active_parameters is None else "active_parameters"
        if getattr(self, key) < least:
            yield (
                key,
                f"{getattr(self, key):g} must be at least {least:g}: each of {self.layers:,}"
                f" layer(s) of width {self.hidden:,} has 2 x {self.hidden:,}^2 for the queries and"
                " the output of its attention alone",
            )


@dataclass(frozen=True)
class Parallel(Part):
    """How the model is divided among devices; data parallelism is what remains."""

    tensor: int = fields.integer(
        "devices that share every layer, within a node", default=1, at_least=1, at_most=MAX_COUNT
    )
    pipeline: int = fields.integer(
        "stages, one after the other", default=1, at_least=1, at_most=MAX_COUNT
    )
    expert: int = fields.integer(
        "replicas that share the experts", default=1, at_least=1, at_most=MAX_COUNT
    )
    microbatches: int = fields.integer(
        "of a replica in a step", default=1, at_least=1, at_most=100_000
    )
    schedule: str = fields.choice("of the pipeline", ("1f1b", "interleaved"), default="1f1b")
    virtual_stages: int | None = fields.integer(
        "pieces of the model on each device, if interleaved; default: 2",
        default=None,
        at_least=2,
        at_most=1_000,
        reason="with one there is nothing to interleave",
    )
    backward: float = fields.quantity(
        "time of a backward pass over that of a forward pass, without what is computed again",
        None,
        default=2.0,
        above=0,
    )
    placement: str = fields.choice(
        "of replicas and stages on the devices, in the order of the fleet: replica after replica,"
        " stage after stage, replica after replica by speed, or as `stages` says",
        PLACEMENTS,
        default="contiguous",
    )
    stages: tuple[str, ...] = fields.names(
        "the group that each stage is on, if explicit", default=()
    )
    zero: int = fields.integer(
        "stage of ZeRO: what replicas share of optimizer (1), gradients (2), parameters (3)",
        default=1,
        at_least=0,
        at_most=3,
    )
    buckets: int = fields.integer(
        "parts of the gradient that are sent while the last backward passes of the pieces go on",
        default=1,
        at_least=1,
        at_most=100_000,
    )
    activation: float | None = fields.quantity(
        "of a microbatch, handed from stage to stage; default: the model's",
        "data",
        default=None,
        at_least=0,
    )

    @property
    def chunks(self) -> int:
        """Pieces of the model on each device."""
        return (self.virtual_stages or 2) if self.schedule == "interleaved" else 1

    def faults(self) -> Iterable[tuple[str, str]]:
        interleaved = self.schedule == "interleaved"
        if self.schedule == "1f1b" and self.virtual_stages is not None:
            yield "virtual_stages", 'is given, but the schedule is not "interleaved"'
        known = UNREADABLE not in (self.microbatches, self.pipeline, self.schedule)
        if known and interleaved and self.microbatches % self.pipeline:
            yield (
                "microbatches",
                f"{self.microbatches} is no multiple of the {self.pipeline} stages, as the"
                " interleaved schedule needs",
            )
        if UNREADABLE in (self.placement, self.stages, self.pipeline):
            return
        if self.placement != "explicit" and self.stages:
            yield "stages", 'is given, but the placement is not "explicit"'
        if self.placement == "explicit" and len(self.stages) != self.pipeline:
            yield (
                "stages",
                f"names {len(self.stages)} group(s), and there are {self.pipeline} stage(s)",
            )


@dataclass(frozen=True)
class Workload(Part):
    """One training step of one device, and what all devices exchange at its end."""

    compute: float | None = fields.quantity(
        "one step on the reference device, undisturbed",
        "time",
        default=None,
        at_least=SHORTEST,
        at_most=LONGEST,
    )
    reference: str | None = fields.text("the device that `compute` is given for", default=None)
    precision: str = fields.text("number format that the peak is taken for", default="bf16")
    gradient: float | None = fields.quantity(
        "all-reduced over all devices each step; absent: no collective",
        "data",
        default=None,
        at_least=0,
    )
    overlap: float = fields.quantity(
        "part of the compute time that can hide communication",
        None,
        default=0.0,
        at_least=0,
        at_most=1,
    )
    model: Model | None = fields.table(
        "from which follow compute, gradient and activations, where they are not given",
        Model,
        default=None,
    )
    parallel: Parallel | None = fields.table(
        "how the model is divided; absent: every device is a replica", Parallel, default=None
    )

    def faults(self) -> Iterable[tuple[str, str]]:
        if self.compute is not None and self.reference is None:
            yield "reference", "is missing: name the device that `compute` is the time of"
        if self.reference is not None and self.compute is None and self.model is None:
            yield "compute", "is missing: give the time of one step on the reference device"
        yield from self._more_pieces_than_layers()

    def _more_pieces_than_layers(self) -> Iterable[tuple[str, str]]:
        model, parallel = self.model, self.parallel
        if UNREADABLE in (model, parallel) or model is None or parallel is None:
            return
        known = (parallel.pipeline, parallel.schedule, parallel.virtual_stages, model.layers)
        if UNREADABLE in known:
            return
        pieces = parallel.pipeline * parallel.chunks
        if pieces > model.layers + OUTER_LAYERS:
            key = "virtual_stages" if parallel.pipeline <= model.layers else "pipeline"
            each = f" of {parallel.chunks} pieces each" if parallel.chunks > 1 else ""
            yield (
                f"parallel.{key}",
                f"{parallel.pipeline} stage(s){each} are more than the {model.layers} layers,"
                " the embedding and the output",
            )
