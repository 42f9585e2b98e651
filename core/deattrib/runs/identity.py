"""What must be the same before a run is gone on with: settings, corpus, plugins, and the code of classes from files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deattrib.attribution.plugins import PluginRegistry
from deattrib.corpus.settings import load_corpus
from deattrib.corpus.types import Corpus
from deattrib.errors import RunError
from deattrib.methods.choose import choose_method
from deattrib.models.language_model import fingerprint
from deattrib.models.ranks import ProcessGroup
from deattrib.runs.config import RunConfig
from deattrib.runs.folder import RunFolder, read_manifest
from deattrib.runs.keys import digest_of
from deattrib.runs.manifest import check_same, differences, library_versions
from deattrib.runs.prepare import Models


def registry_of(config: RunConfig) -> PluginRegistry:
    """The plugins that a run's settings let in."""
    return PluginRegistry(disable=config.plugins.disable, require=config.plugins.require, allow=config.plugins.allow)


def run_identity(config: RunConfig, corpus: Corpus, registry: PluginRegistry) -> dict[str, Any]:
    """Plain values. The corpus is its fingerprint, with its sizes beside it so that a difference can be read."""
    judges = config.evaluation.attribution
    specs = [config.reward, config.referee.scorer, judges if isinstance(judges, (list, tuple)) else None]
    classes = list(dict.fromkeys(cls for spec in specs for cls in _scorers_in(spec, registry)))
    origins = {_name_of(cls, classes): registry.origin(cls) for cls in classes}
    origins["method"] = registry.origin(choose_method(config.method, registry).cls)
    return {
        "corpus": corpus.fingerprint(),
        "rows": len(corpus.train),
        "owners": len(corpus.owners),
        "forget": [owner[:80] for owner in corpus.forget_owners],
        "plugins": registry.versions,
        # Of a file the name and the digest of its text: where it lies is nobody's business.
        "classes": {name: f"{Path(origin.distribution).name} {origin.version}" for name, origin in origins.items()},
    }


def _scorers_in(spec: Any, registry: PluginRegistry) -> Iterator[type[Any]]:
    """Classes of the scorers that a setting names, and of those that these wrap (`scorer: ...`)."""
    if isinstance(spec, str) and spec not in ("all", "none"):
        yield registry.scorer(spec)
    elif isinstance(spec, Mapping) and isinstance(spec.get("name"), str):
        yield registry.scorer(spec["name"])
        yield from _scorers_in(spec.get("scorer"), registry)
    elif isinstance(spec, (list, tuple)):
        for one in spec:
            yield from _scorers_in(one, registry)


def _name_of(cls: type[Any], classes: Sequence[type[Any]]) -> str:
    """The class's name; with a number where others before it have the same."""
    same = [other for other in classes if other.name == cls.name]
    return str(cls.name) if same[0] is cls else f"{cls.name}#{same.index(cls) + 1}"


def corpus_of(config: RunConfig, corpora: dict[str, Corpus]) -> Corpus:
    """A run's corpus, from those that were read for other runs (by their settings) if it is among them. Raises CorpusError."""
    key = f"{config.seed} {config.corpus.model_dump_json()}"
    if key not in corpora:
        corpora[key] = load_corpus(config.corpus, config.seed)
    return corpora[key]


def check_reused(folder: Path, config: RunConfig, corpora: dict[str, Corpus]) -> None:
    """Refuses a finished run as the result of `config` where the corpus or a class's code has changed since.

    Args:
        corpora: as of `corpus_of`.

    Raises:
        RunError: shows every difference.
    """
    corpus = corpus_of(config, corpora)
    now, known = run_identity(config, corpus, registry_of(config)), read_manifest(folder).get("fingerprints", {})
    names = [name for name in ("corpus", "rows", "owners", "forget", "classes") if name in known]
    if found := differences({name: known[name] for name in names}, {name: now[name] for name in names}):
        lines = "".join(f"\n  {path}: {before} -> {after}" for path, before, after in found)
        raise RunError(
            f"The finished run in {folder} has these settings, but was made with another corpus or code:{lines}\nTake another "
            "--output, or remove the folder to run it anew."
        )


