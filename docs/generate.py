"""Write what the code says into the docs (`make docs`); a test fails while a page says anything else.

Whole pages: settings.md, commands.md, hooks.md, python.md, catalogue.md and all in catalogue/, one for each plugin that comes
with the library; a page there of one that is gone is deleted. Between two marks: the contract of scorers in plugins.md and
the public names in api.md. With --readme RUN the table in README.md is made anew from a finished run of the demo.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel
from typer.models import ArgumentInfo

DOCS = Path(__file__).parent
if str(DOCS) not in sys.path:
    sys.path.append(str(DOCS))

import catalogue_pages  # noqa: E402
import python_names  # noqa: E402
from page_parts import head, kind_of, line, paragraphs, with_range  # noqa: E402

PARTS = {"plugins.md": "contract", "api.md": "names"}


# -- settings -----------------------------------------------------------------------------------------------------------
def sections(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """One table per settings class, the nested ones after it."""
    rows, nested = [], []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            nested.append((kind, f"{path}{name}."))
            continue
        rows.append(line(f"`{path}{name}`", with_range(field), f"`{field.default!r}`", field.description or ""))
    title = path.rstrip(".") or "top level"
    table = "\n".join(["| setting | type | default | |", "|---|---|---|---|", *rows]) if rows else ""
    yield f"## {title}\n{paragraphs(model.__doc__).splitlines()[0]}\n\n{table}\n"
    for kind, prefix in nested:
        yield from sections(kind, prefix)


def settings() -> str:
    from deattrib import RunConfig

    text = "A config file is this tree; `--set a.b=c` sets one of them."
    return "\n".join([head("Settings", text), *sections(RunConfig)])


# -- commands -----------------------------------------------------------------------------------------------------------
def command(name: str, function: Any) -> Iterator[str]:
    """One command: what it does, its arguments and options."""
    hints = get_type_hints(function, include_extras=True)
    words, rows = [f"deattrib {name}"], []
    for parameter in inspect.signature(function).parameters.values():
        if not hasattr(hints[parameter.name], "__metadata__"):
            continue  # the call itself (typer.Context), which nobody types
        kind, info = hints[parameter.name].__origin__, hints[parameter.name].__metadata__[0]
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            word = info.metavar or parameter.name.upper()
            words.append(word if required else f"[{word}]")
            shown = f"`{word}`"
        else:
            given = (info.default, *(info.param_decls or ()))  # with Annotated the first one lands in the default's place
            names = [name for name in given if isinstance(name, str)] or [f"--{parameter.name.replace('_', '-')}"]
            shown = ", ".join(f"`{name}`" for name in names)
        takes = "–" if kind is bool else f"`{info.metavar}`" if info.metavar else kind_of(kind).replace(" | None", "")
        default = "required" if required else "–" if parameter.default in (None, False, "") else f"`{parameter.default}`"
        rows.append(line(shown, takes, default, info.help or ""))
    yield f"## {name}\n{paragraphs(function.__doc__)}\n\n```text\n{' '.join(words)} [options]\n```\n"
    yield "\n".join(["| | takes | default | |", "|---|---|---|---|", *rows, ""])


def commands() -> str:
    from deattrib.cli.main import app

    text = (
        "Exit codes: 0 done; 1 an error that the message explains, a wrong setting or file too; 2 a command line that "
        "cannot be understood (an unknown option, or a value that it does not take); 130 Ctrl-C; 143 SIGTERM."
    )
    lines = [head("Commands", text), "`deattrib --version` prints the version.\n"]
    for entry in app.registered_commands:
        assert entry.callback is not None
        lines += command(entry.name or entry.callback.__name__.replace("_", "-"), entry.callback)
    return "\n".join(lines)


# -- hooks --------------------------------------------------------------------------------------------------------------
def hook(name: str, function: Any) -> Iterator[str]:
    """One hook: signature, what it is for, its arguments."""
    signature = inspect.signature(function)
    arguments = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    shown = ", ".join(f"{parameter.name}: {parameter.annotation}" for parameter in arguments)
    text = paragraphs(function.__doc__)
    yield f"## {name}\n```text\n{name}({shown}) -> {signature.return_annotation}\n```"
    yield text.split("\n:", 1)[0].rstrip() + "\n"
    for label, said in re.findall(r"^:(param \w+|returns): (.*?)(?=^:|\Z)", text, re.MULTILINE | re.DOTALL):
        yield f"- {label.replace('param ', '`') + '`' if label.startswith('param') else label}: {' '.join(said.split())}"
    yield ""


def hooks() -> str:
    from deattrib import AttributionReward

    text = "All are optional; an implementation is a function marked with `deattrib.hookimpl`, see [plugins.md](plugins.md)."
    lines = [head("Hooks", text), paragraphs(inspect.getmodule(AttributionReward).__doc__).split("\n", 2)[2] + "\n"]
    for name, function in vars(AttributionReward).items():
        if not name.startswith("_"):
            lines += hook(name, function)
    return "\n".join(lines)


# -- Python -------------------------------------------------------------------------------------------------------------
def python() -> str:
    """Every public name with its signature and docstring."""
    text = "What `from deattrib import NAME` gives; [api.md](api.md) says what of it may be relied on."
    return re.sub(r"\n{3,}", "\n\n", "\n".join([head("Python", text), *python_names.names()]))


# -- parts of pages -------------------------------------------------------------------------------------------------------
def contract() -> str:
    """The contract of scorers as a table: every check and what it demands."""
    from deattrib.testing import CHECKS

    return "\n".join(["| check | |", "|---|---|", *(f"| `{check.name}` | {check.demands} |" for check in CHECKS)])


def names() -> str:
    """The public names with the first sentence of each."""
    import deattrib

    rows = []
    for name in deattrib.__all__:
        about = inspect.getdoc(getattr(deattrib, name)) or ""
        summary = "The version." if name == "__version__" else about.split("\n\n")[0]
        rows.append(line(f"`{name}`", summary))
    return "\n".join(["| name | |", "|---|---|", *rows])


def with_part(page: str, part: str, content: str) -> str:
    """A page with the content put between the marks of one part. Raises ValueError where it lacks them."""
    found = re.search(rf"(<!-- {part}: [^\n]*-->\n)(.*?)(<!-- end of {part} -->)", page, re.DOTALL)
    if found is None:
        raise ValueError(f"the page lacks its marks: <!-- {part}: ... --> and <!-- end of {part} -->")
    return f"{page[: found.start()]}{found[1]}{content}\n{found[3]}{page[found.end() :]}"


def with_table(readme: str, metrics: dict[str, Any]) -> str:
    """README.md with the table of `deattrib demo` made from a run's metrics, without the sentence below it."""
    from deattrib.cli.show import table

    lines = table(metrics).strip("\n").split("\n\n")[0]
    return re.sub(r"(?<=\n```\n)( +original +.*?)\n(?=```)", lambda _: lines + "\n", readme, count=1, flags=re.DOTALL)


def pages() -> dict[str, str]:
    """Name of a page -> its text as it ought to be."""
    made = {"settings.md": settings(), "commands.md": commands(), "hooks.md": hooks(), "python.md": python()}
    made |= catalogue_pages.pages()
    parts = {"contract": contract, "names": names}
    for name, part in PARTS.items():
        made[name] = with_part((DOCS / name).read_text(encoding="utf-8"), part, parts[part]())
    return made


def write(folder: Path, made: dict[str, str]) -> None:
    """Write the pages into the folder, and delete those in its catalogue/ that are none of them."""
    for path in (folder / "catalogue").rglob("*.md"):
        if path.relative_to(folder).as_posix() not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def main() -> None:
    """Write the pages beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, metavar="RUN", help="folder of the demo's run whose table README shall show")
    run = parser.parse_args().readme
    if run is not None:
        readme, metrics = DOCS.parent / "README.md", json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        readme.write_text(with_table(readme.read_text(encoding="utf-8"), metrics), encoding="utf-8")
    made = pages()
    write(DOCS, made)
    apart = [name for name in made if "/" in name]
    print(f"wrote {', '.join(name for name in made if name not in apart)} and {len(apart)} pages in catalogue/")


if __name__ == "__main__":
    main()
