"""Wrong scenarios: each problem is said once, with its key and line, and nothing else happens."""

import datetime as dt
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mcsim.cli import main
from mcsim.errors import ScenarioError
from mcsim.scenario import Scenario, load_scenario, parse_scenario

GOOD = """\
name = "good"
[run]
seed = 7
steps = 10
[workload]
compute = "1 s"
reference = "h100-sxm"
precision = "bf16"
gradient = "1 GB"
overlap = 0.5
[[site]]
name = "memphis"
[[site]]
name = "southaven"
[[link]]
between = ["memphis", "southaven"]
distance = "16 km"
bandwidth = "800 Gb/s"
[network.site]
bandwidth = "50 GB/s"
latency = "5 us"
[jitter]
step = { law = "lognormal", mean = 1, cv = 0.02 }
stall = { law = "exponential", mean = "2 ms" }
[[fleet]]
name = "hopper"
device = "h100-sxm"
count = 8
site = "memphis"
[[fleet]]
name = "own"
device = "custom"
compute = "1 s"
count = 4
site = "southaven"
[sync]
policy = "bsp"
"""

STEP = '{ law = "lognormal", mean = 1, cv = 0.02 }'
STALL = '{ law = "exponential", mean = "2 ms" }'
WORKLOAD = GOOD[GOOD.index("[workload]") : GOOD.index("[[site]]")]
ENDS = '["memphis", "southaven"]'


class Case(NamedTuple):
    """A bad scenario and what is wrong with it.

    text: the whole file, or the one change that is made to GOOD, as (old, new) pairs.
    problems: (line, key path, part of the message), in order; the line is None where unknown.
    """

    name: str
    text: str | dict[str, str]
    problems: list[tuple[int | None, str, str]]

    def written(self) -> str:
        if isinstance(self.text, str):
            return self.text
        text = GOOD
        for old, new in self.text.items():
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in GOOD"
            text = text.replace(old, new)
        return text


def one(name, change, line, path, message):
    """A case with one problem."""
    return Case(name, change, [(line, path, message)])


def step(law):
    """The change that makes `law` the law of the jitter of each step."""
    return {STEP: f"{{ {law} }}"}


UNKNOWN_KEYS = [
    one(
        "unknown table, near one",
        {"[sync]": "[synk]"},
        36,
        "synk",
        'unknown key (did you mean "sync"?)',
    ),
    one("unknown key, far from all", {'name = "good"': 'name = "good"\nzzz = 1'}, 2, "zzz", "key"),
    one("in run", {"steps = 10": "step = 10"}, 4, "run.step", 'did you mean "steps"'),
    one("in workload", {"overlap": "overlapp"}, 10, "workload.overlapp", '"overlap"'),
    one(
        "in site",
        {'name = "memphis"': 'name = "memphis"\nnme = "x"'},
        13,
        "site[0].nme",
        'did you mean "name"',
    ),
    one("in link", {"distance": "distanse"}, 17, "link[0].distanse", 'did you mean "distance"'),
    one("in network", {"[network.site]": "[network.sites]"}, 19, "network.sites", '"site"'),
    one("in network.site", {"latency": "latancy"}, 21, "network.site.latancy", '"latency"'),
    one(
        "nodes share nothing where they are the ranks",
        {"[network.site]": '[network.site]\nshared_node = { law = "exponential", mean = 1 }'},
        20,
        "network.site.shared_node",
        'did you mean "shared_',
    ),
    one("in jitter", {"stall =": "stal ="}, 24, "jitter.stal", 'did you mean "stall"'),
    one(
        "a daily swing of one group",
        {"count = 8": "count = 8\njitter.daily = { amplitude = 0.1 }"},
        29,
        "fleet[0].jitter.daily",
        "belongs into the scenario's [jitter]",
    ),
    one(
        "jitter that is kept for ever",
        {"stall =": "correlation = 1\nstall ="},
        24,
        "jitter.correlation",
        "1 must be below 1, or none is ever drawn anew",
    ),
    one(
        "a slow state without a duration",
        {"stall =": 'slow_node = { every = 9, factor = { law = "constant", value = 2 } }\nstall ='},
        24,
        "jitter.slow_node",
        "`duration` is missing (mean time of a spell)",
    ),
    one(
        "a shock without time between",
        {"stall =": 'shock = { every = "0 s", factor = { law = "constant", value = 2 } }\nstall ='},
        24,
        "jitter.shock.every",
        "must be above 0",
    ),
    one("in a law", {"cv = 0.02": "cv = 0.02, mode = 1"}, 23, "jitter.step.mode", "unknown key"),
    one(
        "in the second group",
        {"count = 4": "count = 4\ncuont = 4"},
        35,
        "fleet[1].cuont",
        'did you mean "count"',
    ),
    one("in sync", {"policy": "polici"}, 37, "sync.polici", 'did you mean "policy"'),
    one(
        "with capitals",
        {"seed = 7": "Seed = 7"},
        3,
        "run.Seed",
        'did you mean "seed"',
    ),
    one(
        "with a line break",
        {"seed = 7": '"se\\ned" = 7'},
        3,
        'run."se\\ned"',
        'did you mean "seed"',
    ),
    one("with a dot", {"seed = 7": '"a.b" = 7'}, 3, 'run."a.b"', "unknown key"),
    one("a table of tables", {"[sync]": "[foo.bar.baz]\n[sync]"}, 36, "foo", "unknown key"),
]


