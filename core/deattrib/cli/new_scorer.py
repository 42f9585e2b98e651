"""`deattrib new-scorer`: a distribution of one's own around one scorer, complete and working.

The files lie beside this one as package data; `@word@` in them is filled in. What comes out installs, keeps the contract
and serves as a reward at once; its scorer is small enough to be replaced as a whole.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
LONGEST = 40
# template -> where it goes
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "scorer.py.txt": "@module@.py",
    "test_scorer.py.txt": "tests/test_@module@.py",
    "README.md.txt": "README.md",
    "ci.yml.txt": ".github/workflows/tests.yml",
}


def new_scorer(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What runs will call it, such as ngram-overlap.")],
    output: Annotated[Path, typer.Option(help="The folder to make the distribution's folder in.")] = Path("."),
) -> None:
    """Write a distribution with a scorer of your own: plugin, contract tests, README and CI."""
    check_name(name)
    folder = write(name, output)
    typer.echo(f"wrote {folder}: {', '.join(sorted(_fill(target, words_of(name)) for target in FILES.values()))}\n")
    typer.echo("next:")
    typer.echo(f"  cd {folder}")
    typer.echo('  pip install -e ".[test]"')
    typer.echo(f"  deattrib check {name} && pytest")
    typer.echo(f"  deattrib demo --reward {name}")


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` is well formed, and nothing installed is called that."""
    from importlib import metadata
    from importlib.util import find_spec

    from deattrib.attribution.plugins import PluginRegistry
    from deattrib.errors import ConfigError

    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise ConfigError(
            f"A scorer cannot be called {name!r}: expected lower-case letters and digits, a letter first, words joined by "
            f'"-" or "_", {LONGEST} characters at most, such as ngram-overlap.'
        )
    words = words_of(name)
    for entry in PluginRegistry().listing():
        if name in (entry["name"], entry["entry_point"]):
            origin = " ".join(part for part in (entry["distribution"], entry["version"]) if part)
            raise ConfigError(f"There is a {entry['kind']} {name!r} already, from {origin}. Choose another name.")
    if words["distribution"] in {_canonical(item.metadata["Name"] or "") for item in metadata.distributions()}:
        raise ConfigError(f"The distribution {words['distribution']!r} is installed already. Choose another name.")
    if find_spec(words["module"]) is not None:
        raise ConfigError(f"There is a module {words['module']!r} on the path already. Choose another name.")


def words_of(name: str) -> dict[str, str]:
    """What the templates are filled with."""
    from importlib import metadata

    camel = "".join(part.capitalize() for part in re.split("[-_]", name))
    try:
        needs = f"deattrib>={metadata.version('deattrib')}"
    except metadata.PackageNotFoundError:  # run from a source tree
        needs = "deattrib"
    return {
        "name": name,
        "distribution": f"deattrib-{name.replace('_', '-')}",
        "module": f"deattrib_{name.replace('-', '_')}",
        # Never the bare word: `Scorer`, `Rows` and `None` are taken.
        "class": camel if camel.endswith("Scorer") and camel != "Scorer" else f"{camel}Scorer",
        "deattrib": needs,
    }


def write(name: str, output: Path) -> Path:
    """Write the distribution into a new folder of `output` and return it; a failure leaves nothing behind.

    Raises ConfigError where the folder is there already, or cannot be made.
    """
    import shutil
    import tempfile
    from importlib import resources

    from deattrib.errors import ConfigError

    words = words_of(name)
    folder = output / words["distribution"]
    if folder.exists() or folder.is_symlink():
        raise ConfigError(f"{folder} exists already. Choose another --output, or remove it.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".new-scorer-", dir=output))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error}") from error
    try:
        inside = staging / folder.name
        for template, place in FILES.items():
            target = inside / _fill(place, words)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = resources.files("deattrib.cli").joinpath("new_scorer_files", template).read_text(encoding="utf-8")
            target.write_text(_fill(text, words), encoding="utf-8")
        inside.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _fill(text: str, words: dict[str, str]) -> str:
    return re.sub("@([a-z]+)@", lambda match: words[match[1]], text)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
