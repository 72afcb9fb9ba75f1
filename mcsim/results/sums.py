"""The sums behind a result as bytes: what shards, checkpoints and longer runs go on from.

They stand at the end of a file, behind the NetCDF that everybody reads: a header, arrays, and a
footer with the checksum of all before it. Nothing is believed of a file until its checksum is
right, and no more is unpacked than what its scenario says there can be; so a damaged file is
found before any library reads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mcsim.engine.blocking import Blocking, Level
from mcsim.engine.devices import BINS
from mcsim.engine.histogram import Histogram
from mcsim.engine.pairwise import Node, Pairwise
from mcsim.engine.philox import GENERATOR
from mcsim.engine.runs import POWERS, Runs
from mcsim.engine.selfcheck import SelfCheck
from mcsim.engine.steps import DeviceCounts
from mcsim.engine.tally import Moments, Ordered, Sums, Tally
from mcsim.errors import McsimError, ResultError
from mcsim.model import lower
from mcsim.model.choice import Choice, steps_a_block
from mcsim.model.plan import Plan, Target
from mcsim.results.part import Cost, Part
from mcsim.scenario import parse_scenario

CHECKPOINT = b"mcsim checkpoint\n"
"""How a file begins that has nothing but sums."""

_MAGIC = b"mcsim sums 1\n\0\0\0"
_FOOTER = struct.Struct("<16sQ32s")
_LENGTH = struct.Struct("<Q")
_READ_AT_A_TIME = 1 << 20
_LONGEST_HEADER = 256 << 20
MOST_COMPRESSED = 1032
"""Times that zlib can make something smaller, at most."""

Arrays = dict[str, NDArray[Any]]


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one of nothing but sums, by how it begins. Raises OSError.

    A pipe, which can be read only once, is not looked at.
    """
    if path.is_fifo():
        return False
    with path.open("rb") as file:
        return file.read(len(CHECKPOINT)) == CHECKPOINT


def append(part: Part, path: Path) -> None:
    """Write the sums of a part behind what a file holds, and the checksum of all."""
    digest = hashlib.sha256()
    with path.open("r+b") as file:
        while read := file.read(_READ_AT_A_TIME):
            digest.update(read)
        payload = _packed(part)
        footer = _FOOTER.pack(_MAGIC, len(payload), b"")[: -digest.digest_size]
        digest.update(payload)
        digest.update(footer)
        file.write(payload + footer + digest.digest())


def read(path: Path) -> Part:
    """The part in a file. Raises ResultError, naming the file, for what is damaged or foreign."""
    try:
        if path.is_fifo():
            raise _UnusableError("is a pipe, not a file")
        with path.open("rb") as file:
            payload = _checked(file)
        return _unpacked(payload)
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise ResultError(f"{path}: its sums do not fit into the memory") from None
    except _UnusableError as error:
        raise ResultError(f"{path}: {error}") from None


class _UnusableError(Exception):
    """Why a file cannot be gone on from."""


def _checked(file: BinaryIO) -> bytes:
    """The header and the arrays of a file whose checksum is right."""
    end = file.seek(0, 2)
    if end < _FOOTER.size:
        raise _UnusableError("has no sums of mcsim to go on from: it is too short")
    file.seek(end - _FOOTER.size)
    magic, length, expected = _FOOTER.unpack(file.read(_FOOTER.size))
    if magic != _MAGIC:
        raise _UnusableError(
            "has no sums of mcsim at its end: it is cut short, from another program or version,"
            " or was written again by one"
        )
    if length > end - _FOOTER.size:
        raise _UnusableError("is damaged: it is shorter than it says")
    digest = hashlib.sha256()
    file.seek(0)
    left = end - digest.digest_size
    while left:
        read = file.read(min(_READ_AT_A_TIME, left))
        if not read:
            raise _UnusableError("was cut short while it was read")
        digest.update(read)
        left -= len(read)
    if digest.digest() != expected:
        raise _UnusableError("is damaged: its checksum is wrong")
    file.seek(end - _FOOTER.size - length)
    return file.read(length)