def in_link(name, text, path, message):
    """A case with one problem, in a line that is put into the link."""
    return one(name, {"distance": f"{text}\ndistance"}, 17, f"link[0].{path}", message)


LINKS = [
    in_link("loss of all", "loss = 1", "loss", "1 must be below 1, nothing arrives"),
    in_link("route shorter than the distance", "route_factor = 0.9", "route_factor", "at least 1"),
    one("negative distance", {'"16 km"': '"-1 km"'}, 17, "link[0].distance", "must be at least 0"),
    in_link("no lanes", "lanes = 0", "lanes", "0 must be at least 1"),
    in_link("lanes of a part", "lanes = 1.5", "lanes", "1.5 must be a whole number"),
    in_link(
        "flaps without a pause",
        'flap = { every = "0 s", duration = "5 s" }',
        "flap.every",
        "must be above 0",
    ),
    in_link(
        "flaps that take no time",
        'flap = { every = "1 day", duration = 0 }',
        "flap.duration",
        "0 must be above 0",
    ),
    in_link("flaps of unknown length", 'flap = { every = "1 day" }', "flap", "`duration` is miss"),
    in_link(
        "a lane that never comes back",
        'lane_failure = { every = "1 day", duration = "-1 h" }',
        "lane_failure.duration",
        "must be above 0",
    ),
    in_link(
        "an infinite bandwidth",
        "slow = { every = 1, duration = 1, factor = { law = 'constant', value = 0 } }",
        "slow.factor",
        "0 must be above 0: it divides the bandwidth",
    ),
    one("all but none", {'"800 Gb/s"': "1e-300"}, 18, "link[0].bandwidth", "1e-300 must be at lea"),
    one("beyond the sky", {'"16 km"': "1e300"}, 17, "link[0].distance", "1e+300 must be at most"),
    in_link("a cable to nowhere", "route_factor = 1e300", "route_factor", "must be at most 1000"),
    in_link("a part of a byte", "packet = 1e-300", "packet", "1e-300 must be at least 1"),
    in_link(
        "early messages",
        'delay = { law = "constant", value = -5 }',
        "delay",
        "-5 s must be at least 0: no message is early",
    ),
    in_link(
        "some early messages",
        'delay = { law = "normal", mean = "1 ms", sd = "1 ms" }',
        "delay",
        "must be at least 0: no message is early",
    ),
    in_link("lanes that never fail", "lanes = 4", "lanes", "changes nothing: no lane fails"),
    in_link(
        "connections without loss", "connections = 4", "connections", "changes nothing: no packet"
    ),
    in_link(
        "a queue in which nothing varies",
        'queue = "kingman"\narrival_cv = 0\nservice_cv = 0',
        "queue",
        "waits for nothing where arrival_cv and service_cv are both 0",
    ),
    in_link("negative age", 'age = "-1 year"', "age", "must be at least 0"),
    in_link("age beyond what is known", 'age = "30 years"', "age", "30 years must be at least 0"),
    in_link("age without a unit", 'age = "10"', "age", "has no unit"),
    in_link("age of a length", 'age = "10 km"', "age", "is a length"),
]

LATER_KEYS = [
    one("age of devices", {"count = 8": 'count = 8\nage = "1 d"'}, 29, "fleet[0].age", "not avail"),
    one(
        "failures", {"[sync]": "[failure]\n[sync]"}, 36, "failure", "not available in this version"
    ),
    one(
        "shares of whom",
        {"[sync]": '[remedy]\nshares = "devices"\n[sync]'},
        37,
        "remedy.shares",
        'did you mean "device"?',
    ),
    one(
        "no share",
        {"[sync]": "[remedy]\nmost_share = 2\n[sync]"},
        37,
        "remedy.most_share",
        "changes nothing with equal shares",
    ),
]


def policy(name, *keys):
    """The change to a policy with some keys, a line each."""
    return {'policy = "bsp"': "\n".join([f'policy = "{name}"', *keys])}


