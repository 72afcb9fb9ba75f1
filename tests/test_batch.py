"""Runs that are divided and put together, or go on, have the bits of those that were not."""

from __future__ import annotations

import dataclasses
import os
import random
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from oracle import scenario

import mcsim
from mcsim.batch import Shard, advance, going_on, merge
from mcsim.errors import ResultError
from mcsim.model import lower
from mcsim.model.choice import MOST_A_BLOCK as BLOCK
from mcsim.model.choice import steps_a_block
from mcsim.results import Checkpoints, label, read_part, write
from mcsim.results.sums import MOST_COMPRESSED

LOGNORMAL = {"law": "lognormal", "mean": 1, "cv": 0.05}
SLOW = {"every": 300.0, "duration": 40.0, "factor": {"law": "constant", "value": 1.4}}
PLAIN = {"count": 40, "jitter": {"persistent": LOGNORMAL, "step": LOGNORMAL}}
OTHER = {"name": "b", "count": 9, "jitter": {"step": LOGNORMAL, "slow": SLOW}}
STEPS = 5 * BLOCK + 77


def asked(*fleet, **run):
    plain = scenario(*(fleet or (PLAIN,)), steps=STEPS, replicates=3)
    return plain.replace({f"run.{key}": value for key, value in run.items()})


SCENARIOS = {
    "sampled": asked(engine="sampled"),
    "exact": asked(engine="exact"),
    "steps": asked(keep="steps", engine="sampled"),
    "devices": asked(keep="devices"),
    "slow": asked(PLAIN, OTHER),
}


def saved(part, path: Path) -> Path:
    write(label(part), path, part)
    return path


