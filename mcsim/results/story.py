"""A verdict in words and numbers: the table of both uses, and what follows from it.

Every sentence is made of the Dataset's numbers; which is said depends on them.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

import xarray as xr

from mcsim.results.remedied import remedies_of_verdict
from mcsim.results.summary import causes, estimate, percent, with_error
from mcsim.results.uses import QUANTITIES
from mcsim.tables import Paragraphs, Table
from mcsim.units import show

_AGREE = 0.05
"""A relative difference from what is told that counts as none."""

_ROWS = (
    ("efficiency", "efficiency: capacity kept, %", 100.0),
    ("demand", "of that in use, %", 100.0),
    ("effective_gpus", "effective GPUs", 1.0),
    ("wasted_gpus", "wasted GPU hours an hour", 1.0),
    ("waiting_gpus", "  waiting, slow devices, network", 1.0),
    ("headroom_gpus", "  not asked for", 1.0),
    ("wasted_gpu_hours_a_day", "wasted GPU hours a day", 1.0),
    ("wasted_gpu_hours_a_month", "wasted GPU hours a month", 1.0),
    ("mfu", "of the fleet's peak (MFU), %", 100.0),
    ("tokens_per_second", "million tokens a second", 1e-6),
    ("power", "power, MW", 1.0),
    ("wasted_power", "  of it wasted, MW", 1.0),
    ("cost_a_month", "cost a month, M {currency}", 1e-6),
    ("wasted_cost_a_month", "  of it wasted, M {currency}", 1e-6),
    ("cost_of_million_tokens", "cost of a million tokens, {currency}", 1.0),
)
"""The variables of the table, what they are called in it, and by what they are multiplied."""


def summarise_verdict(dataset: xr.Dataset, *, sources: bool = False) -> Paragraphs:
    """Both uses side by side, the replicas of each group, and the story of the numbers.

    sources: also what each row follows from.
    """
    attrs = dataset.attrs
    head = (
        f"{attrs['scenario_name']}: {int(attrs['devices']):,} devices as a trainer and as a"
        f" service; {int(attrs['replicates_done'])} cluster(s), seed {attrs['seed']}"
    )
    parts: Paragraphs = [head, _both(dataset), _replicas(dataset)]
    if "remedy" in dataset.sizes:
        parts.append(remedies_of_verdict(dataset))
    parts += [_wrapped(one) for one in story(dataset)]
    if sources:
        parts += [_sources(dataset), _figures(dataset)]
    return parts


def _both(dataset: xr.Dataset) -> Table:
    rows = []
    for name, title, factor in _ROWS:
        if name not in dataset:
            continue
        cells: list[str] = []
        for use in ("training", "inference"):
            value, error = (
                factor * float(dataset[f"{name}{end}"].sel(use=use)) for end in ("", "_stderr")
            )
            cells += _cell(value, error)
        rows.append([title.format(currency=dataset.attrs.get("currency", "")), *cells])
    header = ["", "training", "std. error", "inference", "std. error"]
    return Table(header, rows)


def _cell(value: float, error: float) -> tuple[str, str]:
    if math.isnan(value):
        return "not known", ""
    if math.isnan(error):
        return _number(value), "unknown"
    shown, around = with_error(value, error)
    return (shown, f"± {around}") if around else (_number(value), "")


def _number(value: float) -> str:
    """Six digits, and all of a larger number."""
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.6g}"


def _replicas(dataset: xr.Dataset) -> Table:
    rows = []
    for group in dataset.group.values:
        here = dataset.sel(group=group)
        tokens = float(here.request_capacity) / int(here.group_devices) * _a_request(dataset)
        rows.append(
            [
                str(group),
                str(here.group_site.values),
                f"{int(here.replicas):,}",
                str(int(here.devices_per_replica)),
                f"{int(here.batch):,}",
                f"{tokens:,.0f}",
                f"{100 * (float(here.replica_slowdown) - 1):.2f} %",
                show(float(here.first_token_latency), "time"),
                show(float(here.request_latency), "time"),
            ]
        )
    header = ["group", "site", "replicas", "GPUs each", "requests each", "tokens/s a GPU"]
    header += ["slower by", "first token", "answer"]
    return Table(header, rows, left=(0, 1))


def _a_request(dataset: xr.Dataset) -> float:
    """Tokens of a request."""
    tokens = float(dataset.prompt_tokens_per_second) + float(dataset.output_tokens_per_second)
    load = float(dataset.demand.sel(use="inference"))
    return tokens / (load * float(dataset.request_capacity.sum()))


def story(dataset: xr.Dataset) -> Iterator[str]:
    """What the numbers say, one paragraph after the other."""
    yield _which(dataset)
    yield _lost_in_training(dataset)
    yield _lost_in_inference(dataset)
    yield _for_nothing(dataset)
    if "public_utilisation" in dataset:
        yield from _public(dataset)
    yield (
        "Standard errors are those of chance, of the drawn clusters and of the steps. What is"
        " uncertain are the figures that go in: `mcsim verdict --sources` prints them."
    )


def _which(dataset: xr.Dataset) -> str:
    kept = {use: float(dataset.efficiency.sel(use=use)) for use in ("training", "inference")}
    load = float(dataset.demand.sel(use="inference"))
    devices = int(dataset.attrs["devices"])
    said = (
        f"As one synchronous trainer the fleet keeps {100 * kept['training']:.1f} % of its"
        f" capacity, the work of {kept['training'] * devices:,.0f} of {devices:,} GPUs; as a"
        f" service {100 * kept['inference']:.1f} %, of which {100 * load:.0f} % are asked for: the"
        f" work of {kept['inference'] * load * devices:,.0f}. Training is taken never to pause or"
        " to fail."
    )
    policy, worth = str(dataset.attrs["sync_policy"]), dataset.attrs["statistical_efficiency"]
    if policy != "bsp":
        known = f"; that they are worth {worth:g} is given" if worth < 1.0 else ""
        said += f' What samples are worth with "{policy}" is not in it{known}.'
    break_even = kept["training"] / kept["inference"]
    if break_even >= 1.0:
        return f"{said} It suits training: no load makes more of it as a service."
    at = f"above a load of {100 * break_even:.0f} % a service makes more of it than training does"
    if load > break_even:
        if not kept["training"] > 0.0:
            return f"{said} It suits inference: as a trainer it does nothing."
        ratio = kept["inference"] * load / kept["training"]
        return f"{said} It suits inference: {ratio:.2g} times the work, and {at}."
    return f"{said} At this load training makes more of it; {at}."


def _lost_in_training(dataset: xr.Dataset) -> str:
    first, *lost, whole = causes(dataset)
    longer = whole.seconds - first.seconds
    lost = sorted((one for one in lost if one.seconds > 0.0), key=lambda one: -one.seconds)
    if longer <= 0.0 or not lost:
        return f"A step takes {show(whole.seconds, 'time')}, no longer than undisturbed."
    named = "; ".join(
        f"{one.name.removeprefix('+ ')}: {one.seconds:.3g} s ({100 * one.seconds / longer:.0f} %)"
        for one in lost
    )
    inner = int(dataset.attrs["inner_steps"])
    step = "step" if inner == 1 else f"round of {inner:,} steps"
    return (
        f"Training: a {step} takes {whole.seconds:.4g} s and would take {first.seconds:.4g} s. Of"
        f" the {longer:.4g} s between them cost {named}."
    )


def _lost_in_inference(dataset: xr.Dataset) -> str:
    parts = (
        ("serving_exchange", "all-reduces inside replicas"),
        ("serving_lockstep", "waiting for the slowest device of each replica"),
        ("serving_left_over", "devices that are left over"),
    )
    shares = sorted(((float(dataset[name]), what) for name, what in parts), reverse=True)
    named = ", ".join(f"{what} {100 * share:.2g} %" for share, what in shares if share > 1e-9)
    sizes = sorted({int(size) for size in dataset.devices_per_replica})
    together = " or ".join(str(size) for size in sizes)
    waits = dataset.queue_wait_at_random * dataset.request_capacity
    at_random = float(waits.sum() / dataset.request_capacity.sum())
    pooled = float((dataset.queue_wait * dataset.request_capacity).sum())
    pooled /= float(dataset.request_capacity.sum())
    slowest = float(dataset.slowest_latency.max())
    lost = f"of the capacity cost {named}" if named else "nothing is lost"
    return (
        f"Inference: nobody waits for more than the {together} GPUs of a replica; {lost}. A request"
        f" waits {_seconds(pooled)} for a place ({_seconds(at_random)} if replicas are chosen at"
        f" random), and takes {show(slowest, 'time')} in the slowest replica."
    )


def _for_nothing(dataset: xr.Dataset) -> str:
    """GPU hours, power and money that are wasted, in both uses."""
    parts = []
    for use in ("training", "inference"):
        here = dataset.sel(use=use)
        said = (
            f"{use} wastes {float(here.wasted_gpus):,.0f} GPU hours of every hour and"
            f" {float(here.wasted_power):.3g} of the {float(here.power):.3g} MW that it draws"
        )
        if "wasted_cost_a_month" in here:
            wasted, whole = (
                1e-6 * float(here[name]) for name in ("wasted_cost_a_month", "cost_a_month")
            )
            currency = dataset.attrs["currency"]
            said += f", {wasted:,.4g} of {whole:,.4g} million {currency} a month"
        parts.append(said)
    load = 100 * float(dataset.demand.sel(use="inference"))
    text = f"{'; '.join(parts)} (at a load of {load:.0f} %)."
    return f"{text[0].upper()}{text[1:]} In full it draws {float(dataset.full_power):.3g} MW."


def _seconds(value: float) -> str:
    return "less than 1 ms" if value < 1e-3 else show(value, "time")


def _public(dataset: xr.Dataset) -> Iterator[str]:
    told, mixing = float(dataset.public_utilisation), float(dataset.mixing_efficiency)
    head = f"Told: {100 * told:.3g} % of the peak is used ({dataset.attrs['public_source']})."
    if "computing_utilisation" not in dataset:
        yield (
            f"{head} What share of its peak a device reaches while it computes is not known"
            " (neither workload.model.mfu nor verdict.mfu is given), so this cannot be judged."
            f" Equal work on unequal devices alone keeps {100 * mixing:.1f} % of the fleet."
        )
        return
    computing = float(dataset.computing_utilisation)
    yield f"{head} {_mixing(told, computing, mixing)}"
    if told < computing:
        yield _held_against(dataset, told)


def _mixing(told: float, computing: float, mixing: float) -> str:
    """What mixing generations alone explains of what is told."""
    said = f"Devices reach {100 * computing:.3g} % of their peak while they compute (an input)."
    if told > computing:
        return f"{said} Then no fleet can use what is told: one of the two figures is wrong."
    if told == computing:
        return f"{said} That is what is told: nothing is lost."
    if mixing > 1.0 - 1e-9:
        return f"{said} None is unlike the others: mixing generations explains nothing."
    alone = computing * mixing
    explains = "explains" if alone <= told * (1 + _AGREE) else "does not explain"
    return (
        f"{said} Equal work on unequal devices alone keeps {100 * mixing:.1f} % of the fleet, which"
        f" leaves {100 * alone:.3g} %: a factor of {1 / mixing:.3g} of the {computing / told:.3g}"
        f" between the two. Mixing generations alone {explains} what is told."
    )


def _held_against(dataset: xr.Dataset, told: float) -> str:
    """What all modelled causes explain of what is told, and what else would have to be true."""
    found, error = (float(dataset[f"mfu{end}"].sel(use="training")) for end in ("", "_stderr"))
    efficiency = float(dataset.efficiency.sel(use="training"))
    step = estimate(dataset, "step_time_mean")[0]
    computing = float(dataset.computing_utilisation)
    around = 0.0 if math.isnan(error) else error
    said = f"All modelled causes together leave {percent(found, around)} of the peak"
    if abs(found / told - 1.0) <= _AGREE:
        return f"{said}: as is told."
    would = step * found / told
    if found > told:
        return (
            f"{said}: they do not explain what is told either. For that, a further factor of"
            f" {found / told:.3g} must be lost: devices that reach {100 * told / efficiency:.3g} %"
            f" of their peak while they compute instead of {100 * computing:.3g} %, or steps of"
            f" {would:.3g} s instead of {step:.3g} s, or no training at all for"
            f" {100 * (1 - told / found):.0f} % of the time. Failures, restarts, checkpoints and"
            " pauses between jobs are not modelled."
        )
    return (
        f"{said}, less than is told: they more than explain it. If it is true of this fleet, steps"
        f" take {would:.3g} s, not {step:.3g} s; devices would have to reach"
        f" {100 * told / efficiency:.3g} % of their peak while they compute instead of"
        f" {100 * computing:.3g} %, or lose less than is modelled, or not all of them train"
        " together."
    )


def _sources(dataset: xr.Dataset) -> str:
    lines = ["what each row follows from:"]
    for name, title, _ in _ROWS:
        if name not in dataset:
            continue
        said = QUANTITIES[name]
        label = title.strip().format(currency=dataset.attrs.get("currency", ""))
        lines += [f"{label} ({name})", *_hanging("training", said.training)]
        lines += _hanging("inference", said.inference)
    return "\n".join(lines)


def _figures(dataset: xr.Dataset) -> str:
    lines = ["figures of the service, and where they are from:"]
    lines += [f"  {line}" for line in str(dataset.attrs["figures"]).splitlines()]
    lines.append(f"of power: {dataset.attrs['power_figures']}")
    if "price_figures" in dataset.attrs:
        lines.append(f"of money: {dataset.attrs['price_figures']}")
    return "\n".join(lines)


_WIDTH = 100


def _hanging(use: str, text: str) -> list[str]:
    start = f"  {use}: "
    return textwrap.wrap(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
