"""The pytest plugin that brings the contract's fixtures; installed with deattrib as entry point ``pytest11``.

It loads in every pytest session of the environment, so it imports nothing heavy: torch comes with the first fixture.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from deattrib.testing.bench import Bench
    from deattrib.testing.world import World

_COSTS = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def contract_world() -> World:
    """The small corpus and its trained model, one for all contracts of the session; from the cache where it is there."""
    from deattrib.testing.world import make_world

    return make_world()


@pytest.fixture(scope="class")
def scorer_spec(request: pytest.FixtureRequest) -> Any:
    """What the contract is run on: the class attribute `scorer`; override it where a scorer needs other fixtures."""
    if request.cls is None or request.cls.scorer is None:
        where = getattr(request.cls, "__qualname__", request.node.nodeid)
        pytest.fail(f'{where} names no scorer: write `scorer = MyScorer` (or "name", "file.py:Class") in the class.', False)
    return request.cls.scorer


@pytest.fixture(scope="class")
def scorer_bench(request: pytest.FixtureRequest, scorer_spec: Any) -> Bench:
    """The bench of one contract class: its scorer is fitted once and shared by the checks that allow it."""
    from deattrib.errors import DeattribError
    from deattrib.testing.bench import Bench

    cls = request.cls
    world: World = request.getfixturevalue("contract_world")  # asked for here: as an argument it would be made first
    bench = Bench(scorer_spec, world, params=cls.params, tolerance=cls.tolerance)

    def tell() -> None:
        with contextlib.suppress(DeattribError):  # it does not fit or score: the tests have said so
            request.config.stash.setdefault(_COSTS, {})[cls.__qualname__] = f"{bench.name}: {bench.cost}"

    request.addfinalizer(tell)
    return bench


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What every checked scorer costs, measured on the contract's small model."""
    costs = config.stash.get(_COSTS, {})
    if costs:
        terminalreporter.section("cost of scorers")
        for name, text in costs.items():
            terminalreporter.line(f"{name}: {text}")