SYNC_KEYS = [
    one("no such policy", {'"bsp"': '"backups"'}, 37, "sync.policy", 'mean "backup"'),
    one("backup without a number", policy("backup"), 36, "sync.wait_for", "ends with so many"),
    one(
        "more than there are",
        policy("backup", "wait_for = 13"),
        38,
        "sync.wait_for",
        "13 is above 12, the replicas that there are; take at most that",
    ),
    one("nobody", policy("backup", "wait_for = 0"), 38, "sync.wait_for", "must be at least 1"),
    one(
        "a key of another policy",
        policy("bsp", "wait_for = 3"),
        38,
        "sync.wait_for",
        'changes nothing with "bsp"; take policy = "backup"',
    ),
    Case(
        "several keys of other policies",
        policy("timeout", 'timeout = "-1 s"', "wait_for = 3", "quorum = 1", 'grace = "-1 s"'),
        [
            (38, "sync.timeout", "must be at least 1e-15"),
            (39, "sync.wait_for", 'changes nothing with "timeout"'),
            (40, "sync.quorum", 'changes nothing with "timeout"; take policy = "quorum"'),
            (41, "sync.grace", "must be at least 0"),
        ],
    ),
    one("no timeout", policy("timeout"), 36, "sync.timeout", "ends then at the latest"),
    one("a length", policy("timeout", 'timeout = "1 m"'), 38, "sync.timeout", "is a length"),
    one(
        "one site",
        policy("hierarchical", "inner_steps = 4") | {'site = "southaven"': 'site = "memphis"'},
        37,
        "sync.policy",
        'is of several sites, and all devices are at one; take "bsp", or "local-sgd"',
    ),
    Case(
        "fragments",
        policy("streaming-diloco", "inner_steps = 4", "fragments = 5"),
        [
            (39, "sync.fragments", "5 is above inner_steps, 4: take at most that"),
        ],
    ),
    Case(
        "overlap",
        policy("streaming-diloco", "inner_steps = 8", "fragments = 2", "overlap_steps = 5"),
        [
            (40, "sync.overlap_steps", "5 is above 4, the steps from one exchange to the next"),
        ],
    ),
    Case(
        "streaming without keys",
        policy("streaming-diloco"),
        [
            (36, "sync.inner_steps", "each fragment is exchanged once in so many steps"),
            (36, "sync.fragments", "the model is exchanged in so many parts"),
        ],
    ),
    one("no bound", policy("ssp"), 36, "sync.staleness", "so many steps ahead of the slowest"),
    one(
        "a bound of nobody",
        policy("async", "staleness = 3"),
        38,
        "sync.staleness",
        'changes nothing with "async"; take policy = "ssp"',
    ),
    one(
        "more sites than there are",
        policy("quorum", "quorum = 3"),
        38,
        "sync.quorum",
        "3 is above 2, the sites that have devices; take at most that",
    ),
    one(
        "sites of a divided model",
        policy("hierarchical", "inner_steps = 4") | {"[[link]]": "[workload.parallel]\n[[link]]"},
        38,
        "sync.policy",
        '"hierarchical" does not know [workload.parallel] yet; take "bsp" or "backup"',
    ),
    one(
        "worth more than a sample",
        policy("bsp", "statistical_efficiency = 1.5"),
        38,
        "sync.statistical_efficiency",
        "1.5 must be at most 1",
    ),
]

RUN_KEYS = [
    one(
        "exact engine for all devices",
        {"seed = 7": 'engine = "exact"\nkeep = "devices"'},
        3,
        "run.engine",
        '"exact" draws no device, and keep = "devices" asks for all of them',
    ),
    one(
        "no relative error",
        {"seed = 7": "target_relative_error = 0"},
        3,
        "run.target_relative_error",
        "0 must be at least 1e-06",
    ),
    one(
        "relative error of all",
        {"seed = 7": 'target_relative_error = "100 %"'},
        3,
        "run.target_relative_error",
        "must be",
    ),
    one(
        "unknown statistic",
        {"seed = 7": 'target_relative_error = 0.01\ntarget_statistic = "step_time_p98"'},
        4,
        "run.target_statistic",
        'did you mean "step_time_p99"?',
    ),
    one(
        "a cap below the least",
        {"seed = 7": "target_relative_error = 0.01\nmax_steps = 9"},
        4,
        "run.max_steps",
        "9 is below steps, 10",
    ),
    one(
        "a cap of replicates below the least",
        {"seed = 7": "target_relative_error = 0.01\nreplicates = 5\nmax_replicates = 4"},
        5,
        "run.max_replicates",
        "4 is below replicates, 5",
    ),
    one(
        "a cap without a target",
        {"seed = 7": "max_steps = 900"},
        3,
        "run.max_steps",
        "no target_relative_error that it would bound",
    ),
]

NOT_TOML = [
    one("the same key twice", {"seed = 7": "seed = 7\nseed = 8"}, 4, "", "is not TOML: cannot"),
    one("the same table twice", {"[sync]": "[run]\n[sync]"}, 36, "", "is not TOML: cannot declare"),
    one("words", "run it please", 1, "", "is not TOML"),
    one("an end in the middle", 'name = "x"\nfleet = [\n', 3, "", "is not TOML: invalid value"),
    one("a string without end", 'name = "x\n', 1, "", "is not TOML"),
    one("NUL", 'name = "x\0"\n', 1, "", "is not TOML: illegal character"),
    one("deep arrays", "a = " + "[" * 100_000, None, "", "is nested too deeply"),
    one("arrays of 200 levels", f"a = {'[' * 200}{']' * 200}", None, "", "is nested too deeply"),
    one("deep dotted keys", f"{'a.' * 5000}a = 1", None, "", "is nested too deeply"),
    one("deep headers", f"[{'a.' * 5000}a]", None, "", "is nested too deeply"),
    one(
        "5000 digits",
        {"seed = 7": f"seed = {'9' * 5000}"},
        None,
        "",
        "has a whole number of more than 4300 digits",
    ),
]

