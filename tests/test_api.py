"""What docs/api.md promises: the public surface is the recorded one, and a change of it is made on purpose."""

from __future__ import annotations

import ast
import builtins
import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.public_api import RECORD, record, written

from deattrib import RunConfig

DOCS = RECORD.parents[1] / "docs"
CORE = RECORD.parents[1] / "core"
NOW = record()
THEN = json.loads(RECORD.read_text(encoding="utf-8"))


# Classes that a signature names and that nobody outside has to import or make, and why.
PRIVATE = {
    "AttributionSource": "a protocol: any object with these methods, such as an Attributor",
    "Fault": "read from a Step",
    "GibberishDetector": "read from a Subject",
    "Origin": "read from the registry, as text",
    "PolicyOutput": "read from what a Policy gives: logits and values",
    "ProcessGroup": "the engine's own, for several processes; its default is one",
    "Questions": "the engine's own: what else is asked where models are made; None by default",
    "Retrainer": "the engine's own; scorers call context.retrain",
    "RolloutSettings": "read from PPOSettings().rollout; a mapping does in a config",
    "RowLikelihoods": "read from EvaluatedRows",
    "Taught": "the engine's own, handed from one method of Unlearner to another",
    "Witnesses": "the engine's own: sampled by Attributor.fit where None is given",
}


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
    found += between("setting", then["settings"], now["settings"])
    for part, word in (("params", "setting"), ("commands", "option")):
        old, new = then[part], now[part]
        found += [f"breaks users: {part} of {name} are gone" for name in sorted(old.keys() - new.keys())]
        found += [f"addition: {part} of {name}" for name in sorted(new.keys() - old.keys())]
        for name in sorted(old.keys() & new.keys()):
            found += between(f"{word} {name}", old[name], new[name])
    if then["interface"] > now["interface"]:
        found.append("the plugin interface has a lower number than before")
    return found


def between(what: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Settings or options that went, came, or take or default to something else."""
    found = [f"breaks users: {what} {key} is gone" for key in sorted(old.keys() - new.keys())]
    found += [f"breaks users: {what} {key} must be given" for key in sorted(new.keys() - old.keys()) if required(new[key])]
    found += [f"addition: {what} {key}" for key in sorted(new.keys() - old.keys()) if not required(new[key])]
    both = sorted(old.keys() & new.keys())
    return found + [f"breaks users: {what} {key} was {old[key]}, is {new[key]}" for key in both if old[key] != new[key]]


def required(shown: str) -> bool:
    return shown.endswith("required")


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


def test_every_setting_parameter_and_option_is_recorded() -> None:
    """Those that docs/settings.md, docs/commands.md and the pages of docs/catalogue list."""
    pages = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("settings.md", "commands.md")}
    assert set(re.findall(r"^\| `([\w.]+)` \|", pages["settings.md"], re.MULTILINE)) == set(THEN["settings"])
    assert {key.split(".")[0] for key in THEN["settings"]} == set(RunConfig.model_fields)
    assert THEN["settings"]["ppo.reward.kl"] == "float = 0.1" and len(THEN["settings"]) > 100
    plugins = {f"{path.parent.name.removesuffix('s')}/{path.stem}": path for path in (DOCS / "catalogue").glob("*/*.md")}
    assert set(THEN["params"]) <= set(plugins)  # what has no settings is not recorded
    for name, path in plugins.items():
        part = path.read_text(encoding="utf-8").split("## Settings\n")[1].split("\n## ")[0]
        assert set(re.findall(r"^\| `([\w.]+)` \|", part, re.MULTILINE)) <= set(THEN["params"].get(name, {}))
    assert {name.split("/")[0] for name in THEN["params"]} == {"scorer", "method", "metric", "attack"}
    options = set(re.findall(r"^\| `(-[^|]*)` \|", pages["commands.md"], re.MULTILINE))
    assert {", ".join(re.findall(r"[\w-]+", words)) for words in options} == {
        key for fields in THEN["commands"].values() for key in fields if key.startswith("-")
    }
    assert set(re.findall(r"^## (\S+)$", pages["commands.md"], re.MULTILINE)) == set(THEN["commands"])


def annotations(described: Any) -> Iterator[str]:
    """Signatures and types of fields; not those of settings, which take mappings where they have sections."""
    if isinstance(described, dict):
        for key, value in described.items():
            if not (key == "fields" and described.get("kind") == "settings"):
                yield from annotations(value)
    elif isinstance(described, str):
        yield described


def named(text: str) -> set[str]:
    """Names in annotations, without modules; what is in quotes inside of Literal is none, nor is a default."""
    text = re.sub(r"Literal\[[^]]*\]", "", re.sub(r" = (?:\.\.\.|[^,()]+)", "", text))
    return {name.split(".")[-1] for name in re.findall(r"[A-Za-z_][\w.]*", text)}


def ours() -> set[str]:
    """Names of the library's classes, but for builtins' namesakes and for what some module has as another name of a type."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(CORE.rglob("*.py"))]
    top = [node for tree in trees for node in tree.body]
    aliases = {
        target.id for node in top if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)
    }
    return {node.name for node in top if isinstance(node, ast.ClassDef)} - aliases - set(vars(builtins))


def hidden(surface: dict[str, Any]) -> set[str]:
    """Classes of ours that a signature needs and that no public module has."""
    wanted = {name for text in annotations(surface) for name in named(text)}
    return (wanted & ours()) - {name for module in surface.values() for name in module}


def test_every_class_that_a_signature_needs_is_public_or_need_not_be() -> None:
    assert hidden(NOW["names"]) == set(PRIVATE)
    assert all(len(reason) > 10 for reason in PRIVATE.values())


def test_a_class_that_is_missing_is_seen() -> None:
    changed = copy.deepcopy(NOW["names"])
    for name in ("GuardSettings", "SwappedBatch", "PolicySettings", "PPOSettings", "EvaluationSettings"):
        del changed["deattrib"][name]
        assert name in hidden(changed), name


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
        (("settings", "ppo.reward.kl"), None, "breaks users: setting ppo.reward.kl is gone"),
        (("settings", "ppo.reward.kl"), "float = 0.5", "breaks users: setting ppo.reward.kl was float"),
        (("settings", "ppo.reward.new"), "int = 1", "addition: setting ppo.reward.new"),
        (("settings", "ppo.reward.new"), "int = required", "breaks users: setting ppo.reward.new must be given"),
        (("params", "scorer/classifier"), None, "breaks users: params of scorer/classifier are gone"),
        (("params", "scorer/classifier", "epochs"), None, "breaks users: setting scorer/classifier epochs is gone"),
        (("params", "scorer/new"), {"a": "int = 1"}, "addition: params of scorer/new"),
        (("commands", "run", "--seed"), None, "breaks users: option run --seed is gone"),
        (("commands", "run", "--seed"), "7", "breaks users: option run --seed was None, is 7"),
        (("commands", "run", "--new"), "None", "addition: option run --new"),
        (("commands", "run"), None, "breaks users: commands of run are gone"),
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
