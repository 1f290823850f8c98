"""`who-uses`, `deprecate`, `retire`, `purge`, `status`: the life of a release after it was the newest."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import note, say, say_json
from star_platform.errors import UsageError

if TYPE_CHECKING:
    from star_platform.lifecycle.service import Lifecycle

Name = Annotated[str, typer.Argument(metavar="RELEASE", help="A release such as `r2`.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the event.")]
Force = Annotated[bool, typer.Option("--force", help="Even if somebody is cut off; needs --reason, and is an event.")]


def who_uses(name: Name, as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """Show who reads a release: declared, observed, where the two disagree, and who could be served by a map.

    Example: star-platform who-uses r2
    """
    from star_platform.cli.lifecycle_text import who_uses_text
    from star_platform.lifecycle.report import who_uses_json

    life, number = _open(project), _number(name)
    found = life.who_uses(number)
    for warning in found.warnings:
        note(f"warning: {warning}")
    if as_json:
        say_json(who_uses_json(found))
    else:
        say(who_uses_text(found))


def deprecate(
    name: Name,
    sunset: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Its last day; `lifecycle.notice_days` from now if absent.")
    ] = None,
    successor: Annotated[str | None, typer.Option(help="What to read instead; the active release if absent.")] = None,
    reason: Reason = "",
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Give a release its last day and a successor, and tell everybody who reads it.

    Example: star-platform deprecate r2 --sunset 2027-01-31 --successor r4
    """
    from star_platform.project import actor

    day = _day(sunset)
    life, number = _open(project), _number(name)
    follower = _number(successor) if successor is not None else None
    done = life.deprecate(number, actor=actor(), reason=reason, sunset=day, successor=follower)
    if as_json:
        say_json({"release": name, "sunset": done.sunset.isoformat(), "successor": f"r{done.successor}"})
    else:
        say(f"{name} is deprecated: read it until {done.sunset}, then r{done.successor}.")
        note(f"Next: star-platform who-uses {name}")


def retire(
    name: Name,
    materialise: Annotated[
        bool, typer.Option("--materialise", help="Also write the mapped vectors, for clients without our store.")
    ] = False,
    force: Force = False,
    reason: Reason = "",
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Let a map answer for a release; refused (exit 5) while somebody cannot be served by one.

    Example: star-platform retire r2 --materialise
    """
    from star_platform.cli.lifecycle_text import retired_json, retired_text
    from star_platform.project import actor

    life, number = _open(project, long=True), _number(name)
    done = life.retire(
        number, actor=actor(), reason=reason, materialise=materialise, force_reason=reason if force else None
    )
    if as_json:
        say_json(retired_json(done))
    else:
        say(retired_text(done))
        note(f"Next: star-platform purge {name} --dry-run")


def purge(
    name: Name,
    rate: Annotated[int | None, typer.Option(min=1, help="At most this many rows per second.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and how long it would take.")] = False,
    force: Force = False,
    reason: Reason = "",
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Remove the vectors of a retired release from all stores; run it again to go on after an interruption.

    Example: star-platform purge r1 --rate 20000
    """
    from star_platform.cli.lifecycle_text import purged_json, purged_text
    from star_platform.project import actor

    life, number = _open(project, long=True), _number(name)
    done = life.purge(
        number,
        actor=actor(),
        reason=reason,
        rate=rate,
        dry_run=dry_run,
        force_reason=reason if force else None,
    )
    if as_json:
        say_json(purged_json(done))
    else:
        say(purged_text(done))


def status(as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """Show where every release is in its life, who holds it there, and what is due.

    Example: star-platform status --json
    """
    from star_platform.cli.lifecycle_text import status_text
    from star_platform.lifecycle.status import status_json

    found = _open(project).status()
    for warning in found.warnings:
        note(f"warning: {warning}")
    if as_json:
        say_json(status_json(found))
        return
    say(status_text(found))
    if not found.lines:
        note("Next: star-platform plan")


def _open(project: Path | None, *, long: bool = False) -> Lifecycle:
    """The lifecycle of the project; `long` work shows how far it is."""
    from star_platform.cli.console import open_progress
    from star_platform.progress import SILENT
    from star_platform.project import Project
    from star_platform.project.life import open_lifecycle

    return open_lifecycle(Project.open(project), open_progress() if long else SILENT)


def _number(name: str) -> int:
    from star_platform.registry.registry import release_number

    return release_number(name)


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError("U015", f"{text!r} is not a day", hint="write year-month-day, such as 2027-01-31") from None
