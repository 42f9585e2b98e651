"""What docs/api.md promises: the public surface is the recorded one, and a change of it is made on purpose."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.public_api import RECORD, record, written

NOW = record()
THEN = json.loads(RECORD.read_text(encoding="utf-8"))


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What somebody who reads a failure wants to know, each with the weight that it has."""
    found = []
    for hook in sorted(then["hooks"].keys() | now["hooks"].keys()):
        old, new = then["hooks"].get(hook), now["hooks"].get(hook)
        if new is None:
            found.append(f"breaks plugins: hook {hook} is gone")
        elif old is not None and not set(old) <= set(new):
            found.append(f"breaks plugins: hook {hook} lost {sorted(set(old) - set(new))}")
        elif old != new:
            found.append(f"addition: hook {hook} has {new}")
    for module in sorted(then["names"].keys() | now["names"].keys()):
        old, new = then["names"].get(module, {}), now["names"].get(module, {})
        found += [f"breaks users: {module}.{name} is gone" for name in sorted(old.keys() - new.keys())]
        found += [f"addition: {module}.{name}" for name in sorted(new.keys() - old.keys())]
        for name in sorted(old.keys() & new.keys()):
            found += [f"{module}.{name}: {change}" for change in changes(old[name], new[name])]
    if then["interface"] > now["interface"]:
        found.append("the plugin interface has a lower number than before")
    return found


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What changed about one name."""
    found = [f"{key} was {old.get(key)}, is {new.get(key)}" for key in ("kind", "signature") if old.get(key) != new.get(key)]
    for part in ("fields", "members"):
        mine, yours = old.get(part, {}), new.get(part, {})
        for key in sorted(mine.keys() | yours.keys()):
            if mine.get(key) != yours.get(key):
                found.append(f"{key} was {mine.get(key, 'not there')}, is {yours.get(key, 'not there')}")
    return found


def test_the_surface_is_the_recorded_one() -> None:
    found = differences(THEN, NOW)
    assert found == [], "see docs/api.md for what may change; `python -m tests.public_api` records it"
    assert json.loads(written(NOW)) == THEN


def test_everything_public_is_recorded() -> None:
    assert len(THEN["names"]["deattrib"]) > 50 and len(THEN["hooks"]) >= 7
    assert THEN["names"]["deattrib"]["Scorer"]["members"]["score"] == "(self, rows: 'Rows') -> 'Any'"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("hooks", "run_started"), ["config"], "breaks plugins: hook run_started lost ['folder']"),
        (("hooks", "run_started"), ["folder", "config", "seed"], "addition: hook run_started has"),
        (("hooks", "scorers"), None, "breaks plugins: hook scorers is gone"),
        (("names", "deattrib", "unlearn"), None, "breaks users: deattrib.unlearn is gone"),
        (("names", "deattrib", "unlearn", "signature"), "()", "deattrib.unlearn: signature was"),
        (("names", "deattrib", "Scorer", "members", "score"), "(self)", "deattrib.Scorer: score was"),
        (("names", "deattrib", "RunConfig", "fields", "seed"), None, "deattrib.RunConfig: seed was"),
        (("names", "deattrib", "new"), {"kind": "function"}, "addition: deattrib.new"),
        (("interface",), 0, "the plugin interface has a lower number"),
    ],
)
def test_a_change_is_seen_and_named(path: tuple[str, ...], value: Any, said: str) -> None:
    changed = copy.deepcopy(THEN)
    place = changed
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (found,) = differences(THEN, changed)
    assert found.startswith(said)
