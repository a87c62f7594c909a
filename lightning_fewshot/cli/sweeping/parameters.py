"""The parameters of a W&B sweep file, and how Optuna draws them.

A list of values goes to Optuna as JSON texts, so that null, true, 1 and lists stay what they are.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import Trial

KEYS = {"value", "values", "probabilities", "distribution", "min", "max", "mu", "sigma", "q"}
# What each distribution needs. W&B's documentation of sweep configurations.
NEEDS = {
    "constant": {"value"},
    "categorical": {"values"},
    "categorical_w_probabilities": {"values", "probabilities"},
    "int_uniform": {"min", "max"},
    "uniform": {"min", "max"},
    "q_uniform": {"min", "max"},
    "log_uniform": {"min", "max"},
    "q_log_uniform": {"min", "max"},
    "log_uniform_values": {"min", "max"},
    "q_log_uniform_values": {"min", "max"},
    "normal": set(),
    "q_normal": set(),
    "log_normal": set(),
    "q_log_normal": set(),
}
NUMBERS = ("min", "max", "mu", "sigma", "q")
LARGEST = 1e300  # of a number: sums and differences of two stay finite
LARGEST_WHOLE = 2**53  # the samplers draw in double precision
LARGEST_LOG = 690.0  # exp of it is finite
FAR = 5.0  # deviations from the mean that a normal distribution is drawn within


@dataclass(frozen=True)
class Parameter:
    """One parameter of a sweep.

    Args:
        name: The key that the command gets, ``model.init_args.lr``.
        distribution: One of the keys of ``NEEDS``.
        choices: JSON texts of the values; empty for a continuous distribution.
        probabilities: One a choice, or empty.
        low: Smallest value (of ``log_uniform``: its natural logarithm).
        high: Largest value, as ``low``.
        mu: Mean of the normal distributions.
        sigma: Their standard deviation.
        q: Step of the ``q_`` distributions.
    """

    name: str
    distribution: str
    choices: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 1.0
    mu: float = 0.0
    sigma: float = 1.0
    q: float = 1.0

    @property
    def varied(self) -> bool:
        """Whether the cells of the sweep can differ in it."""
        return len(self.choices) != 1

    @property
    def count(self) -> float:
        """How many values it has; infinity where it is continuous."""
        if self.distribution == "int_uniform":
            return int(self.high) - int(self.low) + 1
        return len(self.choices) or math.inf

    def grid(self) -> list[Any] | None:
        """Return all values, or None where they cannot be listed."""
        if self.distribution == "int_uniform":
            return list(range(int(self.low), int(self.high) + 1))
        return [json.loads(choice) for choice in self.choices] or None

    def draw(self, trial: Trial) -> Any:
        """Let Optuna choose a value."""
        if self.probabilities:
            return json.loads(self._weighted_choice(trial.suggest_float(self.name, 0.0, 1.0)))
        if self.choices:
            return json.loads(trial.suggest_categorical(self.name, self.choices))
        if self.distribution == "int_uniform":
            return trial.suggest_int(self.name, int(self.low), int(self.high))
        value = self._draw_real(trial)
        return _rounded(value, self.q) if self.distribution.startswith("q_") else value

    def _draw_real(self, trial: Trial) -> float:
        kind = self.distribution.removeprefix("q_")
        if kind in ("normal", "log_normal"):
            share = trial.suggest_float(self.name, 1e-6, 1 - 1e-6)
            value = NormalDist(self.mu, self.sigma).inv_cdf(share)
            return math.exp(value) if kind == "log_normal" else value
        if kind == "log_uniform":
            return trial.suggest_float(self.name, math.exp(self.low), math.exp(self.high), log=True)
        return trial.suggest_float(self.name, self.low, self.high, log=kind == "log_uniform_values")

    def _weighted_choice(self, share: float) -> str:
        """Return the choice whose part of the line from 0 to 1 holds ``share``."""
        total = 0.0
        for choice, probability in zip(self.choices, self.probabilities, strict=True):
            total += probability
            if share < total:
                return choice
        return self.choices[-1]


def read_parameter(name: str, entry: Any, where: str) -> Parameter:
    """Check one entry below ``parameters`` and return it.

    Args:
        name: Key of the entry.
        entry: ``{value: 1}``, ``{values: [1, 2]}``, ``{distribution: uniform, min: 0, max: 1}``, ...
        where: The file, for messages.

    Raises:
        ValueError: On an unknown or missing key, and on values that occur twice.

    >>> read_parameter("k", {"values": [1, None]}, "a.yaml").choices
    ('1', 'null')
    """
    if not isinstance(name, str):
        raise ValueError(f"{where}: parameters has the key {str(name)[:80]!r} but its keys must be texts")
    if not isinstance(entry, dict):
        raise ValueError(
            f"{where}: parameters.{name} is {entry!r} but must be a mapping with value, values or min, max"
        )
    unknown = sorted(set(entry) - KEYS, key=str)
    if unknown:
        raise ValueError(f"{where}: parameters.{name} has the unknown key {unknown[0]!r}; known: {sorted(KEYS)}")
    distribution = entry.get("distribution") or _implied(entry)
    if not isinstance(distribution, str) or distribution not in NEEDS:
        raise ValueError(f"{where}: parameters.{name}.distribution is {distribution!r}; known: {sorted(NEEDS)}")
    missing = sorted(NEEDS[distribution] - set(entry))
    if missing:
        raise ValueError(f"{where}: parameters.{name} is {distribution} but lacks the key {missing[0]!r}")
    _check_kinds(entry, f"{where}: parameters.{name}")
    parameter = _parameter(name, distribution, entry, f"{where}: parameters.{name}")
    _check(parameter, f"{where}: parameters.{name}")
    return parameter


def _implied(entry: dict[str, Any]) -> str:
    """Return the distribution that an entry without one means, as W&B has it."""
    if "value" in entry:
        return "constant"
    if "values" in entry:
        return "categorical_w_probabilities" if "probabilities" in entry else "categorical"
    limits = (entry.get("min"), entry.get("max"))
    return "int_uniform" if all(isinstance(limit, int) for limit in limits) else "uniform"


def _check_kinds(entry: dict[str, Any], where: str) -> None:
    """Refuse what is no list, or no number, where one belongs."""
    for key in ("values", "probabilities"):
        if not isinstance(entry.get(key, []), list):
            raise ValueError(f"{where}.{key} is {entry[key]!r} but must be a list")
    for key in (key for key in NUMBERS if key in entry):
        _check_number(entry[key], f"{where}.{key}")
    for value in entry.get("probabilities", []):
        _check_number(value, f"{where}.probabilities")


def _check_number(value: Any, where: str) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= LARGEST:
        raise ValueError(f"{where} is {str(value)[:80]} but must be a number of at most {LARGEST:g}")


def _parameter(name: str, distribution: str, entry: dict[str, Any], where: str) -> Parameter:
    values = [entry["value"]] if distribution == "constant" else entry.get("values") or []
    return Parameter(
        name=name,
        distribution=distribution,
        choices=tuple(_as_json(value, where) for value in values),
        probabilities=tuple(entry.get("probabilities") or ()),
        low=entry.get("min", 0.0),
        high=entry.get("max", 1.0),
        mu=entry.get("mu", 0.0),
        sigma=entry.get("sigma", 1.0),
        q=entry.get("q", 1.0),
    )


def _as_json(value: Any, where: str) -> str:
    try:
        text = json.dumps(value)
        json.dumps(value, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:  # a date, bytes or a set of yaml; half of a character
        raise ValueError(f"{where} has the value {str(value)[:80]!r}: {error}") from error
    if "\\u0000" in text:
        raise ValueError(f"{where} has a value with a zero byte, which no command takes")
    return text


def _check(parameter: Parameter, where: str) -> None:
    """Refuse what would fail, or run twice, hours later."""
    choices = parameter.choices
    if "categorical" in parameter.distribution and not choices:
        raise ValueError(f"{where}.values is empty")
    twice = sorted({choice for choice in choices if choices.count(choice) > 1})
    if twice:
        raise ValueError(f"{where}.values holds {twice[0]} twice: its cells would run twice")
    if parameter.low > parameter.high:
        raise ValueError(f"{where}.min is {parameter.low} but must be at most max, {parameter.high}")
    if "log_uniform_values" in parameter.distribution and parameter.low <= 0:
        raise ValueError(f"{where}.min is {parameter.low} but must be above 0 on a logarithmic scale")
    _check_range(parameter, where)
    shares = parameter.probabilities
    if min(shares, default=0.0) < 0:
        raise ValueError(f"{where}.probabilities is {list(shares)} but none may be below 0")
    if shares and (len(shares) != len(choices) or not math.isclose(sum(shares), 1.0, abs_tol=1e-6)):
        raise ValueError(f"{where}.probabilities is {list(shares)} but must be one a value and sum to 1")


def _check_range(parameter: Parameter, where: str) -> None:
    """Refuse numbers that a draw would not survive."""
    kind, limits = parameter.distribution, (parameter.low, parameter.high)
    if kind == "int_uniform" and any(limit % 1 or abs(limit) > LARGEST_WHOLE for limit in limits):
        raise ValueError(f"{where} is int_uniform: min and max are {limits} but must be whole, at most {LARGEST_WHOLE}")
    if parameter.q <= 0 or parameter.sigma <= 0:
        raise ValueError(f"{where}: q is {parameter.q} and sigma {parameter.sigma} but must be above 0")
    largest = abs(parameter.mu) + FAR * parameter.sigma if "normal" in kind else max(map(abs, limits))
    if kind.removeprefix("q_") in ("log_uniform", "log_normal") and largest > LARGEST_LOG:
        raise ValueError(f"{where} is {kind}: its natural logarithms reach {largest:g} but {LARGEST_LOG:g} is the most")


def _rounded(value: float, step: float) -> float:
    """Return the multiple of the step nearest to a value; an integer where the step is one."""
    multiple = round(value / step) * step
    return int(multiple) if isinstance(step, int) else multiple