NUMBERS = [
    one("overlap nan", {"0.5": "nan"}, 10, "workload.overlap", "nan is not finite"),
    one("overlap inf", {"0.5": "inf"}, 10, "workload.overlap", "inf is not finite"),
    one("overlap -inf", {"0.5": "-inf"}, 10, "workload.overlap", "-inf is not finite"),
    one("overlap 1e400", {"0.5": "1e400"}, 10, "workload.overlap", "inf is not finite"),
    one(
        "compute nan as text",
        {'compute = "1 s"\nref': 'compute = "nan s"\nref'},
        6,
        "workload.compute",
        '"nan s" is not finite',
    ),
    one("overlap 1.5", {"0.5": "1.5"}, 10, "workload.overlap", "1.5 must be at most 1"),
    one("overlap -0.1", {"0.5": "-0.1"}, 10, "workload.overlap", "-0.1 must be at least 0"),
    one("overlap true", {"0.5": "true"}, 10, "workload.overlap", "true is not a pure number"),
    one("overlap a list", {"0.5": "[0.5]"}, 10, "workload.overlap", "a list is not a pure number"),
    one("count -8", {"count = 8": "count = -8"}, 28, "fleet[0].count", "-8 must be at least 1"),
    one("count 0", {"count = 8": "count = 0"}, 28, "fleet[0].count", "0 must be at least 1"),
    one("count true", {"count = 8": "count = true"}, 28, "fleet[0].count", "true must be a whole"),
    one(
        "count 8.0",
        {"count = 8": "count = 8.0"},
        28,
        "fleet[0].count",
        "8.0 must be a whole number; write 8",
    ),
    one(
        "count 8.5",
        {"count = 8": "count = 8.5"},
        28,
        "fleet[0].count",
        "8.5 must be a whole number",
    ),
    one("count text", {"count = 8": 'count = "8"'}, 28, "fleet[0].count", '"8" must be a whole'),
    one("count inf", {"count = 8": "count = inf"}, 28, "fleet[0].count", "inf must be a whole"),
    one(
        "count a table",
        {"count = 8": "count = { a = 1 }"},
        28,
        "fleet[0].count",
        "{ a = 1 } must be a whole",
    ),
    one(
        "count a date",
        {"count = 8": "count = 2026-01-02"},
        28,
        "fleet[0].count",
        "2026-01-02 must be a whole",
    ),
    one(
        "count 2^31", {"count = 8": f"count = {2**31}"}, 28, "fleet[0].count", "at most 2147483647"
    ),
    one("seed -1", {"seed = 7": "seed = -1"}, 3, "run.seed", "-1 must be at least 0"),
    one("seed 2^64", {"seed = 7": f"seed = {2**64}"}, 3, "run.seed", f"at most {2**64 - 1}"),
    one(
        "seed of 4000 digits",
        {"seed = 7": f"seed = {'9' * 4000}"},
        3,
        "run.seed",
        "a number of more than 60 digits must be at most",
    ),
    one("seed 1.5", {"seed = 7": "seed = 1.5"}, 3, "run.seed", "1.5 must be a whole number"),
    one("seed true", {"seed = 7": "seed = true"}, 3, "run.seed", "true must be a whole number"),
    one("seed abc", {"seed = 7": 'seed = "abc"'}, 3, "run.seed", '"abc" must be a whole number'),
    one("steps 2^32", {"steps = 10": f"steps = {2**32}"}, 4, "run.steps", "must be at most"),
    one("too large a number", {"0.5": "9" * 400}, 10, "workload.overlap", "too large"),
]

QUANTITIES = [
    one("no unit", {'"800 Gb/s"': '"800"'}, 18, "link[0].bandwidth", '"800" has no unit'),
    one(
        "a length for a time", {'"5 us"': '"16 km"'}, 21, "network.site.latency", "a time is wanted"
    ),
    one("data for a rate", {'"800 Gb/s"': '"400 Gb"'}, 18, "link[0].bandwidth", 'mean "400 Gb/s"'),
    one("zero bandwidth", {'"800 Gb/s"': '"0 Gb/s"'}, 18, "link[0].bandwidth", "must be at least"),
    one("bandwidth nothing", {'"800 Gb/s"': '""'}, 18, "link[0].bandwidth", "does not begin with"),
    one("unknown unit", {'"5 us"': '"5 usec"'}, 21, "network.site.latency", 'mean "5 us"'),
    one("negative latency", {'"5 us"': '"-5 us"'}, 21, "network.site.latency", "at least 0"),
    one("negative distance", {'"16 km"': "-16"}, 17, "link[0].distance", "-16 must be at least 0"),
    one(
        "unit in a factor", {"mean = 1,": 'mean = "1 s",'}, 23, "jitter.step.mean", "a pure number"
    ),
    one("lines in a quantity", {'"5 us"': '"5 us\\nx"'}, 21, "network.site.latency", "5 us\\nx"),
    one(
        "very long quantity",
        {'"5 us"': f'"{"5" * 500} us"'},
        21,
        "network.site.latency",
        "has 503 characters",
    ),
]

