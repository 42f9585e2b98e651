"""Every clause of the contract catches a scorer that was made to break it, and a sound one keeps them all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from tests.testing.broken import BROKEN, FindsThePolicy, Nameless, NeedsTwoOwners, Overlap

from deattrib import ConfigError, GuardedScorer, Rows, Scorer, ScorerContext, ScorerError
from deattrib.testing import CHECKS, Bench, ContractFailure, ContractSkip, ScorerContract, World, run_contract

FUNCTIONS = {check.name: check for check in CHECKS}


def test_a_sound_scorer_keeps_the_whole_contract(contract_world: World) -> None:
    report = run_contract(Overlap, world=contract_world)
    assert [(outcome.check, outcome.message) for outcome in report.outcomes if outcome.state == "failed"] == []
    skipped = {outcome.check for outcome in report.outcomes if outcome.state == "skipped"}
    assert skipped == {"prefixes_are_cut_responses", "tokens_add_up", "owners_at_once_as_one_by_one"}
    assert report.passed and report.cost is not None
    assert min(report.cost.fit, report.cost.score, report.cost.prefixes) > 0


@pytest.mark.parametrize(("cls", "check", "message"), BROKEN, ids=[f"{cls.__name__}-{check}" for cls, check, _ in BROKEN])
def test_the_check_catches_what_it_is_for(contract_world: World, cls: type[Scorer], check: str, message: str) -> None:
    with pytest.raises(ContractFailure, match=message):
        FUNCTIONS[check](Bench(cls, contract_world))


def test_every_check_has_a_scorer_that_breaks_it() -> None:
    assert {check for _, check, _ in BROKEN} | {"well_formed"} == set(FUNCTIONS)


def test_a_class_that_cannot_be_registered_is_not_well_formed(contract_world: World) -> None:
    with pytest.raises(ContractFailure, match="expected a word"):
        FUNCTIONS["well_formed"](Bench(Nameless, contract_world))


def test_a_refusal_in_the_scorers_own_words_is_no_crash(contract_world: World) -> None:
    class Refuses(Overlap):
        def fit(self, context: ScorerContext) -> None:
            if len(context.owners) < 2:
                raise ScorerError("two owners are needed to tell apart")
            super().fit(context)

    class Crashes(Refuses):
        def fit(self, context: ScorerContext) -> None:
            assert len(context.owners) > 1
            super().fit(context)

    assert FUNCTIONS["one_owner"](Bench(Refuses, contract_world)) is None
    with pytest.raises(ContractFailure):
        FUNCTIONS["one_owner"](Bench(Crashes, contract_world))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_wrapper_does_not_turn_a_crash_into_a_refusal(contract_world: World, depth: int) -> None:
    """Between the crash and the check stand the wrapper's own walls; a refusal must come through them as well."""

    class Refuses(Overlap):
        def fit(self, context: ScorerContext) -> None:
            if len(context.owners) < 2:
                raise ScorerError("two owners are needed to tell apart")
            super().fit(context)

    class Faulty(Overlap):
        def score(self, rows: Rows) -> Any:
            return [float("nan") if len(self.words) < 2 else value for value in super().score(rows)]

    def wrapped(inside: type[Scorer]) -> type[Scorer]:
        class Wraps(Scorer):
            name = "wraps"

            def fit(self, context: ScorerContext) -> None:
                self.guard = GuardedScorer(inside(), codec=context.codec)
                self.guard.fit(context)

            def score(self, rows: Rows) -> Any:
                return self.guard.score(rows)

        return Wraps

    classes: dict[str, type[Scorer]] = {"refuses": Refuses, "crashes": NeedsTwoOwners, "faulty": Faulty}
    for _ in range(depth):
        classes = {name: wrapped(cls) for name, cls in classes.items()}
    assert FUNCTIONS["one_owner"](Bench(classes["refuses"], contract_world)) is None
    for name, said in (("crashes", "IndexError"), ("faulty", "nan")):
        with pytest.raises(ContractFailure, match=said):
            FUNCTIONS["one_owner"](Bench(classes[name], contract_world))


