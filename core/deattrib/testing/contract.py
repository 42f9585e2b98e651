"""`ScorerContract`: subclass it in a test file, name the scorer, and pytest runs the whole contract on it.

    class TestOverlap(ScorerContract):
        scorer = Overlap                 # a class, a name, "file.py:Class", or {"name": ..., **settings}
        params = {"order": 3}            # optional
        tolerance = 1e-3                 # optional: a share of the spread of the scores

Where a setting needs a fixture (a temporary folder, a model), override the fixture `scorer_spec` instead.

A contract test cannot be overridden, for a contract with holes is none. The one exception: a known, explained failure,

    @pytest.mark.xfail(strict=True, reason="the kernel is not batch-invariant, see issue 12")
    def test_any_batch_split(self, scorer_bench):
        super().test_any_batch_split(scorer_bench)

Strict, so that the exception goes away with its cause: an override that passes (mended since, or empty) fails the suite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

if TYPE_CHECKING:
    from deattrib.testing.bench import Bench


class ScorerContract:
    """The contract as tests; see the module's docstring. `scorer` must be given (or the fixture `scorer_spec`)."""

    scorer: ClassVar[Any] = None
    params: ClassVar[Mapping[str, Any]] = {}
    tolerance: ClassVar[float] = 1e-3

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name in [name for name in vars(cls) if name in CONTRACT]:
            if not _is_strict_xfail(vars(cls)[name]):
                raise TypeError(
                    f"{cls.__module__}.{cls.__qualname__} overrides the contract test {name}. Mend the scorer instead; if it "
                    "cannot be, say so: mark the override @pytest.mark.xfail(strict=True, reason=...) and call "
                    f"super().{name}(scorer_bench) in it."
                )

    def test_well_formed(self, scorer_bench: Bench) -> None:
        _run("well_formed", scorer_bench)

    def test_one_finite_number_per_row(self, scorer_bench: Bench) -> None:
        _run("one_finite_number_per_row", scorer_bench)

    def test_any_batch_split(self, scorer_bench: Bench) -> None:
        _run("any_batch_split", scorer_bench)

    def test_any_row_order(self, scorer_bench: Bench) -> None:
        _run("any_row_order", scorer_bench)

    def test_any_owner_order(self, scorer_bench: Bench) -> None:
        _run("any_owner_order", scorer_bench)

    def test_one_seed_one_result(self, scorer_bench: Bench) -> None:
        _run("one_seed_one_result", scorer_bench)

    def test_prefixes_are_cut_responses(self, scorer_bench: Bench) -> None:
        _run("prefixes_are_cut_responses", scorer_bench)

    def test_tokens_add_up(self, scorer_bench: Bench) -> None:
        _run("tokens_add_up", scorer_bench)

    def test_owners_at_once_as_one_by_one(self, scorer_bench: Bench) -> None:
        _run("owners_at_once_as_one_by_one", scorer_bench)

    def test_leaves_no_trace(self, scorer_bench: Bench) -> None:
        _run("leaves_no_trace", scorer_bench)

    def test_the_policy_may_move(self, scorer_bench: Bench) -> None:
        _run("the_policy_may_move", scorer_bench)

    def test_one_owner(self, scorer_bench: Bench) -> None:
        _run("one_owner", scorer_bench)

    def test_one_example(self, scorer_bench: Bench) -> None:
        _run("one_example", scorer_bench)

    def test_empty_and_unicode_responses(self, scorer_bench: Bench) -> None:
        _run("empty_and_unicode_responses", scorer_bench)

    def test_very_long_response(self, scorer_bench: Bench) -> None:
        _run("very_long_response", scorer_bench)

    def test_closes_twice(self, scorer_bench: Bench) -> None:
        _run("closes_twice", scorer_bench)

    def test_planted_owner_first(self, scorer_bench: Bench) -> None:
        _run("planted_owner_first", scorer_bench)


CONTRACT = frozenset(name for name in vars(ScorerContract) if name.startswith("test_"))


def _run(name: str, bench: Bench) -> None:
    """Run one check as a test: its failure is the assertion, its skip a skip."""
    __tracebackhide__ = True
    from deattrib.testing.bench import ContractFailure, ContractSkip
    from deattrib.testing.checks import CHECKS

    (check,) = (check for check in CHECKS if check.name == name)
    try:
        check(bench)
    except ContractSkip as skip:
        pytest.skip(str(skip))
    except ContractFailure as failure:
        raise ContractFailure(f"{failure}\n{check.mend}") from failure.__cause__


def _is_strict_xfail(function: Any) -> bool:
    marks = getattr(function, "pytestmark", [])
    return any(mark.name == "xfail" and mark.kwargs.get("reason") and mark.kwargs.get("strict") for mark in marks)
