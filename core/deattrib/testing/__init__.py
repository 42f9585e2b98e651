"""What a scorer is tested with: subclass `ScorerContract` under pytest, or call `run_contract`, or `deattrib check`.

    from deattrib.testing import ScorerContract

    class TestMyScorer(ScorerContract):
        scorer = "my-scorer"

Importing this package loads neither torch nor pytest; its names are resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deattrib.testing.bench import Bench, ContractFailure, ContractSkip, Cost
    from deattrib.testing.checks import CHECKS, Check
    from deattrib.testing.contract import ScorerContract
    from deattrib.testing.report import ContractReport, Outcome, run_contract
    from deattrib.testing.world import World, make_world

_EXPORTS = {
    "CHECKS": "deattrib.testing.checks",
    "Bench": "deattrib.testing.bench",
    "Check": "deattrib.testing.checks",
    "ContractFailure": "deattrib.testing.bench",
    "ContractReport": "deattrib.testing.report",
    "ContractSkip": "deattrib.testing.bench",
    "Cost": "deattrib.testing.bench",
    "Outcome": "deattrib.testing.report",
    "ScorerContract": "deattrib.testing.contract",
    "World": "deattrib.testing.world",
    "make_world": "deattrib.testing.world",
    "run_contract": "deattrib.testing.report",
}

__all__ = [
    "CHECKS",
    "Bench",
    "Check",
    "ContractFailure",
    "ContractReport",
    "ContractSkip",
    "Cost",
    "Outcome",
    "ScorerContract",
    "World",
    "make_world",
    "run_contract",
]

if not TYPE_CHECKING:  # a type checker would otherwise accept any name

    def __getattr__(name: str) -> Any:
        if name not in _EXPORTS:
            from deattrib.errors import did_you_mean

            raise AttributeError(f"module 'deattrib.testing' has no attribute {name!r}.{did_you_mean(name, _EXPORTS)}")
        globals()[name] = value = getattr(importlib.import_module(_EXPORTS[name]), name)
        return value
