"""The page of Python names, docs/python.md: each public name with signature, docstring and what it can do. See generate.py.

Docstrings are read in the form that this project writes them: a text, then sections (`Args:`, `Returns:`, `Raises:`, ...) of
indented entries `name: what it is`.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

SECTION = re.compile(r"^([A-Z][a-z]+(?: [a-z]+)?):\n(?=    \S)", re.MULTILINE)
ENTRY = re.compile(r"\n(?=    [\w*.]+(?:, [\w*.]+)*: )")
WIDEST = 100


def shown(text: str) -> str:
    """Text as Markdown: signs that mean something there stand for themselves, but for code."""
    parts = re.split(r"(`[^`]*`)", text.replace("``", "`"))
    return "".join(part if part.startswith("`") else re.sub(r"([*<])", r"\\\1", part) for part in parts)


def value_of(default: Any) -> str:
    """A default as people write it; `...` for objects, which have no such form."""
    plain = default is None or isinstance(default, str | int | float | tuple)
    return repr(default) if plain or repr(default).startswith("torch.") else "..."


def signature(name: str, function: Any, *, method: bool = False) -> str:
    """`name(argument: type = default) -> type`, an argument a line where it is long; types as they are written."""
    found = inspect.signature(function)
    words: list[str] = []
    for parameter in list(found.parameters.values())[int(method) :]:
        star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not any(word.startswith("*") for word in words):
            words.append("*")
        kind = f": {parameter.annotation}" if parameter.annotation is not parameter.empty else ""
        default = "" if parameter.default is parameter.empty else f" = {value_of(parameter.default)}"
        words.append(f"{star}{parameter.name}{kind}{default}")
    end = f" -> {found.return_annotation}" if found.return_annotation not in (found.empty, "None", None) else ""
    short = f"{name}({', '.join(words)}){end}"
    return short if len(short) <= WIDEST else f"{name}(\n    " + ",\n    ".join(words) + f",\n){end}"


def body(about: str) -> Iterator[str]:
    """A docstring as Markdown, its sections as lists."""
    first, *others = SECTION.split(about)
    yield shown(first.rstrip()) + "\n"
    for title, text in zip(others[::2], others[1::2], strict=True):
        inside, _, after = re.sub(r"\n(?=\S)", "\0", text, count=1).partition("\0")
        yield f"**{title}**\n"
        for entry in [inside] if title == "Returns" else ENTRY.split(inside):
            name, colon, said = " ".join(entry.split()).partition(": ")
            named = colon and title != "Returns" and re.fullmatch(r"[\w*., ]+", name)
            yield f"- `{name}`: {shown(said)}" if named else f"- {shown(' '.join(entry.split()))}"
        yield "\n" + shown(after.rstrip()) + ("\n" if after.strip() else "")


def members(cls: type[Any]) -> Iterator[str]:
    """Public methods and properties that come from this project, the first paragraph of each."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("deattrib"):
            found |= {name: member for name, member in vars(base).items() if not name.startswith("_")}
    for name, member in sorted(found.items()):
        about = " ".join((inspect.getdoc(getattr(cls, name)) or "").split("\n\n")[0].split())
        if isinstance(member, property | functools.cached_property):
            told = member.fget if isinstance(member, property) else member.func
            about = " ".join((inspect.getdoc(told) or "").split("\n\n")[0].split())
            yield f"- `{name}`: {shown(about)}"
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            function = getattr(member, "__func__", member)
            call = " ".join(signature(name, function, method=not isinstance(member, staticmethod)).split())
            yield f"- `{call.replace('( ', '(').replace(', )', ')').replace(',)', ')')}`: {shown(about)}"


def entry(name: str, value: Any) -> Iterator[str]:
    """One public name."""
    yield f"## {name}"
    about = inspect.getdoc(value) or ""
    if not inspect.isfunction(value) and not isinstance(value, type):
        yield shown(about.split("\n\n")[0]) + "\n"
        return
    settings = isinstance(value, type) and issubclass(value, BaseModel)
    error = isinstance(value, type) and issubclass(value, BaseException)
    if not settings and not error and not getattr(value, "_is_protocol", False):
        yield f"```text\n{signature(name, value)}\n```"
    yield from body(about)
    if settings:
        yield "Its settings: [settings.md](settings.md).\n"
    if isinstance(value, type):
        listed = list(members(value))
        yield "\n".join(["**Methods and properties**\n", *listed, ""] if listed else [])


def names() -> Iterator[str]:
    """Every public name of `deattrib` but the version."""
    import deattrib

    for name in deattrib.__all__:
        if name != "__version__":
            yield from entry(name, getattr(deattrib, name))
