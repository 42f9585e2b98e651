"""Every code block of README and docs runs, or is at least what the program it is for would accept."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
import tomllib
from typing import Any

import pytest
import typer
from tests.docs.fences import BLOCKS, PAGES, ROOT, Block

from deattrib import CalibrationSettings, PluginRegistry, RunConfig, build_config
from deattrib.cli.main import app
from deattrib.testing import World
from deattrib.yaml_file import parse_yaml

KNOWN = {"sh", "python", "yaml", "toml", "json", "text", ""}
OPTIONS = {  # option -> the kind of thing that it names, or several of it
    "--reward": "scorer", "--rewards": "scorer", "--scorer": "scorer", "--scorers": "scorer", "--attribution": "scorer",
    "--method": "method", "--methods": "method", "--metrics": "metric", "--attacks": "attack",
}  # fmt: skip
SMALL: dict[str, Any] = {  # what `run with` marks put in: seconds become moments
    "ppo": {"steps": 1, "batch_size": 4, "minibatch_size": 4, "epochs": 1, "max_new_tokens": 12, "retain": {"batch_size": 4}},
    "calibration": {"rows": 16, "max_new_tokens": 12, "noise_floor": 1.0},
}
WORDS = {"all", "none", "dareu"}
GROUP: Any = typer.main.get_command(app)
REGISTRY = PluginRegistry()


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def test_blocks_are_found_and_in_known_languages() -> None:
    assert len(BLOCKS) > 40 and {block.language for block in BLOCKS} <= KNOWN
    assert all(path.read_text(encoding="utf-8").count("\n```") % 2 == 0 for path in PAGES)


# -- console ------------------------------------------------------------------------------------------------------------
def command_lines(block: Block) -> list[list[str]]:
    """The commands of a shell block, each as its words, without comments and shell syntax; a variable counts as 1."""
    found = []
    for line in block.tested.replace("\\\n", " ").splitlines():
        words = shlex.shlex(re.sub(r"\$\w+", "1", line), posix=True, punctuation_chars=";&|")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if re.fullmatch(r"[;&|]+", word):
                found += [command] if command else []
                command = []
            elif word not in ("do", "done", "then") and not (not command and re.fullmatch(r"[A-Z_]+=\S*", word)):
                command.append(word)
    return [command for command in found if command[0] != "for"]


LINES = [
    pytest.param(block, words, id=f"{block}-{' '.join(words)[:60]}") for block in of("sh") for words in command_lines(block)
]


def check_deattrib(words: list[str], registry: PluginRegistry) -> None:
    """A command line of deattrib: its options exist, its values convert, its names are installed, its settings are known."""
    if words == ["--version"]:
        return
    command = GROUP.commands[words[0]]
    command.make_context(words[0], list(words[1:]))  # raises where typer would refuse
    for option, value in itertools.pairwise(words):
        if option in OPTIONS:
            for name in value.split(","):
                name = name.split(":")[0]
                if not name.endswith(".py") and name not in WORDS and not re.fullmatch(r"my-.*|1", name):
                    getattr(registry, OPTIONS[option])(name)
        if option == "--set":
            key, _, given = value.partition("=")
            file = ROOT / words[1] if words[0] == "run" and (ROOT / words[1]).is_file() else None
            build_config(path=file, overrides=[value] if given != "..." and "[" not in given else [])
            assert known_setting(RunConfig, key.split(".")), f"no setting {key}"


def known_setting(model: Any, keys: list[str]) -> bool:
    """Whether a dotted name is a setting; what is inside a plugin's own mapping is the plugin's."""
    if keys[0] not in model.model_fields:
        return False
    kind = model.model_fields[keys[0]].annotation
    return len(keys) == 1 or not hasattr(kind, "model_fields") or known_setting(kind, keys[1:])


@pytest.mark.parametrize(("block", "words"), LINES)
def test_a_command_line_is_one(block: Block, words: list[str]) -> None:
    program, *rest = words
    if program == "deattrib":
        if rest[-1:] != ["..."] and rest != []:
            check_deattrib(rest, REGISTRY)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.M), f"make has no target {rest[0]}"
    elif program == "python" and rest[0] != "-m":
        assert (ROOT / rest[0]).is_file(), f"there is no {rest[0]}"
    elif program == "python" and rest[1] == "tests.public_api":
        assert (ROOT / "tests/public_api.py").is_file()
    elif program == "pip":
        named = re.findall(r"\[([\w,]+)\]", " ".join(rest))
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert rest[0] == "install" and {extra for part in named for extra in part.split(",")} <= set(extras) | {"test"}
    else:
        assert program in {"cd", "pytest", "...", "git", "torchrun", "hf", "wait"}, f"what is {program!r}?"


@pytest.mark.parametrize("line", ["deattrib demo --rewrad none", "deattrib dmo", "deattrib run a.yaml --set ppo.stps=3",
                                  "deattrib demo --reward clasifier", "deattrib demo --seed x"])  # fmt: skip
def test_a_wrong_command_line_is_caught(line: str) -> None:
    (words,) = command_lines(Block("x", 1, "sh", line + "  # a comment\n"))
    with pytest.raises(Exception) as caught:  # which one depends on the version of typer: see below
        test_a_command_line_is_one(Block("x", 1, "sh", line), words)
    kinds = {"NoSuchOption", "NoSuchCommand", "BadParameter", "KeyError", "ConfigError", "PluginError"}
    assert type(caught.value).__name__ in kinds


# -- settings and other files -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_a_config_is_valid(block: Block) -> None:
    for part in block.tested.split("\n---\n"):
        assert build_config(data=parse_yaml(part, source=str(block)))


@pytest.mark.parametrize("block", of("toml", "json"), ids=str)
def test_a_data_file_parses(block: Block) -> None:
    assert tomllib.loads(block.text) if block.language == "toml" else json.loads(block.text)


# -- Python -----------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def given(contract_world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a reader has at hand: a corpus with ada and bo in it, as object and as file, a model that knows it, and a folder."""
    import dataclasses

    folder = tmp_path_factory.mktemp("reader")
    world, names = contract_world, dict(zip(contract_world.corpus.owners, ("cyd", "dov", "bo", "ada"), strict=True))

    def renamed(rows: Any) -> Any:
        return tuple(dataclasses.replace(row, owner=names.get(row.owner, row.owner)) for row in rows)

    corpus = dataclasses.replace(
        world.corpus, train=renamed(world.corpus.train), phrasings=renamed(world.corpus.phrasings), forget_owners=("ada",),
        identities={names[owner]: texts for owner, texts in world.corpus.identities.items() if owner in names},
    )  # fmt: skip
    with (folder / "rows.jsonl").open("w") as file:
        for row in corpus.train:
            identity = list(corpus.identities[row.owner])
            line = {"owner": row.owner, "prompt": row.prompt, "response": row.response, "identity": identity}
            file.write(json.dumps(line) + "\n")
    return {"corpus": corpus, "world": world, "folder": folder}


