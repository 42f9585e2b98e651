"""The contract without pytest: `run_contract` runs every check and says what held."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deattrib.attribution.attributor import ScorerSpec
from deattrib.attribution.loading import OPTIONAL_METHODS, describe
from deattrib.errors import DeattribError
from deattrib.testing.bench import Bench, ContractFailure, ContractSkip, Cost
from deattrib.testing.checks import CHECKS, Check
from deattrib.testing.world import World, make_world

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check said.

    Attributes:
        check, demands: its name, and what it demands.
        state: "passed", "failed" or "skipped".
        message: why it failed or was skipped. mend: what to do about a failure.
        seconds: how long it took.
    """

    check: str
    demands: str
    state: State
    message: str
    mend: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ContractReport:
    """All outcomes for one scorer.

    Attributes:
        scorer, origin, fidelity: its name, where it comes from, and what it says of itself.
        overrides: the optional methods that it has.
        outcomes: of the checks, in their order.
        cost: None where it could not be measured.
    """

    scorer: str
    origin: str
    fidelity: str
    overrides: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    cost: Cost | None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(outcome.state != "failed" for outcome in self.outcomes)


def run_contract(
    spec: ScorerSpec,
    *,
    params: Mapping[str, Any] | None = None,
    world: World | None = None,
    tolerance: float = 1e-3,
    listener: Callable[[Outcome], None] = lambda outcome: None,
) -> ContractReport:
    """Check one scorer.

    Args:
        spec: a scorer class, a name, `file.py:Class`, `module:Class`, or a mapping with `name` and settings.
        params: settings of the scorer.
        world: corpus and models; None: the small world, made or taken from the cache.
        tolerance: see `Bench`.
        listener: called with every outcome as it comes.

    Raises:
        PluginError, ConfigError: there is no such scorer, or its settings are wrong.
    """
    bench = Bench(spec, world or make_world(), params=params, tolerance=tolerance)
    outcomes = []
    for check in CHECKS:
        outcomes.append(_outcome(check, bench))
        listener(outcomes[-1])
    try:
        cost: Cost | None = bench.cost
    except DeattribError:  # the checks have said why
        cost = None
    methods = tuple(name for name in OPTIONAL_METHODS if bench.cls.overrides(name))
    return ContractReport(bench.name, bench.origin, bench.cls.fidelity, methods, tuple(outcomes), cost)


def _outcome(check: Check, bench: Bench) -> Outcome:
    start = time.perf_counter()
    state: State = "passed"
    message = ""
    try:
        check(bench)
    except ContractSkip as skip:
        state, message = "skipped", str(skip)
    except ContractFailure as failure:
        state, message = "failed", str(failure)
    except Exception as error:  # outside of the guard: the constructor, close()
        state, message = "failed", f"raised {describe(error)}"
    mend = check.mend if state == "failed" else ""
    return Outcome(check.name, check.demands, state, message, mend, round(time.perf_counter() - start, 3))
