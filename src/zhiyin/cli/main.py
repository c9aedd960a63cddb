"""The command `zhiyin`."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings

import typer
from rich.console import Console
from rich.markup import escape

from zhiyin import __version__
from zhiyin.cli.demo import demo
from zhiyin.cli.doctor import doctor
from zhiyin.cli.inspecting import check, recipes
from zhiyin.cli.keys import audit, keys
from zhiyin.cli.language import finetune, pretrain
from zhiyin.cli.learning import evaluate, train
from zhiyin.cli.loop import loop, publish, rollback
from zhiyin.cli.serving import recommend, serve
from zhiyin.cli.terminal import ERR
from zhiyin.cli.trials import experiments
from zhiyin.cli.tuning import compare, tune
from zhiyin.domain.errors import ZhiyinError
from zhiyin.domain.processes import is_first_process, n_processes

_SHOW_TRACEBACK = "ZHIYIN_TRACEBACK"
_SECONDS_FOR_THE_FIRST = 2.0
_STOPPED_BY_HAND = 130
"""128 and the number of SIGINT, as shells have it."""

app = typer.Typer(
    help="Zhiyin 知音: a recommender engine built around language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (demo, check, train, evaluate, tune, compare, pretrain, finetune, recommend, serve):
    app.command()(command)
for command_of_service in (publish, rollback, loop, recipes, doctor):
    app.command()(command_of_service)
app.add_typer(experiments, name="experiments")
app.command()(audit)
app.add_typer(keys, name="keys")


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    """A recommender engine built around language models."""
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run a command; what the user can mend is said in words, never as a traceback."""
    warnings.filterwarnings("ignore", category=UserWarning, module="torch|lightning")
    for noisy in ("lightning", "sentence_transformers", "transformers", "httpx"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        app()
    except ZhiyinError as error:
        _fail(str(error))
    except (KeyboardInterrupt, SystemExit) as end:
        interrupt = _interrupt_behind(end)
        if interrupt is None:
            raise
        if is_first_process():
            ERR.print(f"\n{str(interrupt) or 'Stopped.'}", highlight=False, markup=False)
        sys.exit(_STOPPED_BY_HAND)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if os.environ.get(_SHOW_TRACEBACK):
            raise
        _fail(
            f"Something went wrong that should not have: {type(error).__name__}: {error}\n"
            f"This is a fault in Zhiyin. Run it again with {_SHOW_TRACEBACK}=1 and report what it shows."
        )


def _interrupt_behind(end: BaseException | None) -> KeyboardInterrupt | None:
    """Return what a user stopped a command with: typer makes a silent exit of it."""
    if isinstance(end, SystemExit) and end.code != _STOPPED_BY_HAND:
        return None
    while end is not None and not isinstance(end, KeyboardInterrupt):
        end = end.__cause__ or end.__context__
    return end


def _fail(message: str) -> None:
    if not is_first_process():
        # What ails all is said by the first: torchrun ends the others as soon as one has ended.
        time.sleep(_SECONDS_FOR_THE_FIRST)
        message = f"In a process that is not the first of {n_processes()}: {message}"
    Console(stderr=True).print(f"[bold red]Error:[/bold red] {escape(message)}", highlight=False)
    sys.exit(1)


if __name__ == "__main__":
    main()
