"""`deattrib`: the commands, and what their errors look like."""

from __future__ import annotations

import io
import sys
import time
import warnings
from typing import Annotated, NoReturn

import typer

from deattrib.cli.attack import attack
from deattrib.cli.audit import audit
from deattrib.cli.check import check
from deattrib.cli.compare import compare
from deattrib.cli.convert import convert
from deattrib.cli.demo import demo
from deattrib.cli.doctor import doctor
from deattrib.cli.evaluate import evaluate
from deattrib.cli.new_scorer import new_scorer
from deattrib.cli.plugins import plugins
from deattrib.cli.run import run
from deattrib.cli.score import score
from deattrib.cli.tune import tune
from deattrib.errors import ConfigError, DeattribError
from deattrib.models.launched import leads_in_environment, several_in_environment

SEVERAL = ("run", "demo", None)  # what several processes that a launcher has started can do together

app = typer.Typer(
    name="deattrib",
    help="Unlearning of language models by PPO on pluggable attribution rewards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(run)
app.command()(evaluate)
app.command()(compare)
app.command()(tune)
app.command()(audit)
app.command()(attack)
app.command()(plugins)
app.command()(score)
app.command()(convert)
app.command()(check)
app.command()(new_scorer)
app.command()(doctor)


def _version(value: bool) -> None:
    if value:
        import deattrib

        typer.echo(deattrib.__version__)
        raise typer.Exit()


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Unlearning of language models by PPO on pluggable attribution rewards."""
    if context.invoked_subcommand not in SEVERAL and several_in_environment() > 1:
        raise ConfigError(
            f"`deattrib {context.invoked_subcommand}` is one process, and a launcher has started {several_in_environment()} of "
            "them: start it without torchrun. One run over several processes is `torchrun ... -m deattrib run`."
        )


def _end(message: str, speaks: bool) -> NoReturn:
    """Of several processes one says why; the launcher ends it as soon as another one has ended."""
    if speaks:
        typer.echo(message, err=True)
    else:
        time.sleep(2.0)
    sys.exit(1)


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 an error that was explained, 2 a wrong command line, 130 by Ctrl-C, 143 by SIGTERM."""
    speaks = leads_in_environment()
    if not sys.warnoptions:  # Python hides them: they are meant for the caller, and that is whoever typed the command
        warnings.filterwarnings("default", message="deattrib: ", category=DeprecationWarning)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a letter is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except DeattribError as error:
        _end(f"error: {error}", speaks)
    except OSError as error:
        if error.filename is None:
            raise
        _end(f"error: {error.filename}: {error.strerror}", speaks)
