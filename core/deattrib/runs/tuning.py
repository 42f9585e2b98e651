"""Tuning a method at a stated budget: the same number of runs for every method, chosen by the one score.

Each trial is settings from the method's search space, run on every tuning seed; the trial with the highest median score is
taken, one that did not collapse before one that did. Forget rows that are reported are never seen: seeds must differ from the
reported ones, and `deattrib compare --tuned` refuses settings that were tuned on an owner it reports (which happens
where the corpus does not follow the seed).

    OUTPUT/METHOD.yaml          what came of it; `deattrib compare --tuned OUTPUT` takes it up
    OUTPUT/METHOD.json          every trial with its settings and scores, as they come
    OUTPUT/runs/, OUTPUT/logs/  ordinary run folders: the same command goes on where it was cut off
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from deattrib.attribution.plugins import PluginRegistry
from deattrib.compare.folders import ENGINE, Label, read_run
from deattrib.compare.score import closenesses, collapse, score
from deattrib.corpus.settings import load_corpus
from deattrib.corpus.types import Corpus
from deattrib.errors import ConfigError, RunError
from deattrib.methods.choose import choose_method, method_name
from deattrib.report.figures import figure, mapping
from deattrib.runs.atomic import atomic_write_json, atomic_write_text
from deattrib.runs.children import finished
from deattrib.runs.compare import Executor, claimed, find_folders, make_runs
from deattrib.runs.config import RunConfig, build_config
from deattrib.runs.listener import Say
from deattrib.runs.matrix import Cell, Spec
from deattrib.runs.pipeline import check_scorers, reward_name
from deattrib.runs.search import space_of, trials, with_settings
from deattrib.yaml_file import dump_yaml, load_yaml


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning one method came to.

    Attributes:
        method: its name.
        settings: dotted paths, or names of the method's own; empty: the config as it stands was best.
        score: median over the tuning seeds.
        seeds: they were tuned on.
        runs: how many.
        forgotten: digests of the owners whose rows were forgotten while tuning.
        collapsed: seeds in which the chosen trial collapsed, with the reasons; "" where it did not.
    """

    method: str
    settings: Mapping[str, Any]
    score: float
    seeds: tuple[int, ...]
    runs: int
    forgotten: tuple[str, ...]
    collapsed: str = ""