LAWS = [
    one(
        "unknown law",
        {'"lognormal"': '"lognormall"'},
        23,
        "jitter.step.law",
        'unknown law "lognormall" (did you mean "lognormal"?); there are constant',
    ),
    one("law a number", {'"lognormal"': "3"}, 23, "jitter.step.law", "unknown law 3"),
    one("law missing", {'law = "lognormal", ': ""}, 23, "jitter.step", "`law` is missing"),
    one("law a text", {STEP: '"lognormal"'}, 23, "jitter.step", "must be a law such as"),
    one("law a number", {STEP: "1"}, 23, "jitter.step", "must be a law such as"),
    one(
        "both forms",
        {"cv = 0.02": "cv = 0.02, median = 1, sigma = 1"},
        23,
        "jitter.step",
        "a lognormal law takes",
    ),
    one("half a form", {", cv = 0.02": ""}, 23, "jitter.step", "given: `mean`"),
    one("no form", {", mean = 1, cv = 0.02": ""}, 23, "jitter.step", "given: none of them"),
    one(
        "crossed forms", {"cv = 0.02": "sigma = 0.02"}, 23, "jitter.step", "given: `mean`, `sigma`"
    ),
    one(
        "alpha 0.8",
        step('law = "pareto", scale = 1, alpha = 0.8'),
        23,
        "jitter.step.alpha",
        "0.8 must be above 1, or the mean is infinite",
    ),
    one("negative cv", {"cv = 0.02": "cv = -1"}, 23, "jitter.step.cv", "-1 must be at least 0"),
    one("zero mean", {"mean = 1,": "mean = 0,"}, 23, "jitter.step.mean", "0 must be above 0"),
    one(
        "parameter missing",
        {STALL: '{ law = "exponential" }'},
        24,
        "jitter.stall",
        "`mean` is missing",
    ),
    one(
        "uniform reversed",
        step('law = "uniform", low = 2, high = 1'),
        23,
        "jitter.step.low",
        "must not be above",
    ),
    one(
        "infinite mean",
        step('law = "lognormal", median = 1, sigma = 100'),
        23,
        "jitter.step",
        "no finite mean",
    ),
    one(
        "scipy unknown",
        step('law = "scipy", name = "gama", a = 2'),
        23,
        "jitter.step.name",
        'did you mean "gamma"',
    ),
    one(
        "scipy no shape",
        step('law = "scipy", name = "gamma"'),
        23,
        "jitter.step",
        "missing; gamma takes a",
    ),
    one(
        "scipy shape text",
        step('law = "scipy", name = "gamma", a = "x"'),
        23,
        "jitter.step.a",
        '"x" does not begin with a number',
    ),
    one(
        "scipy odd key",
        step('law = "scipy", name = "gamma", a = 1, "b\\n" = 1'),
        23,
        'jitter.step."b\\n"',
        "unknown key",
    ),
    one(
        "weights",
        step(
            'law = "mixture", parts = [ { weight = 0.5, law = "constant", value = 1 },'
            ' { weight = 0.4, law = "constant", value = 2 } ]'
        ),
        23,
        "jitter.step.parts",
        "must add up to 1, not 0.9",
    ),
    one(
        "weight 2",
        step('law = "mixture", parts = [ { weight = 2, law = "constant", value = 1 } ]'),
        23,
        "jitter.step.parts[0].weight",
        "2 must be at most 1",
    ),
    one(
        "weight missing",
        step('law = "mixture", parts = [ { law = "constant", value = 1 } ]'),
        23,
        "jitter.step.parts[0]",
        "`weight` is missing",
    ),
    one(
        "part no table",
        step('law = "mixture", parts = [ 1 ]'),
        23,
        "jitter.step.parts[0]",
        "must be a law with a weight, not 1",
    ),
    one(
        "no parts",
        step('law = "mixture", parts = []'),
        23,
        "jitter.step.parts",
        "must be one or more tables, not []",
    ),
    one(
        "part on its line",
        step(
            'law = "mixture", parts = [\n{ weight = 0.5, law = "constant", value = 1 },\n'
            '{ weight = 0.5, law = "constant", valu = 1, value = 2 },\n]'
        ),
        25,
        "jitter.step.parts[1].valu",
        'did you mean "value"',
    ),
    one(
        "no data",
        step('law = "empirical"'),
        23,
        "jitter.step",
        "needs a `file`, `values` or a `table`",
    ),
    one(
        "no such file",
        step('law = "empirical", file = "none.csv"'),
        23,
        "jitter.step.file",
        'none.csv" does not exist',
    ),
    one(
        "file a directory",
        step('law = "empirical", file = "."'),
        23,
        "jitter.step.file",
        "is a directory",
    ),
    one(
        "no such column",
        step('law = "empirical", file = "delays.csv", column = "msec"'),
        23,
        "jitter.step.column",
        'has no column "msec"',
    ),
    one(
        "column not given",
        step('law = "empirical", file = "delays.csv"'),
        23,
        "jitter.step.column",
        'has "us", "bad"',
    ),
    one(
        "cell no number",
        step('law = "empirical", file = "delays.csv", column = "bad"'),
        23,
        "jitter.step.file",
        '"x" is not a number',
    ),
    one(
        "unit of a factor",
        step('law = "empirical", file = "delays.csv", column = "us", unit = "us"'),
        23,
        "jitter.step.unit",
        "of a factor",
    ),
    one(
        "column of no file",
        step('law = "empirical", values = [1, 2], column = "us"'),
        23,
        "jitter.step.column",
        "belongs to a `file`",
    ),
    one(
        "value no number",
        step('law = "empirical", values = [1, "x"]'),
        23,
        "jitter.step.values[1]",
        '"x" does not begin',
    ),
    one(
        "value nan",
        step('law = "empirical", values = [\n1,\nnan]'),
        25,
        "jitter.step.values[1]",
        "nan is not finite",
    ),
    one(
        "table unknown",
        step('law = "empirical", table = "v100-sgem"'),
        23,
        "jitter.step.table",
        'did you mean "v100-sgemm"',
    ),
    one(
        "table of times",
        step('law = "empirical", table = "hdr200-same-rack"'),
        23,
        "jitter.step.table",
        "of a time",
    ),
]