def check_corpus(folder: RunFolder, corpus: Corpus) -> None:
    """Refuses to look at a run's models on another corpus than the run's. Raises RunError."""
    known = folder.manifest.get("fingerprints", {}).get("corpus")
    if known is not None and known != corpus.fingerprint():
        raise RunError(
            f"The run in {folder.path} was made on another corpus than its settings now lead to ({known[:12]} -> "
            f"{corpus.fingerprint()[:12]}): its files have changed. Put them back, or run it anew."
        )


def check_everywhere(processes: ProcessGroup, identity: Mapping[str, Any]) -> None:
    """Refuses to begin where processes, on other machines perhaps, have another corpus or other plugins. Raises RunError."""
    everyone = processes.gather(dict(identity))
    for rank, other in enumerate(everyone):
        if found := differences(everyone[0], other):
            lines = "".join(f"\n  {path}: {first} -> {here}" for path, first, here in found)
            raise RunError(f"Process {rank} has another corpus or other plugins than process 0:{lines}\nGive all the same.")


def check_config(folder: RunFolder) -> None:
    """Refuses a `config.yaml` that was changed by hand after the run was begun; a checkpoint says later what was changed."""
    begun = folder.manifest.get("fingerprints", {}).get("config")
    if begun is not None and begun != digest_of(folder.config):
        shown = _changed_settings(folder)
        raise RunError(
            f"{folder.path / 'config.yaml'} is not what the run was started with, so it cannot be resumed.{shown}\nPut it "
            "back, or start a new run with --output."
        )


def _changed_settings(folder: RunFolder) -> str:
    """The differences from the settings in the newest checkpoint, a line each; "" where there is none."""
    from deattrib.runs.checkpoint import load_newest

    _, state, _ = load_newest(folder.checkpoints)
    stored = state.get("config")
    found = differences(stored, folder.config) if isinstance(stored, Mapping) else []
    return "".join(f"\n  {path}: {before} -> {after}" for path, before, after in found)


def check_loaded(folder: RunFolder, config: RunConfig, models: Models, *, add: bool = True) -> None:
    """Refuses a run whose original, base model or tokenizer was loaded from somewhere and is another one now.

    Not for models that are made: on other machines these may differ in their last digits.

    Args:
        add: what the run does not know of itself yet goes into its manifest.

    Raises:
        RunError: shows what differs.
    """
    now = {}
    if config.model.path:
        now["original"] = models.weights["original"]
    if config.model.base and models.base is not None:
        now["base"] = fingerprint(models.base.model)
    if now:
        now["tokenizer"] = models.codec.fingerprint()
    known = folder.manifest.get("fingerprints", {}).get("loaded", {})
    if add and now and not known:
        folder.add_fingerprints({"loaded": now})
    same = {name: known[name] for name in now if name in known}
    check_same(same, {name: now[name] for name in same}, what="models")


def check_identity(folder: RunFolder, identity: Mapping[str, Any]) -> list[str]:
    """Writes the identity into the manifest of a new run; refuses to go on with a run that had another.

    Returns:
        a sentence on libraries whose version is not the one that the run was begun with: its numbers may differ by rounding.

    Raises:
        RunError: shows every difference.
    """
    known = folder.manifest.get("fingerprints", {})
    check_same({key: known[key] for key in identity if key in known}, {key: identity[key] for key in identity if key in known},
               what="corpus or plugins")  # fmt: skip
    if any(key not in known for key in identity):
        folder.add_fingerprints(identity)
    changed = differences(folder.manifest.get("versions", {}), library_versions())
    if not changed:
        return []
    text = ", ".join(f"{name} {before} -> {after}" for name, before, after in changed)
    return [f"Other versions than the run was started with ({text}): its numbers may differ in the last digits."]
