"""`deattrib compare`: rewards, methods and variants by seeds; a table, a page, one score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from deattrib.cli.run import Set, quiet_libraries
from deattrib.cli.specs import parse_spec, split_specs

MOST_SHOWN = 72  # letters of an entry's name
Seeds = Annotated[str, typer.Option(help="Whole numbers separated by commas.")]
Jobs = Annotated[int, typer.Option(min=1, help="Runs at a time.")]
Executor = Annotated[
    str,
    typer.Option(help="processes of one thread each, or jobs of submitit (extra 'sweeps'): slurm, or local on this machine."),
]
ExecutorSet = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of submitit: slurm_partition=gpu, timeout_min=600.")
]


def compare(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A config file, or 'demo'.")] = "demo",
    rewards: Annotated[
        str, typer.Option(help="Scorers for dareu, separated by commas, settings after colons: min-k:share=0.1.")
    ] = "",
    methods: Annotated[str, typer.Option(help="Methods, likewise: npo:beta=0.5,ga. The config's reward judges them.")] = "",
    seeds: Seeds = "0,1,2",
    set_: Set = None,
    variants: Annotated[
        Path | None, typer.Option(help="YAML file, name -> list of overrides: variants of dareu with the first reward.")
    ] = None,
    tuned: Annotated[Path | None, typer.Option(help="Folder of `deattrib tune`: its settings for the methods in it.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder; by default comparisons/NAME. What is there is used.")] = None,
    jobs: Jobs = 1,
    executor: Executor = "processes",
    executor_set: ExecutorSet = None,
    results: Annotated[Path | None, typer.Option(help="Run nothing: read this comparison, or this folder of runs.")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="With --results: print results.csv as a table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json instead of a table.")] = False,
) -> None:
    """Run and compare rewards, methods and variants by one score; finished runs are used again, cut-off ones go on."""
    from deattrib.errors import ConfigError

    if results is not None:
        only_reads(context)
        return show(results, output, as_markdown=as_markdown, as_json=as_json)
    if as_markdown:
        raise ConfigError("--markdown prints what is there already: give --results FOLDER with it.")
    base = settings_of(target, set_ or [])
    quiet_libraries()
    from deattrib.runs.compare import compare as carry_out
    from deattrib.runs.matrix import Matrix, read_variants
    from deattrib.runs.prepare import cache_folder
    from deattrib.runs.tuning import read_tuned, refuse_overlap

    known = read_tuned(tuned) if tuned else {}
    matrix = Matrix(
        base,
        {text: parse_spec(text, option="--rewards") for text in split_specs(rewards)},
        {text: parse_spec(text, option="--methods", kind="a method") for text in split_specs(methods)},
        whole_numbers(seeds, "--seeds"),
        read_variants(variants) if variants else {},
        {name: one.settings for name, one in known.items()},
    )
    if known:
        refuse_overlap(known, [cell.config for cell in matrix.cells()])
    folder = output or default_output(base)
    with told_when_interrupted():
        done = carry_out(
            matrix,
            output=folder,
            cache=cache_folder(),
            jobs=jobs,
            executor=executor_of(executor, executor_set),
            say=lambda text: typer.echo(text, err=True),
        )
    tell(done.content, done.folder, as_json=as_json)
    if all(run["error"] for entry in done.content["entries"] for run in entry["runs"]):
        raise typer.Exit(1)


def default_output(settings: Mapping[str, Any]) -> Path:
    """Where a comparison of a config goes without --output."""
    from deattrib.runs.folder import plain_name

    return Path("comparisons") / plain_name(str(settings.get("name", "run")))


@contextmanager
def told_when_interrupted() -> Iterator[None]:
    """Ctrl-C ends the command with what to do next, and 130."""
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("interrupted; finished runs are kept, the same command goes on with the others", err=True)
        raise typer.Exit(130) from error


def only_reads(context: typer.Context) -> None:
    """Refuses what would be ignored beside --results, where the command line names it. Raises ConfigError."""
    from deattrib.errors import ConfigError

    given = {name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    if idle := given - {"results", "output", "as_markdown", "as_json"}:
        named = ", ".join(sorted(name.strip("_").replace("_", "-") for name in idle))
        raise ConfigError(f"--results runs nothing: leave out {named}.")


def show(folder: Path, output: Path | None, *, as_markdown: bool, as_json: bool) -> None:
    """Read a comparison, or a folder of runs; write its tables and page anew, or print Markdown."""
    from deattrib.compare.markdown import markdown
    from deattrib.compare.table import read_csv
    from deattrib.runs.compare import RESULTS, read_cells, write_comparison

    if as_markdown:
        typer.echo(markdown(read_csv(folder / RESULTS)))
        return
    done = write_comparison(folder.resolve().name, read_cells(folder), output or folder)
    tell(done.content, done.folder, as_json=as_json)


def tell(content: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    """The result in a terminal."""
    if as_json:
        typer.echo((folder / "compare.json").read_text(encoding="utf-8"))
        return
    typer.echo(table(content))
    typer.echo(f"\ncomparison: {folder / 'compare.html'}")


def table(content: Mapping[str, Any]) -> str:
    """One entry a line: medians over seeds."""
    from deattrib.report.text import visible

    widest = min(max((len(entry["name"]) for entry in content["entries"]), default=0), MOST_SHOWN)
    wide = max(widest + 1, 34)
    lines = ["", f"{'':{wide}s}{'score':>8s}{'range':>16s}{'forgotten':>11s}{'kept':>8s}{'fluent':>8s}  "]
    holders = [(name.replace("_", " "), content["references"][name]) for name in ("oracle_second", "original")]
    for name, entry in [*((one["name"], one) for one in content["entries"]), *holders]:
        if not entry:
            continue
        score = entry["score"]
        errors = [run["error"] for run in entry.get("runs", []) if run["error"]]
        note = f"collapsed in {entry['collapsed']}" if entry.get("collapsed") else ""
        if errors:
            note = f"{len(errors)} failed: {errors[0][:80]}  {note}"
        name, note = visible(name, MOST_SHOWN), visible(note, 300)
        if score:
            spread = f"{score['low']:.3f} – {score['high']:.3f}"
            groups = "".join(
                f"{_cell(value):>{width}s}" for value, width in zip(entry["groups"].values(), (11, 8, 8), strict=True)
            )
            lines.append(f"{name:{wide}s}{score['median']:8.3f}{spread:>16s}{groups}  {note}".rstrip())
        else:
            lines.append(f"{name:{wide}s}{'–':>8s}  {note}".rstrip())
    notes = [f"  {visible(str(warning), 300)}" for warning in content["warnings"]]
    return "\n".join([*lines, "", *notes] if notes else lines)


def _cell(found: Mapping[str, float] | None) -> str:
    return f"{found['median']:.3f}" if found else "–"


def settings_of(target: str, overrides: list[str]) -> dict[str, Any]:
    """Settings of a config file or the demo, with overrides over them. Raises ConfigError."""
    from deattrib.runs.config import demo_settings
    from deattrib.runs.overrides import apply_overrides
    from deattrib.yaml_file import load_yaml

    return apply_overrides(demo_settings() if target == "demo" else load_yaml(Path(target)), overrides)


def executor_of(kind: str, settings: list[str] | None) -> Any:
    """`--executor` and `--executor-set` as a `runs.compare.Executor`. Raises ConfigError."""
    from deattrib.runs.compare import Executor
    from deattrib.runs.overrides import parse_override

    return Executor(kind, {".".join(name): value for name, value in map(parse_override, settings or [])})


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """'0,1,2' as numbers, each once. Raises ConfigError."""
    from deattrib.errors import ConfigError

    words = [word.strip() for word in text.split(",") if word.strip()]
    numbers = all(word.isdecimal() and word.isascii() and len(word) <= 19 for word in words)  # Python reads 4300 digits
    if not words or not numbers or len(set(map(int, words))) < len(words):
        shown = repr(text if len(text) <= 80 else text[:77] + "...")
        raise ConfigError(f"{option} {shown}: expected different whole numbers separated by commas, such as 0,1,2.")
    return tuple(map(int, words))