def assert_same(one: xr.Dataset, other: xr.Dataset) -> None:
    xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Seven shards of a run, and the run itself."""
    place = tmp_path_factory.mktemp("shards")
    one = SCENARIOS["slow"]
    files = [
        saved(advance(one, shard=Shard(number, 7)), place / f"{number}.nc")
        for number in range(1, 8)
    ]
    return files, saved(advance(one), place / "whole.nc")


def test_shards_merge_to_one_file_whatever_the_order(shards, tmp_path):
    files, whole = shards
    chance = random.Random(3)
    merged = []
    for number in range(2):
        order = chance.sample(files, len(files))
        merged.append(saved(merge(order), tmp_path / f"{number}.nc"))
    halves = [
        saved(merge(some, partial=True), tmp_path / name)
        for some, name in ((order[:3], "a.nc"), (order[3:], "b.nc"))
    ]
    merged.append(saved(merge(halves[::-1]), tmp_path / "nested.nc"))
    first, *others = (file.read_bytes() for file in merged)
    assert all(other == first for other in others)
    with mcsim.open(merged[0]) as one, mcsim.open(whole) as other:
        assert_same(one, other)
        for name in ("self_check_deviation", "steps_done", "engine_reason", "completeness"):
            assert one.attrs[name] == other.attrs[name] or np.isnan(one.attrs[name])


def test_python_merges_into_a_file_that_may_go_on(shards, tmp_path):
    files, whole = shards
    output = tmp_path / "whole.nc"
    found = mcsim.merge([*map(str, files)], output)
    assert_same(found, mcsim.merge(files))
    for file in (whole, output):
        with mcsim.open(file) as written:
            assert_same(found, written)
    assert read_part(output).is_complete
    with pytest.raises(ResultError, match="no files"):
        mcsim.merge([])
    with pytest.raises(TypeError, match="list of names"):
        mcsim.merge("whole.nc")


@pytest.mark.parametrize("kind", SCENARIOS)
def test_two_shards_of_every_kind_are_the_whole(kind, tmp_path):
    one = SCENARIOS[kind]
    files = [saved(advance(one, shard=Shard(i, 2)), tmp_path / f"{i}.nc") for i in (1, 2)]
    assert_same(label(merge(files)), label(advance(one, threads=1)))


def test_more_shards_than_blocks_leave_some_empty(tmp_path):
    one = asked(steps=10, replicates=2)
    files = [saved(advance(one, shard=Shard(i, 5)), tmp_path / f"{i}.nc") for i in range(1, 6)]
    assert sorted(read_part(file).tally.steps for file in files) == [0, 0, 0, 10, 10]
    assert_same(label(merge(files)), label(advance(one)))


def test_a_shard_says_that_it_is_a_part(shards):
    with mcsim.open(shards[0][2]) as found:
        assert found.attrs["completeness"].startswith("partial: ")
        assert int(found.steps.sum()) == found.attrs["steps_done"]


def test_what_cannot_be_merged_is_named(shards, tmp_path):
    files, whole = shards
    with pytest.raises(ResultError, match=r"shard 3/7 \(steps .* of replicate \d\) is in none"):
        merge([*files[:2], *files[3:]])
    with pytest.raises(ResultError, match=r"3\.nc: is given twice"):
        merge([*files, files[2]])
    with pytest.raises(ResultError, match=r"whole\.nc: holds steps 0 .* which .*1\.nc holds too"):
        merge([*files, whole])
    sigma = float(np.nextafter(0.05, 1))
    changes = {
        "run.seed": 5,
        "fleet[0].jitter.step.cv": sigma,
        "fleet[1].jitter.slow.every": 301.0,
    }
    for key, value in changes.items():
        foreign = SCENARIOS["slow"].replace({key: value})
        file = saved(advance(foreign, shard=Shard(3, 7)), tmp_path / "foreign.nc")
        with pytest.raises(ResultError) as refused:
            merge([*files[:2], file])
        assert f"foreign.nc: is of another run than {files[0]}: {key} is {value!r}" in str(
            refused.value
        )


def test_another_version_or_engine_is_not_merged(shards, tmp_path, monkeypatch):
    files, _ = shards
    with monkeypatch.context() as other:
        other.setattr("mcsim.results.sums.metadata.version", lambda name: "0.0.9")
        old = saved(advance(SCENARIOS["slow"], shard=Shard(1, 7)), tmp_path / "old.nc")
    with pytest.raises(ResultError, match=r"old\.nc: is from mcsim 0\.0\.9, and this is"):
        merge([old, *files[1:]])
    part = read_part(files[0])
    choice = dataclasses.replace(part.choice, engine="exact")
    odd = saved(dataclasses.replace(part, choice=choice), tmp_path / "odd.nc")
    with pytest.raises(ResultError, match="run all with the same --engine"):
        merge([*files[1:], odd])


@pytest.mark.parametrize("kind", SCENARIOS)
def test_a_finished_run_goes_on(kind, tmp_path):
    one = SCENARIOS[kind]
    done = read_part(saved(advance(one), tmp_path / "short.nc"))
    for change in ({"run.steps": 7 * BLOCK + 3}, {"run.replicates": 4}):
        longer = one.replace(change)
        counted = []
        part = advance(
            longer,
            earlier=going_on(longer, done, tmp_path, None),
            progress=lambda done, steps: counted.append(done),  # noqa: B023
        )
        if kind == "exact" or kind == "sampled":
            assert counted[0] > STEPS
        assert_same(label(part), label(advance(longer)))


def test_what_a_run_cannot_go_on_from_is_named(tmp_path):
    one = SCENARIOS["sampled"]
    done = advance(one.replace({"run.steps": 50}))
    for key, value in {"run.seed": 9, "run.steps": 49, "fleet[0].jitter.step.cv": 0.06}.items():
        with pytest.raises(mcsim.ScenarioError, match=f"{key}".replace("[", r"\[")):
            going_on(one.replace({"run.steps": 50, key: value}), done, Path("x.nc"), None)
    with pytest.raises(mcsim.ScenarioError, match="not of the shard 1/2"):
        going_on(one.replace({"run.steps": 50}), done, Path("x.nc"), Shard(1, 2))


def test_a_run_with_a_target_is_resumed_but_not_divided(tmp_path):
    one = asked(steps=100, replicates=1, target_relative_error=0.0002)
    with pytest.raises(mcsim.ScenarioError, match="cannot be divided into shards"):
        advance(one, shard=Shard(1, 2))
    checkpoints = Checkpoints(tmp_path / "x.nc")

    class KilledError(Exception):
        pass

    def watch(done):
        checkpoints.save(done())
        if done().tally.steps > 3_000:
            raise KilledError

    whole = advance(one)
    assert whole.tally.steps > 10_000
    with pytest.raises(KilledError):
        advance(one, watch=watch)
    _, done = checkpoints.load()
    assert_same(label(advance(one, earlier=going_on(one, done, tmp_path, None))), label(whole))


def test_blocks_of_dear_steps_are_short():
    dear = {"count": 10**6, "jitter": {"step": LOGNORMAL, "slow": SLOW | {"duration": 1e6}}}
    plan = lower(scenario(dear, steps=10))
    assert 1 < steps_a_block(plan) < BLOCK
    assert steps_a_block(dataclasses.replace(plan, steps=10**6)) == steps_a_block(plan)


def flipped(data: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(data)
    if chance.random() < 0.3:
        return bytes(damaged[: chance.randrange(len(data))])
    damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def test_what_is_no_file_of_ours_is_neither_read_nor_replaced(shards, tmp_path):
    files, _ = shards
    pipe, loop, text = tmp_path / "pipe.nc", tmp_path / "loop.nc", tmp_path / "my.toml"
    os.mkfifo(pipe)
    loop.symlink_to("other.nc")
    (tmp_path / "other.nc").symlink_to("loop.nc")
    text.write_text("name = 'mine'")
    with pytest.raises(ResultError, match=r"pipe\.nc: is a pipe"):
        mcsim.merge([files[0], pipe])
    with pytest.raises(ResultError, match=r"pipe\.nc: is not NetCDF"):
        mcsim.open(pipe)
    for output, said in (
        (loop, "leads to itself"),
        (text, "is not replaced"),
        (tmp_path / "nowhere" / "x.nc", "no directory"),
    ):
        with pytest.raises(ResultError, match=said):
            mcsim.merge(files, output)
        with pytest.raises(ResultError, match=said):
            mcsim.write(mcsim.merge(files), output)
    assert text.read_text() == "name = 'mine'"


def test_what_was_not_compared_yet_is_compared_when_it_is_merged(tmp_path):
    whole = advance(SCENARIOS["sampled"])
    Checkpoints(tmp_path / "x.nc").save(dataclasses.replace(whole, check=None))
    (file,) = tmp_path.iterdir()
    merged = merge([file])
    assert merged.is_complete
    assert merged.check == whole.check
    assert not merge([file], partial=True).is_complete


def test_damaged_shards_are_refused(shards, tmp_path):
    files, _ = shards
    data = files[2].read_bytes()
    chance = random.Random(11)
    broken = tmp_path / "broken.nc"
    for _ in range(200):
        broken.write_bytes(flipped(data, chance))
        with pytest.raises(ResultError, match=r"broken\.nc: (is damaged|has no sums)"):
            merge([*files[:2], broken, *files[3:]])


def test_damaged_checkpoints_are_refused_or_the_one_before_is_taken(tmp_path):
    parts = [advance(asked(steps=1000 * n, replicates=1)) for n in (1, 2)]
    checkpoints = Checkpoints(tmp_path / "x.nc")
    for part in parts:
        checkpoints.save(part)
    data = checkpoints.newest.read_bytes()
    chance = random.Random(12)
    for _ in range(200):
        checkpoints.newest.write_bytes(flipped(data, chance))
        path, part = checkpoints.load()
        assert (path, part.tally.steps) == (checkpoints.former, 1000)
    checkpoints.former.unlink()
    with pytest.raises(ResultError, match=r"x\.nc\.checkpoint: "):
        checkpoints.load()
    checkpoints.newest.unlink()
    assert checkpoints.load() is None


def resealed(payload_of, file: Path) -> None:
    """A file whose sums are changed by hand, with a checksum that is right."""
    import hashlib

    from mcsim.results import sums

    data = file.read_bytes()
    _, length, _ = sums._FOOTER.unpack(data[-sums._FOOTER.size :])
    start = len(data) - sums._FOOTER.size - length
    payload = payload_of(data[start : start + length])
    body = data[:start] + payload + sums._FOOTER.pack(sums._MAGIC, len(payload), b"")[:-32]
    file.write_bytes(body + hashlib.sha256(body).digest())


def test_sums_made_by_hand_are_refused(shards, tmp_path):
    from mcsim.results import sums

    def with_header(change):
        def payload_of(payload):
            import json

            (length,) = sums._LENGTH.unpack_from(payload)
            header = json.loads(payload[8 : 8 + length])
            change(header)
            text = json.dumps(header).encode()
            return sums._LENGTH.pack(len(text)) + text + payload[8 + length :]

        return payload_of

    def claim(header):
        header["arrays"][0][2] = [10**14]

    def other_blocks(header):
        header["steps"] -= 2000

    changes = [
        with_header(claim),
        with_header(other_blocks),
        with_header(lambda header: header["arrays"].pop()),
        with_header(lambda header: header["arrays"].reverse()),
        with_header(lambda header: header.pop("cost")),
        with_header(lambda header: header.update(scenario="x")),
        with_header(lambda header: header.update(replicates=10**30)),
        with_header(lambda header: header["arrays"][0].__setitem__(1, "|O")),
        lambda payload: b"",
        lambda payload: payload[:40],
        lambda payload: b"\xff" * 8 + payload,
        lambda payload: payload[:-10],
    ]
    for number, change in enumerate(changes):
        file = tmp_path / f"{number}.nc"
        file.write_bytes(shards[0][0].read_bytes())
        resealed(change, file)
        with pytest.raises(
            ResultError, match=f"{number}.nc: is damaged, or made by hand|is damaged"
        ):
            read_part(file)


def test_a_small_file_that_claims_much_costs_nothing(shards, tmp_path):
    file = tmp_path / "hostile.nc"
    with netCDF4.Dataset(file, "w") as made:
        made.scenario = SCENARIOS["slow"].to_toml()
        made.createDimension("step", 10**14)
        made.createVariable("step_time", "f8", ("step",), zlib=True, chunksizes=(1 << 20,))
    assert file.stat().st_size * MOST_COMPRESSED < 8 * 10**14
    with pytest.raises(ResultError, match=r"hostile\.nc: is made by hand: it claims to hold"):
        mcsim.open(file)
    with pytest.raises(ResultError, match=r"hostile\.nc: has no sums of mcsim"):
        merge([shards[0][0], file])