DEVICES = [
    one(
        "unknown device",
        {'device = "h100-sxm"': 'device = "h100-smx"'},
        27,
        "fleet[0].device",
        '(did you mean "h100-sxm"?)',
    ),
    one(
        "device a number",
        {'device = "h100-sxm"': "device = 100"},
        27,
        "fleet[0].device",
        "100 must be text",
    ),
    one(
        "custom without compute",
        {'"custom"\ncompute = "1 s"': '"custom"'},
        30,
        "fleet[1].compute",
        "is missing: a custom device",
    ),
    one(
        "catalogue with compute",
        {'device = "h100-sxm"': 'device = "h100-sxm"\ncompute = "1 s"'},
        28,
        "fleet[0].compute",
        "takes its time from the workload",
    ),
    one(
        "unknown reference",
        {'reference = "h100-sxm"': 'reference = "h100-sx"'},
        7,
        "workload.reference",
        'unknown device "h100-sx"',
    ),
    one(
        "reference missing", {'reference = "h100-sxm"\n': ""}, 5, "workload.reference", "is missing"
    ),
    one("compute missing", {'compute = "1 s"\nref': "ref"}, 5, "workload.compute", "is missing"),
    one(
        "no workload",
        {GOOD[GOOD.index("[workload]") : GOOD.index('[[site]]\nname = "memphis"')]: ""},
        None,
        "workload",
        "`compute` and `reference` are missing",
    ),
    one(
        "unknown precision",
        {'"bf16"': '"bf61"'},
        8,
        "workload.precision",
        '"bf61" (did you mean "bf16"?) is not known of h100-sxm; take',
    ),
    one(
        "precision of one device only",
        {'"bf16"': '"fp4"', 'device = "custom"\ncompute = "1 s"': 'device = "b200"'},
        8,
        "workload.precision",
        '"fp4" (did you mean "fp8"?) is not known of h100-sxm; take',
    ),
    one(
        "custom in a node network",
        {"[network.site]": "[network.node]\n[network.site]"},
        19,
        "network.node.bandwidth",
        "is missing",
    ),
]

PLACES = [
    one(
        "unknown site",
        {'site = "memphis"': 'site = "menphis"'},
        29,
        "fleet[0].site",
        'unknown site "menphis" (did you mean "memphis"?); there are memphis, southaven',
    ),
    one(
        "site missing",
        {'count = 8\nsite = "memphis"': "count = 8"},
        25,
        "fleet[0]",
        '`site` is missing: it is one of "memphis" or "southaven"',
    ),
    one(
        "link to itself",
        {ENDS: '["memphis", "memphis"]'},
        16,
        "link[0].between",
        "a link joins two sites",
    ),
    one(
        "link to nowhere",
        {ENDS: '["memphis", "tunica"]'},
        16,
        "link[0].between[1]",
        'unknown site "tunica"',
    ),
    one(
        "link with one end",
        {ENDS: '["memphis"]'},
        16,
        "link[0].between",
        "must be a list of 2 names",
    ),
    one("link with a number", {ENDS: '["memphis", 2]'}, 16, "link[0].between[1]", "2 must be text"),
    one(
        "link twice",
        {
            "[network.site]": '[[link]]\nbetween = ["southaven", "memphis"]\nbandwidth = 1\n'
            "[network.site]"
        },
        20,
        "link[1].between",
        "is there already, as link[0].between",
    ),
    one(
        "site twice",
        {
            '"southaven"\n[[link]]': '"southaven"\n[[site]]\nname = "southaven"\n[[link]]',
        },
        16,
        "site[2].name",
        '"southaven" is there already, as site[1].name',
    ),
    one(
        "group twice",
        {'name = "own"': 'name = "hopper"'},
        31,
        "fleet[1].name",
        '"hopper" is there already, as fleet[0].name',
    ),
    one(
        "site as a table",
        {'[[site]]\nname = "memphis"\n[[site]]\nname = "southaven"': '[site]\nname = "memphis"'},
        11,
        "site",
        "write [[site]]",
    ),
    one(
        "site among numbers",
        {
            '[[site]]\nname = "memphis"\n[[site]]\nname = "southaven"\n': "",
            'name = "good"': 'name = "good"\nsite = [{ name = "memphis" }, 3]',
        },
        2,
        "site[1]",
        "must be a table, not 3",
    ),
]

