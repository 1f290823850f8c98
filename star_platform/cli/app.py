"""The command line: registers the verbs, and turns errors into exit codes (DESIGN 4.8).

Importing this must stay light: every verb imports what it runs on inside its function.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from star_platform import __version__
from star_platform.cli.branches import explain, fmt, validate
from star_platform.cli.demo import demo
from star_platform.cli.doctor import doctor
from star_platform.cli.init import init
from star_platform.cli.lifecycle import deprecate, purge, retire, status, who_uses
from star_platform.cli.output import note, say, say_json, wants_colour
from star_platform.cli.reading import fetch
from star_platform.cli.refresh import refresh
from star_platform.cli.releasing import activate, plan, release, releases
from star_platform.cli.search import index, search
from star_platform.cli.show import show
from star_platform.cli.text import app as text
from star_platform.cli.training import train
from star_platform.cli.upgrade import upgrade
from star_platform.errors import ExitCode, StarError

PROGRAM = "star-platform"
EXIT_CODES = (
    "Exit codes: 0 ok · 1 failure · 2 changes pending (only with --detailed-exitcode) · 3 merge conflict · "
    "4 gate failed · 5 blocked by consumers · 6 lease held or base moved (retry is safe) · 64 usage"
)

app = typer.Typer(
    name=PROGRAM,
    help="Declare graph signals once, release versioned embeddings, read them through Feast.",
    epilog=EXIT_CODES,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - the callback acts on it
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an unexpected failure.")] = False,
) -> None:
    if debug:
        os.environ["STAR_DEBUG"] = "1"
    if context.invoked_subcommand is None:
        say(context.get_help())


BUILDING = (init, validate, fmt, plan, train, release, refresh, releases, show, activate, fetch, search, index)
ENDING = (status, who_uses, deprecate, retire, purge)
HELPING = (explain, upgrade, doctor, demo)
for verb in (*BUILDING, *ENDING, *HELPING):
    app.command(epilog=EXIT_CODES)(verb)
app.add_typer(text, name="text")


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: runs a verb and returns what the shell is told."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # see gnn.runtime; torch looks once, at its first tensor
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = typer.main.get_command(app).main(args=given, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except StarError as error:
        _report(error, given)
        return int(error.exit_code)
    except typer.Abort:
        note("stopped")
        return int(ExitCode.FAILURE)
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the interpreter's last flush finds a reader
        return int(ExitCode.FAILURE)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "show"):
            error.show()  # the command line itself is wrong: click's exit code for that is 2, ours 64
            return int(ExitCode.USAGE)
        return _crash(error)
    return code if isinstance(code, int) else int(ExitCode.OK)


def _report(error: StarError, given: Sequence[str]) -> None:
    from star_platform.cli.render import Paint, error_json, render_error

    if "--json" in given:
        say_json(error_json(error))
    else:
        note(render_error(error, Paint(wants_colour(sys.stderr)), _project_folder(given)))


def _project_folder(given: Sequence[str]) -> Path | None:
    """The project that a verb was about, to look lines of its files up."""
    from star_platform.project import find_project

    named = [value for option, value in pairwise(given) if option in ("--project", "-p")]
    try:
        return find_project(Path(named[-1]) if named else None)
    except StarError:
        return None


def _crash(error: Exception) -> int:
    """An unexpected failure: one line for the reader, the traceback to a file."""
    import tempfile
    import traceback
    from datetime import UTC, datetime

    trace = "".join(traceback.format_exception(error))
    if os.environ.get("STAR_DEBUG"):
        note(trace)
        return int(ExitCode.FAILURE)
    folder = Path(".star") if Path(".star").is_dir() else Path(tempfile.gettempdir())
    log = folder / f"{PROGRAM}-crash-{os.getpid()}.log"
    log.write_text(f"{datetime.now(UTC).isoformat()} {PROGRAM} {__version__}\n{trace}", encoding="utf-8")
    note(f"error: an unexpected failure, {type(error).__name__}: {error}")
    note(f"  = the traceback is in {log}; `{PROGRAM} --debug ...` prints it")
    return int(ExitCode.FAILURE)


if __name__ == "__main__":
    sys.exit(main())
