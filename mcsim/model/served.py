"""What is served: the keys of [inference], given or not, each with what it follows from."""

from __future__ import annotations

from dataclasses import dataclass

from mcsim import catalogue
from mcsim.errors import Problem, ScenarioError
from mcsim.model.roofline import Served
from mcsim.scenario import Scenario
from mcsim.scenario.uses import BYTES, Inference


@dataclass(frozen=True)
class Known:
    """A value, and what it follows from: a key of the scenario, or the catalogue's figure."""

    value: float
    source: str


def known_of(scenario: Scenario) -> dict[str, Known]:
    """Every key of [inference], from the scenario, its workload or the catalogue.

    And `width`, bytes of a number. Raises ScenarioError for a model that is not known.
    """
    asked, model = scenario.inference or Inference(), scenario.workload.model
    found = {
        key: Known(float(value), f"inference.{key}")
        for key in Inference.__dataclass_fields__
        if key != "precision" and (value := getattr(asked, key)) is not None
    }
    for key, figure in catalogue.serving()["inference"].items():
        source = f"catalogue serving.toml, inference.{key} ({figure.confidence})"
        found.setdefault(key, Known(float(figure.value), source))
    if model is not None:
        for key in ("parameters", "active_parameters", "layers", "hidden"):
            value = getattr(model, key)
            if value is not None:
                found.setdefault(key, Known(float(value), f"workload.model.{key}"))
    gradient = scenario.workload.gradient
    if "parameters" not in found and gradient:
        found["parameters"] = Known(gradient / 2.0, "workload.gradient, two bytes a parameter")
    if "parameters" not in found:
        message = "is not known: neither it, workload.model nor workload.gradient is given"
        raise _problem("inference.parameters", message)
    parameters = found["parameters"]
    found.setdefault("active_parameters", Known(parameters.value, f"{parameters.source}: all"))
    if found["active_parameters"].value > parameters.value:
        message = f"{found['active_parameters'].value:g} are more than all {parameters.value:g}"
        raise _problem("inference.active_parameters", message)
    # Of a dense transformer, 12 L h^2 parameters (Kaplan et al., arXiv:2001.08361, table 1).
    aspect = found["aspect"].value
    layers = max(1.0, round((found["active_parameters"].value / (12 * aspect**2)) ** (1 / 3)))
    shape = "of 12 L h^2 active parameters, catalogue serving.toml, inference.aspect (assumption)"
    found.setdefault("layers", Known(layers, shape))
    found.setdefault("hidden", Known(aspect * found["layers"].value, shape))
    width = _width(scenario, asked)
    found["width"] = width
    cache = 2.0 * found["layers"].value * found["cache_width"].value * width.value
    source = f"2 x layers x {found['cache_width'].source}"
    found.setdefault("cache", Known(cache, source))
    return found


def precision_of(scenario: Scenario) -> tuple[str, str]:
    """The format of weights and caches, and the key that says it."""
    asked = scenario.inference
    if asked is not None and asked.precision is not None:
        return asked.precision, "inference.precision"
    return scenario.workload.precision, "workload.precision"


def _width(scenario: Scenario, asked: Inference) -> Known:
    precision, key = precision_of(scenario)
    if precision not in BYTES:
        raise _problem(key, f'"{precision}": it is not known how many bytes a number has')
    return Known(BYTES[precision], f'{key} = "{precision}"')


def served_of(known: dict[str, Known]) -> Served:
    """The model and its requests."""
    value = {key: one.value for key, one in known.items()}
    return Served(
        parameters=value["parameters"],
        active=value["active_parameters"],
        layers=int(value["layers"]),
        hidden=int(value["hidden"]),
        width=value["width"],
        cache=value["cache"],
        prompt=int(value["prompt"]),
        output=int(value["output"]),
    )


def _problem(path: str, message: str) -> ScenarioError:
    return ScenarioError("scenario", [Problem(path, message)])