def tune(
    base: Mapping[str, Any],
    method: Spec,
    *,
    budget: int,
    seeds: Sequence[int],
    reported: Sequence[int],
    output: Path,
    cache: Path,
    jobs: int = 1,
    executor: Executor | None = None,
    say: Say = lambda text: None,
) -> Tuned:
    """Try settings of one method and write down the best.

    Args:
        base: settings as in a config file; its `reward` is what dareu is trained on, and judges other methods.
        method: what is tuned.
        budget: runs in all; budget / seeds trials.
        seeds: tuned on.
        reported: seeds that results are to be reported on.
        jobs, executor: as of `compare`.

    Raises:
        ConfigError: seeds overlap, the budget is less than one trial, or settings are wrong.
        RunError: no trial came to a score, or the method is being tuned there by another process.
    """
    name = method_name(method)
    _check_seeds(seeds, reported, budget)
    registry = PluginRegistry()
    data = {**base, "method": _with_own(method, base.get("method", ENGINE), registry)}
    config = build_config(data=data)
    check_scorers(config)
    _check_oracle(config)
    name = choose_method(method, registry).cls.name
    corpora = [load_corpus(config.corpus, seed) for seed in seeds]
    settings = trials(data, space_of(config, registry), budget // len(seeds), rows=len(corpora[0].forget))
    cells = [_cell(data, name, number, one, seed) for number, one in enumerate(settings) for seed in seeds]
    launcher = (executor or Executor()).launcher(output, cache, say)
    with claimed(output, what=f"{name} tuning", name=f".{name}.lock"):
        log = _TrialLog(output / f"{name}.json", name, seeds, settings, cells, find_folders(cells, output))
        tried = log.write(make_runs(cells, log.folders, launcher, cache, jobs=jobs, say=say, gather=log.write))
    best = max((one for one in tried if one["score"] is not None), key=_worth, default=None)
    if best is None:
        reasons = [error for one in tried for error in one["errors"] if error] or ["its runs have no figures of the oracle's"]
        raise RunError(f"No trial of {name!r} came to a score: {reasons[0]}")
    owners = sorted({digest for corpus in corpora for digest in _forgotten(corpus)})
    fallen = "; ".join(f"seed {seed}: {', '.join(why)}" for seed, why in zip(seeds, best["collapsed"], strict=True) if why)
    found = {**_own_settings(data["method"]), **best["settings"]}
    tuned = Tuned(name, found, best["score"], tuple(seeds), len(cells), tuple(owners), fallen)
    _write(tuned, output / f"{name}.yaml")
    return tuned


def _check_seeds(seeds: Sequence[int], reported: Sequence[int], budget: int) -> None:
    both = sorted(set(seeds) & set(reported))
    if both:
        raise ConfigError(f"Seeds {both} are to be reported on, so nothing may be tuned on them; take others with --seeds.")
    if len(set(seeds)) < len(seeds) or not seeds or budget < len(seeds):
        raise ConfigError(f"A budget of {budget} runs is less than one trial on seeds {list(seeds)}, each once.")


def _check_oracle(config: RunConfig) -> None:
    if not config.model.with_oracle:
        raise ConfigError(
            "Trials are scored by their distance to the oracle, and these models have none: give model.oracle, or model.base "
            "(with model.oracles of 1 or 2), from which one is made."
        )


def _with_own(method: Spec, own: Spec, registry: PluginRegistry) -> Spec:
    """The method as it is to be tuned: what the config sets of it stays set. Raises ConfigError."""
    if method_name(own) == ENGINE != method_name(method):
        return method
    if choose_method(own, registry).cls is not choose_method(method, registry).cls:
        raise ConfigError(
            f"The config's own method is {method_name(own)!r}, which tuning {method_name(method)!r} would not run: leave it "
            "out of the config, or tune that one."
        )
    said, given = ({} if isinstance(spec, str) else dict(spec) for spec in (own, method))
    return {**said, **given, "name": given.get("name", method)} if said else method


def _own_settings(method: Spec) -> dict[str, Any]:
    """What the method's mapping sets by itself; with what was found it is what the best trial ran with."""
    return {} if isinstance(method, str) else {name: value for name, value in method.items() if name != "name"}


def read_tuned(folder: Path) -> dict[str, Tuned]:
    """Method -> what it was tuned to, from every YAML file of a folder. Raises ConfigError."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        content = load_yaml(path)
        try:
            one = Tuned(
                str(content["method"]), dict(content["settings"]), float(content["score"]), tuple(map(int, content["seeds"])),
                int(content["runs"]), tuple(map(str, content["forgotten"])), str(content["collapsed"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is not what `deattrib tune` writes: {error!r}.") from error
        found[one.method] = one
    if not found:
        raise ConfigError(f"There are no tuned settings in {folder}; `deattrib tune METHOD --output {folder}` makes them.")
    return found


def refuse_overlap(tuned: Mapping[str, Tuned], configs: Sequence[RunConfig]) -> None:
    """Raises ConfigError where settings were tuned on a seed or a forgotten owner of `configs`."""
    seeds = {config.seed for config in configs}
    different = {(config.seed, config.corpus.model_dump_json()): config for config in configs}
    owners = {digest for config in different.values() for digest in _forgotten(load_corpus(config.corpus, config.seed))}
    for one in tuned.values():
        both = sorted(seeds & set(one.seeds))
        if both:
            raise ConfigError(f"{one.method!r} was tuned on seeds {both}, which are to be reported; take others with --seeds.")
        if owners & set(one.forgotten):
            raise ConfigError(
                f"{one.method!r} was tuned on the rows of {len(owners & set(one.forgotten))} of the owners that are to be "
                "reported: this corpus does not follow the seed. Tune with other owners to forget (`deattrib tune --set "
                "corpus.forget=...`, none of those that are reported), or on another corpus."
            )


def _forgotten(corpus: Corpus) -> list[str]:
    """A digest of each forget owner's rows; the same owner in another corpus has another."""
    texts = ([[row.prompt, row.response] for row in corpus.rows_of(owner)] for owner in corpus.forget_owners)
    return [hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()[:16] for rows in texts]


def _cell(data: Mapping[str, Any], name: str, number: int, settings: Mapping[str, Any], seed: int) -> Cell:
    config = build_config(data={**with_settings(data, settings), "seed": seed})
    # One oracle is all that the score needs; `original` and `oracle` are the same without the second one.
    config = config.model_copy(update={"model": config.model.model_copy(update={"oracles": min(config.model.oracles, 1)})})
    return Cell(Label(name, reward_name(config), _variant(number), seed), config)


def _variant(number: int) -> str:
    return f"trial{number}"


@dataclass(frozen=True, slots=True)
class _TrialLog:
    """The file of trials, written whenever a run has finished."""

    path: Path
    method: str
    seeds: Sequence[int]
    settings: Sequence[Mapping[str, Any]]
    cells: Sequence[Cell]
    folders: Mapping[str, Path]

    def write(self, errors: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """All trials with the errors of their runs; without those, while runs are made, the trials that are finished."""
        tried = []
        for number, settings in enumerate(self.settings):
            own = [cell for cell in self.cells if cell.label.variant == _variant(number)]
            if errors is not None or all(finished(self.folders[cell.config.digest]) for cell in own):
                tried.append(_outcome(number, settings, own, self.folders, errors or {}))
        atomic_write_json(self.path, {"schema": 1, "method": self.method, "seeds": list(self.seeds), "trials": tried})
        return tried


def _outcome(
    number: int, settings: Mapping[str, Any], cells: Sequence[Cell], folders: Mapping[str, Path], errors: Mapping[str, str]
) -> dict[str, Any]:
    """One trial: its settings, and the score of each seed; without a median where a seed failed."""
    runs = [
        read_run(folders[cell.config.digest], cell.label, error=errors.get(cell.config.digest, "")) for cell in cells
    ]  # fmt: skip
    parts = [closenesses(run.rows) for run in runs]
    scores = [score(found, found) for found in parts]
    done = [value for value in scores if value is not None]
    return {
        "trial": number,
        "settings": dict(settings),
        "score": median(done) if len(done) == len(runs) else None,
        "scores": scores,
        "collapsed": [collapse(run.rows) for run in runs],
        "seconds": [figure(mapping(mapping(run.metrics).get("seconds")).get("unlearn")) for run in runs],
        "errors": [run.error for run in runs],
    }


def _worth(trial: Mapping[str, Any]) -> tuple[bool, float]:
    fallen = sum(bool(reasons) for reasons in trial["collapsed"])
    return 2 * fallen < len(trial["collapsed"]), trial["score"]


def _write(tuned: Tuned, path: Path) -> None:
    content = {
        "method": tuned.method,
        "settings": dict(tuned.settings),
        "score": round(tuned.score, 4),
        "seeds": list(tuned.seeds),
        "runs": tuned.runs,
        "forgotten": list(tuned.forgotten),
        "collapsed": tuned.collapsed,
    }
    atomic_write_text(path, dump_yaml(content))
