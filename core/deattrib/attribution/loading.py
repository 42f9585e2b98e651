"""Getting scorer classes out of plugins, modules and files, and refusing those that cannot work.

Whatever goes wrong in foreign code ends as one PluginError that names the file and line; nothing here is silent.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import reprlib
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from deattrib.attribution.extras import install_hint
from deattrib.attribution.scorer import API_VERSION, OLDEST_API_VERSION, Fidelity, Scorer
from deattrib.errors import ConfigError, PluginError, did_you_mean

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
OPTIONAL_METHODS = ("score_prefixes", "score_tokens", "score_owners")
KINDS = {"scorers": "scorer", "metrics": "metric", "methods": "method", "attacks": "attack"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a class comes from.

    Attributes:
        distribution: name of the installed distribution; the path for a class from a file.
        version: of the distribution; for a class from a file, the digest of its content.
        entry_point: name within group ``deattrib``; "" for a class that was named by file or module.
    """

    distribution: str
    version: str = ""
    entry_point: str = ""

    def __str__(self) -> str:
        text = " ".join(part for part in (self.distribution, self.version) if part)
        return f"{text}, entry point {self.entry_point!r}" if self.entry_point else text


def describe(error: BaseException, distribution: str = "") -> str:
    """What a foreign exception says, the line it comes from, and the pip command where an extra is missing."""
    try:
        said = str(error)
    except Exception:  # foreign code, too
        said = "(its message cannot be shown)"
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    if isinstance(error, SyntaxError):
        text = f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    elif frames:
        text += f" ({frames[-1].filename}:{frames[-1].lineno})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = install_hint(error.name, distribution)
        text += f". {hint}" if hint else ""
    return text


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen") or filename in (__file__, importlib.__file__, metadata.__file__)


# -- checking ----------------------------------------------------------------------------------------------------------
def check_class(cls: Any, kind: str) -> None:
    """Refuse what cannot be used as a scorer, metric, method or attack. Raises PluginError without saying who brought it."""
    if not isinstance(cls, type):
        what = f"an instance of {type(cls).__name__}" if isinstance(cls, Scorer) else repr(cls)[:80]
        raise PluginError(f"brings {what} where a {kind} class is expected: return the class, the engine makes the instance.")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise PluginError(
            f"{kind} class {cls.__name__} has name = {name!r}: expected a word of at most 64 lower-case letters, digits, "
            '"-" and "_", such as name = "my-scorer".'
        )
    _check_interface(cls, kind)
    if kind == "scorer":
        _check_scorer(cls)


def _check_interface(cls: type[Any], kind: str) -> None:
    """Refuse what was written for an interface that this engine does not have; who says nothing means the present one."""
    version = getattr(cls, "api_version", API_VERSION)
    who = f"{kind} {getattr(cls, 'name', '')!r}"
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise PluginError(f"{who} has api_version = {version!r}: expected an integer from 1.")
    if version > API_VERSION:
        raise PluginError(
            f"{who} was written for plugin interface {version} and needs a newer deattrib: this one has interface "
            f"{API_VERSION}. Upgrade with: pip install --upgrade deattrib"
        )
    if version < OLDEST_API_VERSION:
        raise PluginError(
            f"{who} was written for plugin interface {version}, and this deattrib takes {OLDEST_API_VERSION} to {API_VERSION}. "
            "Upgrade the distribution that brings it."
        )


def _check_scorer(cls: type[Any]) -> None:
    if not issubclass(cls, Scorer):
        raise PluginError(f"class {cls.__name__} is not derived from deattrib.Scorer: write `class {cls.__name__}(Scorer):`.")
    if cls.fidelity not in get_args(Fidelity):
        raise PluginError(
            f"scorer {cls.name!r} has fidelity = {cls.fidelity!r}.{did_you_mean(str(cls.fidelity), get_args(Fidelity))}"
        )
    if not cls.overrides("score"):
        raise PluginError(f"scorer {cls.name!r} does not define score(rows), the one method that must be written.")
    if not (
        isinstance(cls.Params, type) and issubclass(cls.Params, BaseModel) and cls.Params.model_config.get("extra") == "forbid"
    ):
        raise PluginError(f"scorer {cls.name!r}: write `class Params(Scorer.Params):`, so that misspelt settings are refused.")
    if "name" in cls.Params.model_fields:
        raise PluginError(f"scorer {cls.name!r} has a setting called 'name', the word that picks the scorer: rename it.")