def _packed(part: Part) -> bytes:
    arrays = _arrays(part.tally)
    header = {
        "mcsim": metadata.version("mcsim"),
        "generator": GENERATOR,
        "scenario": part.scenario.to_toml(),
        "steps": part.plan.steps,
        "replicates": part.plan.replicates,
        "choice": dataclasses.astuple(part.choice),
        "cost": dataclasses.astuple(part.cost),
        "check": None if part.check is None else dataclasses.astuple(part.check),
        "shards": part.shards,
        "arrays": [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()],
    }
    text = json.dumps(header).encode()
    packer = zlib.compressobj(1)
    packed = [packer.compress(array.tobytes()) for array in arrays.values()]
    return b"".join([_LENGTH.pack(len(text)), text, *packed, packer.flush()])


def _unpacked(payload: bytes) -> Part:
    try:
        (length,) = _LENGTH.unpack_from(payload)
        if length > min(_LONGEST_HEADER, len(payload) - _LENGTH.size):
            raise _UnusableError("is damaged: its header has no end")
        header = json.loads(payload[_LENGTH.size : _LENGTH.size + length])
        _require_ours(header)
        scenario = parse_scenario(header["scenario"], "its scenario", Path())
        plan = lower(scenario)
        most = plan.target or Target(0.0, "", plan.steps, plan.replicates)
        plan = dataclasses.replace(
            plan,
            steps=_whole(header["steps"], plan.steps, most.max_steps),
            replicates=_whole(header["replicates"], plan.replicates, most.max_replicates),
        )
        described = {
            str(name): (np.dtype(kind), tuple(_whole(size) for size in shape))
            for name, kind, shape in header["arrays"]
        }
        arrays = _read_arrays(described, payload[_LENGTH.size + length :])
        return Part(
            scenario,
            _tally(plan, arrays),
            Choice(*map(str, header["choice"])),
            Cost(*header["cost"]),
            None if header["check"] is None else SelfCheck(*header["check"]),
            tuple((int(number), int(of)) for number, of in header["shards"]),
        )
    except _UnusableError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, zlib.error, struct.error) as error:
        raise _UnusableError(f"is damaged, or made by hand: {error}") from None
    except (McsimError, OverflowError, RecursionError) as error:
        raise _UnusableError(f"is damaged, or made by hand: {error}") from None


def _require_ours(header: Mapping[str, Any]) -> None:
    for what, ours in (("mcsim", metadata.version("mcsim")), ("generator", GENERATOR)):
        theirs = header[what]
        if theirs != ours:
            name = f"mcsim {theirs}" if what == "mcsim" else f"the generator {theirs}"
            raise _UnusableError(
                f"is from {name}, and this is {ours}: its numbers do not go together with others"
            )


def _whole(value: Any, least: int = 0, most: int = 1 << 62) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _UnusableError(f"is damaged, or made by hand: {value!r} where a number is to be")
    return value


def _read_arrays(
    described: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], packed: bytes
) -> Arrays:
    """Arrays of the shapes that are described, if there can be so much."""
    sizes = {}
    for name, (kind, shape) in described.items():
        if kind not in (np.dtype("<i8"), np.dtype("<f8")):
            raise _UnusableError(f"is damaged, or made by hand: {name} is of the type {kind}")
        size = kind.itemsize
        for length in shape:
            size *= length
        sizes[name] = size
    size = sum(sizes.values())
    if size > MOST_COMPRESSED * len(packed):
        raise _UnusableError(f"is damaged, or made by hand: it claims to hold {size:,} bytes")
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(packed, size + 1)
    if len(unpacked) != size or not unpacker.eof or unpacker.unused_data:
        raise _UnusableError(
            "is damaged, or made by hand: its arrays have other sizes than it says"
        )
    arrays: Arrays = {}
    start = 0
    for name, (kind, shape) in described.items():
        arrays[name] = np.ndarray(shape, kind, unpacked, start)
        start += sizes[name]
    return arrays