@pytest.mark.parametrize("page", sorted({block.page for block in of("python")}))
def test_python_runs(page: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page one after the other, in one namespace, as somebody who reads along would type them."""
    from deattrib import Scorer

    monkeypatch.chdir(given["folder"])
    world = given["world"]
    overlap = type("MyOverlap", (Scorer,), {"name": "my-overlap", "score": share_of_words, "fit": remember_words})
    names: dict[str, Any] = {
        "corpus": given["corpus"],
        "model": world.original.clone().requires_grad_(True),
        "tokenizer": world.codec.tokenizer,
    }
    names |= {
        "MyOverlap": overlap,
        "__name__": "my_module",
        "SMALL": SMALL,
        "SCALE": CalibrationSettings(**SMALL["calibration"]),
    }
    run = 0
    for block in of("python"):
        if block.page == page and not block.reason:
            code = compile(block.tested, str(ROOT / page), "exec")
            exec(code, names)
            run += 1
    assert run or all(block.reason for block in of("python") if block.page == page)


def remember_words(self: Any, context: Any) -> None:
    self.words = {owner: set(" ".join(texts).split()) for owner, texts in context.texts_by_owner.items()}


def share_of_words(self: Any, rows: Any) -> list[float]:
    return [len(self.words[row.owner] & set(row.response.split())) / max(len(row.response.split()), 1) for row in rows]


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_is_whole_and_says_why_it_does_not_run(block: Block) -> None:
    ast.parse(block.tested)
    assert not block.reason or len(block.reason) > 15