def check_params(cls: Any, values: dict[str, Any], origin: Origin, *, kind: str = "scorer") -> BaseModel:
    """Checked settings, by the class's `Params`. Raises ConfigError naming the class, the setting, and what was wrong."""
    try:
        params: BaseModel = cls.Params.model_validate(values)
        return params
    except ValidationError as error:
        problems = []
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                known = cls.Params.model_fields if len(item["loc"]) == 1 else ()
                known_text = did_you_mean(place, known) or (" It has none." if len(item["loc"]) == 1 else "")
                problems.append(f"there is no setting {place!r}.{known_text}")
            elif item["type"] == "missing":
                problems.append(f"setting {place!r} is missing.")
            else:
                problems.append(f"setting {place!r}: {item['msg']}; got {reprlib.repr(item['input'])}.")
        lines = problems[0] if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"{kind.capitalize()} {cls.name!r} ({origin}): {lines}") from error


# -- files and modules -------------------------------------------------------------------------------------------------
def load_reference(reference: str, kind: str = "scorer") -> tuple[type[Any], Origin]:
    """The class named by ``file.py:Class`` (relative to the current folder) or ``module:Class``, checked."""
    place, _, attribute = reference.rpartition(":")
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    who = kind.capitalize()
    module, origin = _load_file(place, who) if is_file else _load_module(place, who)
    classes = [key for key, value in vars(module).items() if isinstance(value, type) and _is_own(value, kind)]
    cls = getattr(module, attribute, None)
    if cls is None:
        hint = did_you_mean(attribute, classes) or f" It has no class derived from deattrib.{who}."
        raise PluginError(f"{who} {reference!r}: {getattr(module, '__file__', place)} has no {attribute!r}.{hint}")
    try:
        check_class(cls, kind)
    except PluginError as error:
        raise PluginError(f"{who} {reference!r} ({getattr(module, '__file__', place)}): {error}") from None
    return cls, origin


def _is_own(value: type[Any], kind: str) -> bool:
    if kind == "scorer":
        return issubclass(value, Scorer) and value is not Scorer
    return isinstance(getattr(value, "name", None), str)


def _load_file(place: str, who: str) -> tuple[ModuleType, Origin]:
    try:
        path = Path(place).expanduser().resolve()
        there = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a NUL, a name that is too long
        raise PluginError(f"{who} file {place!r} is no path: {error} Give the path of a file as FILE.py:Class.") from error
    if not there:
        folder = path.parent
        near = [item.name for item in folder.glob("*.py")] if folder.is_dir() else []
        raise PluginError(f"{who} file {path} {'is a folder' if path.is_dir() else 'does not exist'}."
                          f"{did_you_mean(path.name, near)}")  # fmt: skip
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    # The name follows from place and content: the same file gives the same class, an edited one a new class.
    name = f"deattrib_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{digest}"
    origin = Origin(str(path), f"sha256:{digest}")
    if name in sys.modules:
        return sys.modules[name], origin
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{who} file {path} is not a Python file: expected a name that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pydantic look their module up
    loader = spec.loader
    try:
        _run(f"{who} file {path}", lambda: loader.exec_module(module))
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module, origin


def _load_module(place: str, who: str) -> tuple[ModuleType, Origin]:
    try:
        found = importlib.util.find_spec(place)
    except ModuleNotFoundError:
        found = None
    except (ImportError, ValueError) as error:
        raise PluginError(f"{who} module {place!r} cannot be found: {describe(error)}") from error
    except Exception as error:  # a parent package that fails while it is imported
        raise PluginError(f"{who} module {place!r} cannot be imported: {describe(error)}") from error
    if found is None:
        raise PluginError(f"There is no module {place!r}. Install its distribution, or name a file: ./{place}.py:Class")
    module = _run(f"{who} module {place!r}", lambda: importlib.import_module(place))
    return module, origin_of_module(module)


def origin_of_module(module: ModuleType | None) -> Origin:
    """The distribution a module belongs to; its own name and digest if to none."""
    if module is None:
        return Origin("unknown module")
    owners = metadata.packages_distributions().get(module.__name__.split(".")[0], [])
    if owners:
        return Origin(owners[0], metadata.version(owners[0]))
    path = getattr(module, "__file__", None)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12] if path and Path(path).is_file() else ""
    return Origin(module.__name__, f"sha256:{digest}" if digest else "")


def _run(what: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what} cannot be imported: {describe(error)}") from error


# -- what a plugin brings ----------------------------------------------------------------------------------------------
def classes_from(hook: str, returned: Any) -> list[type[Any]]:
    """The checked classes that a registration hook returned. Raises PluginError without saying who."""
    if isinstance(returned, str | bytes | type) or not isinstance(returned, Iterable):
        raise PluginError(f"hook {hook}() returned {returned!r}: expected a list of classes.")
    classes = list(returned)
    for cls in classes:
        check_class(cls, KINDS[hook])
    names = [cls.name for cls in classes]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise PluginError(f"hook {hook}() brings the {KINDS[hook]} name {double[0]!r} twice.")
    return classes
