"""Settings of a comparison: what all entries share, and what each has of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deattrib.compare.folders import ComparedRun
from deattrib.report.page import flat

OF_ONE_RUN = ("seed", "name")


def settings_of(groups: Mapping[str, Sequence[ComparedRun]]) -> dict[str, Any]:
    """{"shared": [[path, value]], "own": {entry: [[path, value]]}}.

    An entry's own settings are those that differ from the first entry's (of the first one: that differ in any other).
    """
    each = {name: _settings(runs) for name, runs in groups.items()}
    each = {name: settings for name, settings in each.items() if settings}
    if not each:
        return {"shared": [], "own": {}}
    first = next(iter(each))
    paths = dict.fromkeys(path for settings in each.values() for path in settings)
    mixed = [path for path in paths if len({settings.get(path) for settings in each.values()}) > 1]
    own = {
        name: [
            [path, settings.get(path, "–")]
            for path in mixed
            if name == first or settings.get(path) != each[first].get(path)
        ]
        for name, settings in each.items()
    }  # fmt: skip
    return {"shared": [[path, each[first][path]] for path in paths if path not in mixed], "own": own}


def mixtures(groups: Mapping[str, Sequence[ComparedRun]]) -> list[str]:
    """What to warn of: runs under one name that have other settings, or the same seed twice."""
    found = []
    for name, runs in groups.items():
        each = [_settings([run]) for run in runs if run.config]
        paths = dict.fromkeys(path for settings in each for path in settings)
        mixed = [path for path in paths if len({settings.get(path) for settings in each}) > 1]
        if mixed:
            found.append(f"Runs of {name!r} differ in {', '.join(mixed[:5])}{' and more' if len(mixed) > 5 else ''}.")
        seeds = [run.label.seed for run in runs]
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            found.append(f"{name!r} has more than one run of seed {', '.join(map(str, twice))}.")
    return found


def _settings(runs: Sequence[ComparedRun]) -> dict[str, str]:
    config = next((run.config for run in runs if run.config), {})
    return dict(flat({key: value for key, value in config.items() if key not in OF_ONE_RUN})) if config else {}
