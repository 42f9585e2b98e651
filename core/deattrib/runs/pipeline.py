"""A run from config to report: corpus, models, scorers, unlearning, evaluation, page.

Everything that a killed run needs to go on is in its folder. What comes before the loop is made again from caches and
seeds, the loop continues from the newest complete checkpoint, and what comes after it is computed anew: a resumed run
ends with the very numbers of an undisturbed one.

Started by torchrun, several processes carry out one run: all go the same way, the leader is first to make what is kept in the
cache, and it alone has the folder, evaluates and writes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from deattrib.attribution.attributor import Attributor
from deattrib.attribution.plugins import PluginRegistry
from deattrib.attribution.traces import seed_everything
from deattrib.corpus.settings import load_corpus
from deattrib.corpus.types import Corpus
from deattrib.errors import RunError
from deattrib.evaluation.rows import evaluation_rows
from deattrib.methods.choose import choose_method, method_name
from deattrib.models.ranks import ALONE, ProcessGroup, open_processes
from deattrib.models.threads import one_thread_if_small
from deattrib.ppo.split import check_split
from deattrib.ppo.unlearner import Unlearner
from deattrib.runs.attacked import choose_attacks
from deattrib.runs.attributions import chosen_scorers
from deattrib.runs.config import RunConfig
from deattrib.runs.folder import RunFolder, RunState, default_output
from deattrib.runs.identity import check_config, check_everywhere, check_identity, check_loaded, registry_of, run_identity
from deattrib.runs.listener import Listener
from deattrib.runs.loop import Loop
from deattrib.runs.making import Questions
from deattrib.runs.manifest import check_same
from deattrib.runs.metrics import choose_metrics
from deattrib.runs.outcome import Ended, write_outcome
from deattrib.runs.prepare import Pending, cache_folder, models_in_the_making
from deattrib.runs.session import Session, default_referee
from deattrib.runs.signals import Interrupted, Stopping
from deattrib.runs.validation import validate


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run.

    Attributes:
        folder: where it is. metrics: what its metrics.json holds.
    """

    folder: Path
    metrics: dict[str, Any]


def run(
    config: RunConfig | None,
    *,
    output: Path | None = None,
    resume: Path | None = None,
    arguments: Sequence[str] = (),
    listener: Listener | None = None,
    cache: Path | None = None,
) -> RunResult:
    """Carry out a run, or go on with one.

    Args:
        config: the settings; with `resume` None takes those of the folder, anything else must equal them.
        output: the new run's folder; None: `runs/<name>-[<method>-]<reward>-seed<seed>`, a finished one getting a number.
        resume: the folder to go on with.
        arguments: the command line, for the manifest.
        listener: is told of stages, steps and warnings.
        cache: of made models; None: `cache_folder()`.

    Raises:
        DeattribError: with state "failed" and the reason in the folder. Checkpoints stay.
        Interrupted: SIGTERM or Ctrl-C (a KeyboardInterrupt), with state "interrupted"; a step it came in is finished and saved.
    """
    cache = cache or cache_folder()
    with open_processes() as processes, ExitStack() as stack:
        listener = listener if listener is not None and processes.leads else Listener()
        folder: RunFolder | None = None

        def opened() -> tuple[RunConfig, Path]:
            nonlocal folder
            if config is not None:
                check_scorers(config, processes)  # before anything is on disk: a misspelt scorer leaves no run behind
            folder, settings = _open(config, output, resume, arguments)
            stack.enter_context(folder)
            return settings, folder.path

        settled, path = processes.share(opened)
        stopping = stack.enter_context(Stopping(patient=processes.size > 1))
        return RunResult(path, _lead_or_follow(settled, folder, processes, listener, cache, stopping))


def _lead_or_follow(
    config: RunConfig, folder: RunFolder | None, processes: ProcessGroup, listener: Listener, cache: Path, stopping: Stopping
) -> dict[str, Any]:
    """The run with its state in the folder, and told to plugins; a process without a folder only takes part."""
    registry = registry_of(config)
    if folder is None:
        try:
            return _carry_out(config, None, registry, listener, cache, stopping, processes)
        except Exception as error:
            raise processes.explain(error) from error
    metrics: dict[str, Any] | None = None
    if processes.size > 1:  # of one process there is nobody who could fail elsewhere, and its ProcessGroup is everybody's
        processes.last_words = partial(_note, folder, "failed", listener=listener)
    try:
        folder.set_state("running")
        _tell(registry, listener, "run_started", folder=folder.path, config=config.plain())
        metrics = _carry_out(config, folder, registry, listener, cache, stopping, processes)
        folder.set_state("finished")
    except Interrupted as error:
        _note(folder, "interrupted", str(error), listener=listener)
        if not error.after:  # no step was running: it was before or after the loop
            raise Interrupted(error.number, f"; go on with --resume {folder.path}") from error
        raise
    except BaseException as error:
        with stopping.postponed():  # where a process has failed its launcher ends the others, and why is still to be told
            reason = processes.explain(error)
            _note(folder, "failed", f"{type(reason).__name__}: {reason}", listener=listener)
        if reason is not error:
            raise reason from error
        raise
    finally:
        _tell(registry, listener, "run_finished", folder=folder.path, metrics=metrics)
    return metrics