def _arrays(tally: Tally) -> Arrays:
    """The tally as arrays: of parts (consecutive blocks of a replicate), of the nodes of their
    pairwise sums, of the levels of batches in those, of bins and of steps."""
    numbered = [(one, part) for one in sorted(tally.sums) for part in tally.sums[one]]
    if not numbered:
        return {}
    parts = [part for _, part in numbered]
    nodes = [node for part in parts for node in part.ordered.nodes]
    moments = [node.value.moments for node in nodes]
    found: dict[str, Any] = {
        "replicate": [replicate for replicate, _ in numbered],
        "nodes": [len(part.ordered.nodes) for part in parts],
        "node": [(node.first, node.blocks, node.value.moments.count) for node in nodes],
        "moments": [(m.mean, m.second, m.third, m.fourth) for m in moments],
        "extremes": [(part.shortest, part.longest) for part in parts],
        "bins": [part.histogram.number.size for part in parts],
        "bin": _flat(np.column_stack([p.histogram.number, p.histogram.counts]) for p in parts),
        "culprits": [part.culprits for part in parts],
        "site_culprits": [part.site_culprits for part in parts],
        **_arrays_of_runs("runs", [part.runs for part in parts]),
    }
    devices = [part.device_runs for part in parts if part.device_runs is not None]
    if devices:
        found |= _arrays_of_runs("device_runs", devices)
    counts = [part.devices for part in parts if part.devices is not None]
    if counts:
        found["device_counts"] = [(one.times, one.waits) for one in counts]
    stages = [part.stage_culprits for part in parts if part.stage_culprits is not None]
    if stages:
        found["stage_culprits"] = stages
    if tally.plan.keep_steps:
        found["times"] = _flat(node.value.times for node in nodes)
    blocking = [node.value.blocking for node in nodes if node.value.blocking is not None]
    if blocking:
        levels = [level for one in blocking for level in one.levels]
        found["levels"] = [len(one.levels) for one in blocking]
        found["batches"] = [level.count for level in levels]
        found["batch_sums"] = [(level.mean, level.second) for level in levels]
        nothing = np.full_like(moments[0].mean, np.nan)
        found["batch"] = [nothing if one.whole is None else one.whole for one in blocking]
    return {
        name: np.asarray(values, "<f8" if name in _FLOATS else "<i8")
        for name, values in found.items()
    }


_FLOATS = ("moments", "extremes", "times", "batch_sums", "batch")


def _flat(arrays: Any) -> NDArray[Any]:
    several = list(arrays)
    return np.concatenate(several) if several else np.empty(0)


def _arrays_of_runs(name: str, runs: Sequence[Runs]) -> dict[str, Sequence[Any]]:
    return {
        f"{name}_ends": [(one.steps, *one.first, *one.last) for one in runs],
        f"{name}_counts": [one.counts for one in runs],
        f"{name}_longest": [one.longest for one in runs],
    }


_SHAPES: Mapping[str, tuple[int | str, ...]] = MappingProxyType(
    {
        "replicate": ("part",),
        "nodes": ("part",),
        "node": ("node", 3),
        "moments": ("node", 4, "column"),
        "extremes": ("part", 2),
        "bins": ("part",),
        "bin": ("bin", 2),
        "culprits": ("part", "group"),
        "site_culprits": ("part", "site"),
        "runs_ends": ("part", 5),
        "runs_counts": ("part", "group", POWERS),
        "runs_longest": ("part", "group"),
        "device_runs_ends": ("part", 5),
        "device_runs_counts": ("part", "group", POWERS),
        "device_runs_longest": ("part", "group"),
        "device_counts": ("part", 2, "group", BINS),
        "stage_culprits": ("part", "stage"),
        "times": ("step",),
        "levels": ("node",),
        "batches": ("level",),
        "batch_sums": ("level", 2, "column"),
        "batch": ("node", "column"),
    }
)
"""Of all arrays; those from "device_runs_ends" on are not always there."""


def _require_shapes(plan: Plan, arrays: Arrays) -> None:
    """Raise where an array is missing, or is not as long as those of its kind."""
    kept = {
        "device_counts": plan.keep == "devices",
        "times": plan.keep_steps,
        **dict.fromkeys(("levels", "batches", "batch_sums", "batch"), plan.steps_remember),
    }
    names = list(_SHAPES)
    always = names[: names.index("device_runs_ends")]
    needed = {*always, *(name for name, is_kept in kept.items() if is_kept)}
    allowed = {*names} - {name for name, is_kept in kept.items() if not is_kept}
    if not needed <= {*arrays} <= allowed:
        raise _UnusableError(f"is damaged, or made by hand: it has the arrays {', '.join(arrays)}")
    lengths = {"group": len(plan.groups), "site": len(plan.sites), "stage": plan.stages}
    for name, array in arrays.items():
        there = dict(zip(_SHAPES[name], array.shape, strict=False))
        shape = [
            lengths.setdefault(what, there[what]) if isinstance(what, str) else what
            for what in _SHAPES[name][: array.ndim]
        ]
        if list(array.shape) != shape or array.ndim != len(_SHAPES[name]):
            raise _UnusableError(f"is damaged, or made by hand: {name} has the shape {array.shape}")
    of_all = 3 + 2 * len(plan.groups) + len(plan.sites) + len(plan.tracked)
    if lengths.get("column", of_all) not in (of_all, of_all + len(plan.components)):
        raise _UnusableError("is damaged, or made by hand: it has sums of something else")