SHAPES = [
    Case("empty file", "", [(None, "", "`name` is missing"), (None, "", "`fleet` is missing")]),
    Case("comments only", "# a\n# b\n", [(None, "", "`name` is"), (None, "", "`fleet` is")]),
    one("no group", 'name = "x"\nfleet = []', 2, "fleet", "must be one or more tables, not []"),
    one("fleet as a table", 'name = "x"\n[fleet]\nname = "a"', 2, "fleet", "write [[fleet]]"),
    one(
        "fleet as text",
        'name = "x"\nfleet = "a"',
        2,
        "fleet",
        'must be one or more tables, not "a"',
    ),
    one("run as tables", {"[run]": "[[run]]"}, 2, "run", "must be a table, not [{ seed = 7, step"),
    one(
        "run as a number",
        'name = "x"\nrun = 3\n[[fleet]]\nname = "a"\ndevice = "custom"\ncompute = 1\ncount = 1',
        2,
        "run",
        "must be a table, not 3",
    ),
    one("empty name", {'"good"': '""'}, 1, "name", "must not be empty"),
    one("name of blanks", {'"good"': '"  "'}, 1, "name", "must not be empty"),
    one(
        "name with a line break",
        {'"good"': '"go\\nod"'},
        1,
        "name",
        '"go\\nod" has characters that cannot be printed',
    ),
    one(
        "name with an escape sequence",
        {'"hopper"': '"\\u001b[2J"'},
        26,
        "fleet[0].name",
        "cannot be printed",
    ),
    one("name of 2000 characters", {'"good"': f'"{"x" * 2000}"'}, 1, "name", "longer than 1000"),
    one("name a number", {'"good"': "5"}, 1, "name", "5 must be text"),
    one("empty group name", {'"hopper"': '""'}, 26, "fleet[0].name", "must not be empty"),
    one(
        "unknown engine",
        {"seed = 7": 'engine = "exakt"'},
        3,
        "run.engine",
        '"exakt" must be "auto", "sampled" or "exact" (did you mean "exact"?)',
    ),
    one("engine true", {"seed = 7": "engine = true"}, 3, "run.engine", "true must be"),
    one(
        "unknown medium",
        {"distance": 'medium = "copper"\ndistance'},
        17,
        "link[0].medium",
        '"copper" must be "silica" or "hollow-core"',
    ),
]

SEVERAL = [
    Case(
        "all parts at once, in the order of the lines",
        {
            "seed = 7": "seed = -1",
            "0.5": "1.5",
            '"16 km"': '"16 kn"',
            "cv = 0.02": "cv = -1",
            "count = 8": "count = 0",
            'site = "southaven"\n': 'site = "tunica"\n',
            "policy": "polici",
        },
        [
            (3, "run.seed", "at least 0"),
            (10, "workload.overlap", "at most 1"),
            (17, "link[0].distance", "unknown unit"),
            (23, "jitter.step.cv", "at least 0"),
            (28, "fleet[0].count", "at least 1"),
            (35, "fleet[1].site", "unknown site"),
            (37, "sync.polici", "unknown key"),
        ],
    ),
    Case(
        "an unreadable key beside a fault of the table",
        {
            "seed = 7": 'seed = 1.5\nengine = "exact"\nkeep = "devices"',
            '"custom"\ncompute = "1 s"\ncount = 4': '"custom"\ncount = 0',
            f"{ENDS}\ndistance": '["memphis", "memphis"]\nlatency = 1\nx = 1\ndistance',
        },
        [
            (3, "run.seed", "1.5 must be"),
            (4, "run.engine", "draws no device"),
            (18, "link[0].between", "both ends"),
            (20, "link[0].x", "unknown key"),
            (34, "fleet[1].compute", "is missing"),
            (37, "fleet[1].count", "0 must be"),
        ],
    ),
    Case(
        "two problems of one law",
        {STEP: '{ law = "pareto", scale = 0, alpha = 0.8 }'},
        [(23, "jitter.step.scale", "above 0"), (23, "jitter.step.alpha", "above 1")],
    ),
    Case(
        "an unreadable compute and no reference",
        {'compute = "1 s"\nreference = "h100-sxm"': 'compute = "1"'},
        [(5, "workload.reference", "is missing"), (6, "workload.compute", "has no unit")],
    ),
    Case(
        "an empty group",
        {"[sync]": "[[fleet]]\n[sync]"},
        [
            (36, "fleet[2]", "`name` is missing"),
            (36, "fleet[2]", "`device` is missing"),
            (36, "fleet[2]", "`count` is missing"),
            (36, "fleet[2]", "`site` is missing"),
        ],
    ),
    Case(
        "names that are unreadable are not called unknown",
        {'"memphis"\n[[site]]': "1\n[[site]]", 'name = "southaven"': 'name = ""'},
        [(12, "site[0].name", "1 must be text"), (14, "site[1].name", "must not be empty")],
    ),
    Case(
        "a device that is unreadable needs no workload",
        'name = "x"\n[[fleet]]\nname = "a"\ndevice = 3\ncount = 1',
        [(4, "fleet[0].device", "3 must be text")],
    ),
]