class OwnerFree(Overlap):
    owner_free = True

    def score(self, rows: Rows) -> Any:
        return [float(len(row.response)) for row in rows]


class OnlySaysSo(Overlap):
    owner_free = True


def test_a_scorer_that_says_it_is_owner_free_is_excused_and_held_to_it(contract_world: World) -> None:
    with pytest.raises(ContractSkip, match="owner_free"):
        FUNCTIONS["planted_owner_first"](Bench(OwnerFree, contract_world))
    with pytest.raises(ContractFailure, match="differ between owners"):
        FUNCTIONS["planted_owner_first"](Bench(OnlySaysSo, contract_world))


def test_a_scorer_that_reads_the_policy_on_purpose_may_move_with_it(contract_world: World) -> None:
    class Reader(FindsThePolicy):
        def score(self, rows: Rows) -> Any:
            assert self.context.policy is not None
            return super().score(rows)

    with pytest.raises(ContractSkip, match="live policy"):
        FUNCTIONS["the_policy_may_move"](Bench(Reader, contract_world))


def test_pytest_and_the_command_run_the_same_list() -> None:
    methods = [name.removeprefix("test_") for name in vars(ScorerContract) if name.startswith("test_")]
    assert methods == [check.name for check in CHECKS]
    assert all(check.demands and check.mend for check in CHECKS)


def _sees_the_bench(function: Callable[..., Any]) -> bool:
    return list(inspect.signature(function).parameters) == ["self", "scorer_bench"]


def test_the_bench_wants_a_class_and_settings_only(contract_world: World) -> None:
    with pytest.raises(ConfigError, match="give the class Overlap"):
        Bench(Overlap(), contract_world)
    with pytest.raises(ConfigError, match="'name'"):
        Bench(Overlap, contract_world, params={"name": "other"})
    with pytest.raises(ConfigError, match="no setting 'order'"):
        Bench(Overlap, contract_world, params={"order": 2})


def test_no_more_fits_than_needed(contract_world: World) -> None:
    """Fitting may mean retraining: two with all owners, one with a single owner, one with a single row each."""

    class Counted(Overlap):
        fits: ClassVar[list[int]] = []

        def fit(self, context: ScorerContext) -> None:
            self.fits.append(len(context.owners))
            super().fit(context)

    assert run_contract(Counted, world=contract_world).passed
    assert sorted(Counted.fits) == [1, 4, 4, 4]


def test_every_contract_test_takes_the_bench() -> None:
    assert all(_sees_the_bench(value) for name, value in vars(ScorerContract).items() if name.startswith("test_"))


# -- overriding --------------------------------------------------------------------------------------------------------
def test_overriding_a_contract_test_is_refused() -> None:
    with pytest.raises(TypeError, match=r"overrides the contract test test_any_row_order.*xfail"):
        type("TestHoles", (ScorerContract,), {"test_any_row_order": lambda self: None})
    with pytest.raises(TypeError, match="test_one_owner"):
        type("TestSwitchedOff", (ScorerContract,), {"test_one_owner": None})


@pytest.mark.parametrize("mark", [pytest.mark.xfail, pytest.mark.xfail(reason="slow"), pytest.mark.xfail(strict=True)])
def test_an_exception_must_be_strict_and_explained(mark: Any) -> None:
    def override(self: Any, scorer_bench: Bench) -> None: ...

    with pytest.raises(TypeError, match="strict=True, reason"):
        type("TestVague", (ScorerContract,), {"test_any_row_order": mark(override)})


def test_an_explained_exception_and_tests_of_ones_own_are_let_in() -> None:
    def override(self: Any, scorer_bench: Bench) -> None: ...

    marked = pytest.mark.xfail(strict=True, reason="known")(override)
    made = type("TestKnown", (ScorerContract,), {"test_any_row_order": marked, "test_more": override})
    assert made.__dict__["test_any_row_order"] is marked