def _tally(plan: Plan, arrays: Arrays) -> Tally:
    """The tally that some arrays are of. Every shape and count has to be one of the plan's."""
    tally = Tally(plan)
    if not arrays:
        return tally
    _require_shapes(plan, arrays)
    nodes = _nodes(arrays)
    taken = _starts(arrays["nodes"], len(nodes))
    bins = _starts(arrays["bins"], len(arrays["bin"]))
    for number, replicate in enumerate(arrays["replicate"].tolist()):
        here = slice(taken[number], taken[number + 1])
        counted = arrays["bin"][slice(bins[number], bins[number + 1])]
        part = _part(arrays, number, nodes[here], counted)
        _require_sound(plan, replicate, part)
        tally.add(replicate, [part])
    return tally


def _starts(counts: NDArray[np.int64], total: int) -> list[int]:
    """Where each of some consecutive pieces begins, and where the last ends, which is `total`."""
    ends = np.cumsum(counts)
    if (counts < 0).any() or (ends[-1] if ends.size else 0) != total:
        raise _UnusableError("is damaged, or made by hand: its pieces are not its whole")
    return [0, *ends.tolist()]


def _nodes(arrays: Arrays) -> list[Node[Ordered]]:
    steps = arrays["node"][:, 2]
    times = arrays.get("times", np.empty(0))
    at = _starts(steps if "times" in arrays else np.zeros_like(steps), times.size)
    batches = _blockings(arrays) if "levels" in arrays else [None] * len(steps)
    return [
        Node(
            first,
            blocks,
            Ordered(
                Moments(count, *arrays["moments"][number]),
                batches[number],
                times[at[number] : at[number + 1]],
            ),
        )
        for number, (first, blocks, count) in enumerate(arrays["node"].tolist())
    ]


def _blockings(arrays: Arrays) -> list[Blocking | None]:
    sums = arrays["batch_sums"]
    levels = [Level(count, *sums[at]) for at, count in enumerate(arrays["batches"].tolist())]
    starts = _starts(arrays["levels"], len(levels))
    return [
        Blocking(
            tuple(levels[starts[number] : starts[number + 1]]),
            None if np.isnan(batch).all() else batch,
        )
        for number, batch in enumerate(arrays["batch"])
    ]


def _part(arrays: Arrays, number: int, nodes: list[Node[Ordered]], bins: NDArray[np.int64]) -> Sums:
    shortest, longest = arrays["extremes"][number].tolist()
    counts, stages = arrays.get("device_counts"), arrays.get("stage_culprits")
    return Sums(
        Pairwise(tuple(nodes)),
        shortest,
        longest,
        Histogram(bins[:, 0], bins[:, 1]),
        arrays["culprits"][number],
        arrays["site_culprits"][number],
        _runs(arrays, "runs", number),
        _runs(arrays, "device_runs", number) if "device_runs_ends" in arrays else None,
        None if counts is None else DeviceCounts(*counts[number]),
        None if stages is None else stages[number],
    )


def _runs(arrays: Arrays, name: str, number: int) -> Runs:
    steps, *ends = arrays[f"{name}_ends"][number].tolist()
    counts, longest = arrays[f"{name}_counts"][number], arrays[f"{name}_longest"][number]
    return Runs(steps, (ends[0], ends[1]), (ends[2], ends[3]), counts, longest)


def _require_sound(plan: Plan, replicate: int, part: Sums) -> None:
    """Raise where a part cannot be of the plan: of other blocks, or of other numbers of steps."""
    size = steps_a_block(plan)
    at = part.ordered.nodes[0].first if part.ordered.nodes else -1
    sound = 0 <= replicate < plan.replicates and at >= 0
    for node in part.ordered.nodes:
        sound &= node.first == at and node.blocks > 0 and at % node.blocks == 0
        sound &= node.blocks & (node.blocks - 1) == 0
        at += node.blocks
        steps = min(at * size, plan.steps) - node.first * size
        sound &= node.value.moments.count == steps > 0
    sound &= part.histogram.counts.sum() == part.culprits.sum() == part.steps == part.runs.steps
    if not sound:
        raise _UnusableError("is damaged, or made by hand: its sums are not of blocks of its run")