CASES = [
    *UNKNOWN_KEYS,
    *LATER_KEYS,
    *SYNC_KEYS,
    *LINKS,
    *RUN_KEYS,
    *NOT_TOML,
    *NUMBERS,
    *QUANTITIES,
    *LAWS,
    *DEVICES,
    *PLACES,
    *SHAPES,
    *SEVERAL,
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A directory with a data file of one good and one bad column."""
    path = tmp_path_factory.mktemp("scenarios")
    (path / "delays.csv").write_text("us,bad\n1,1\n2,x\n3,3\n")
    return path


def check(error, problems):
    """The error has these problems and no other, each on one line."""
    found = [(problem.line, problem.path) for problem in error.problems]
    assert found == [(line, path) for line, path, _ in problems], str(error)
    for problem, (_, _, message) in zip(error.problems, problems, strict=True):
        assert message in problem.message
    assert str(error).isprintable() or str(error).count("\n") == len(problems) - 1
    assert "Unreadable object" not in str(error)


def test_the_text_that_the_cases_change_is_good(directory):
    parse_scenario(GOOD, "good.toml", directory)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_problem_is_reported_once_with_its_key_and_line(case, directory):
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(case.written(), "bad.toml", directory)
    check(caught.value, case.problems)
    assert all(line.startswith("bad.toml:") for line in str(caught.value).split("\n"))


def outcome(call, *arguments):
    """The scenario, or what is wrong with it."""
    try:
        return call(*arguments)
    except ScenarioError as error:
        return error


def places_in(value, place=()):
    """Where each value of a table stands, as the keys and numbers that lead there."""
    yield place
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_in(item, (*place, key))


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["custom", "memphis", "5 us", "1e400", 10**400, dt.date(2026, 1, 2)]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["law", "mean", "name", "parts", "weight", "value", "values", "x y"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_stands_for_a_value_is_read_or_refused(data):
    table = tomllib.loads(GOOD)
    table["fleet"][0]["jitter"] = {
        "node": {"law": "mixture", "parts": [{"weight": 1, "law": "constant", "value": 1}]},
        "step": {"law": "empirical", "values": [1, 2]},
        "stall": {"law": "scipy", "name": "gamma", "a": 2},
    }
    for _ in range(data.draw(st.integers(1, 2))):
        *way, key = data.draw(st.sampled_from([place for place in places_in(table) if place]))
        here = table
        for part in way:
            here = here[part]
        here[key] = data.draw(anything)
    found = outcome(Scenario.from_dict, table)
    if isinstance(found, Scenario):
        assert parse_scenario(found.to_toml(), "again.toml", Path()) == found
    else:
        assert len(set(found.problems)) == len(found.problems) >= 1
        assert all(problem.message.isprintable() for problem in found.problems)
        assert "object at 0x" not in str(found)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_file_is_read_or_refused(data):
    start = data.draw(st.integers(0, len(GOOD)))
    end = start + data.draw(st.integers(0, 20))
    inserted = data.draw(st.one_of(st.text(max_size=3), st.sampled_from(list("[]{}=.,\"'#\n0"))))
    text = GOOD[:start] + inserted + GOOD[end:]
    found = outcome(parse_scenario, text, "bad.toml", Path())
    if isinstance(found, ScenarioError):
        lines = [problem.line for problem in found.problems if problem.line is not None]
        assert lines == sorted(lines)
        assert all(1 <= line <= text.count("\n") + 1 for line in lines)


FILES = {
    "not UTF-8": (b'name = "x"\n# \xff', 2, "is not UTF-8 text"),
    "UTF-16": ('name = "x"'.encode("utf-16"), 1, "is not UTF-8 text"),
    "NUL": (b"\0" * 100, 1, "is not TOML"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_hold_no_text_are_refused(name, tmp_path):
    data, line, message = FILES[name]
    (tmp_path / "bad.toml").write_bytes(data)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(tmp_path / "bad.toml")
    check(caught.value, [(line, "", message)])


def test_paths_that_lead_to_no_file_are_refused(tmp_path):
    for path, message in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none.toml", "no such file, nor a bundled scenario; there are colossus-1"),
        (tmp_path / "delays.csv" / "x", "no such file"),
        (Path("x" * 5000), "File name too long"),
        (Path("a\0b"), "null byte"),
        ("", "s a directory"),
    ):
        with pytest.raises(ScenarioError) as caught:
            load_scenario(path)
        check(caught.value, [(None, "", message)])


def test_a_file_larger_than_any_scenario_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mcsim.scenario.load.MAX_BYTES", 1024**2)
    (tmp_path / "bad.toml").write_text("#" * (1024**2 + 1))
    with pytest.raises(ScenarioError, match="larger than 1 MiB"):
        load_scenario(tmp_path / "bad.toml")


def test_the_command_line_refuses_every_bad_scenario(directory):
    output = directory / "x.nc"
    file = directory / "bad.toml"
    for case in CASES:
        file.write_bytes(case.written().encode())
        result = CliRunner().invoke(main, ["run", str(file), "-o", str(output)])
        assert result.exit_code == 2, case.name
        assert isinstance(result.exception, SystemExit), case.name
        assert result.stdout == "", case.name
        assert len(result.stderr.splitlines()) == len(case.problems), case.name
        assert "Traceback" not in result.stderr
        for line, (_, path, message) in zip(result.stderr.splitlines(), case.problems, strict=True):
            assert line.startswith("bad.toml:")
            assert path in line
            assert message in line
    assert not output.exists()
    assert sorted(path.name for path in directory.iterdir()) == ["bad.toml", "delays.csv"]


MCSIM = Path(sys.executable).with_name("mcsim")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = [[[[[", "bad.toml:1: is not TOML"),
        (GOOD.replace("seed = 7", "seed = -1"), "bad.toml:3: run.seed: -1 must be at least 0"),
        (
            GOOD.replace('law = "lognormal"', 'law = "lognormel"'),
            "bad.toml:23: jitter.step.law: ",
        ),
        ("a = " + "[" * 100_000, "bad.toml: is nested too deeply"),
    ],
    ids=["not TOML", "bad seed", "bad law", "deep"],
)
def test_the_installed_command_refuses_at_once(text, message, tmp_path):
    (tmp_path / "bad.toml").write_text(text)
    begin = time.perf_counter()
    result = subprocess.run(
        [MCSIM, "run", "bad.toml", "-o", "x.nc"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # Twenty times what it takes on an idle machine, where others run at the same time.
    assert time.perf_counter() - begin < 10
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]