def _open(
    config: RunConfig | None, output: Path | None, resume: Path | None, arguments: Sequence[str]
) -> tuple[RunFolder, RunConfig]:
    if resume is not None:
        folder = RunFolder.open(resume)
        try:
            if folder.state == "finished":
                raise RunError(
                    f"The run in {resume} is finished; there is nothing to resume. Start a new one with another --output."
                )
            check_config(folder)
            stored = validate(RunConfig, folder.config, source=str(resume / "config.yaml"))
            if config is not None:
                check_same(stored.plain(), config.plain())
            return folder, stored
        except BaseException:
            folder.close()
            raise
    if config is None:
        raise RunError("run() needs a config, or a folder to resume.")
    path = output or default_output(Path("runs"), name=config.name, reward=_folder_word(config), seed=config.seed)
    known: dict[str, Any] = {"config": config.digest}
    if config.model.trust_remote_code:
        known["trust_remote_code"] = True
    folder = RunFolder.create(path, config.plain(), seeds={"run": config.seed}, fingerprints=known, arguments=arguments)
    return folder, config


def check_scorers(config: RunConfig, processes: ProcessGroup = ALONE) -> None:
    """Raises PluginError or ConfigError: a method, scorer, metric or attack cannot be made, or the run not be split so."""
    registry = registry_of(config)
    choose_metrics(config.evaluation.metrics, registry)
    chosen_scorers(config.evaluation.attribution, registry)
    choose_attacks(config.attacks, registry)
    method = choose_method(config.method, registry)
    check_split(method.cls.settle(config.ppo, method.params), processes, method.cls)
    Attributor(config.reward, registry=registry)
    Attributor(config.referee.scorer or default_referee(config.reward), registry=registry)


def reward_name(config: RunConfig) -> str:
    """One word for the reward: the scorers' names joined with "+"."""
    return "+".join(spec if isinstance(spec, str) else str(spec["name"]) for spec in config.rewards)


def _folder_word(config: RunConfig) -> str:
    """What tells a run's folder from others: the reward, behind the method where that is not the engine itself."""
    method = method_name(config.method)
    return reward_name(config) if method == Unlearner.name else f"{method}-{reward_name(config)}"


def _carry_out(
    config: RunConfig,
    folder: RunFolder | None,
    registry: PluginRegistry,
    listener: Listener,
    cache: Path,
    stopping: Stopping,
    processes: ProcessGroup,
) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    seed_everything(config.seed)  # nothing should draw from these but libraries below
    listener.stage("corpus")
    with processes.leader_first():
        corpus = load_corpus(config.corpus, config.seed)
    identity = run_identity(config, corpus, registry)
    check_everywhere(processes, identity)
    for message in processes.share(lambda: check_identity(folder, identity) if folder is not None else []):
        listener.warn(message)
    with ExitStack() as stack:
        with _timed(seconds, "prepare"), processes.leader_first():
            making = stack.enter_context(_making(config, corpus, cache, processes, listener))
            models = making.first
        processes.share(lambda: check_loaded(folder, config, models) if folder is not None else None)
        spare = stack.enter_context(one_thread_if_small(models.original.model))
        with _timed(seconds, "fit"):
            session = Session(
                config, corpus, models.original, models.base,
                registry=registry, cache=cache, retrainer=models.retrainer, processes=processes,
            )  # fmt: skip
            if session.without_names:
                listener.warn(session.without_names)
            reward, referee = _fitted(session, processes, listener, stack)
        with _timed(seconds, "unlearn"):
            unlearner = session.make_unlearner(reward, ahead=spare)
            if unlearner.policy.spread_out:
                models = making.let_go()
            listener.stage("unlearn", f"{unlearner.steps} steps of {unlearner.name}")
            begun = {"reward": reward_name(config), "forget": list(corpus.forget_owners)}
            loop = Loop(unlearner, reward, folder, config.checkpoints, identity, begun, registry, listener, stopping)
            loop.check, loop.processes = making.check, processes
            loop.run()
            session.gather()
        seconds["unlearn"] = round(seconds["unlearn"] + loop.before, 2)

        def outcome() -> dict[str, Any]:
            assert folder is not None and referee is not None
            with _timed(seconds, "prepare"):
                final = replace(making.all(), original=session.original)
            with _timed(seconds, "evaluate"):
                listener.stage("evaluate")
                ended = Ended(config, corpus, final, session, unlearner, reward, referee)
                return write_outcome(folder, ended, seconds, listener, cache=cache, spare=spare)

        return processes.share(outcome)


def _making(
    config: RunConfig, corpus: Corpus, cache: Path, processes: ProcessGroup, listener: Listener
) -> AbstractContextManager[Pending]:
    listener.stage("models", f"{len(corpus.owners)} owners, {len(corpus.train)} rows, {len(corpus.forget_owners)} to forget")
    return models_in_the_making(
        corpus,
        config.model,
        seed=config.seed,
        cache=cache,
        makes=processes.leads,
        say=lambda text: listener.stage("models", text),
        questions=Questions(evaluation_rows(corpus, config.evaluation), config.evaluation),
    )


def _fitted(
    session: Session, processes: ProcessGroup, listener: Listener, stack: ExitStack
) -> tuple[Attributor, Attributor | None]:
    """Reward and referee, which only the process that evaluates has."""
    listener.stage("scorer", f"fitting and calibrating {reward_name(session.config)}")
    with processes.leader_first():
        reward = session.fit_reward()
    stack.callback(reward.close)
    if not processes.leads:
        return reward, None
    listener.stage("scorer", "fitting the referee")
    referee = session.fit_referee()
    stack.callback(referee.close)
    return reward, referee


def _note(folder: RunFolder, state: RunState, reason: str, listener: Listener) -> None:
    """How the run ended, where the disk takes it; what ended it is the error that people should see."""
    try:
        folder.set_state(state, reason=reason)
    except RunError as error:
        listener.warn(str(error))


def _tell(registry: PluginRegistry, listener: Listener, hook: str, **arguments: Any) -> None:
    for message in registry.notify(hook, **arguments):
        listener.warn(message)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - start, 2)
