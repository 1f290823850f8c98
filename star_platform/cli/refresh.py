"""`refresh`: vectors of those that changed since a moment, into the active release."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import note, plural, say, say_json
from star_platform.errors import UsageError

if TYPE_CHECKING:
    from star_platform.release.refresh import Refreshed


def refresh(
    node: Annotated[str, typer.Option("--node", metavar="TYPE", help="The entity node type to refresh.")],
    changed_since: Annotated[
        str,
        typer.Option(
            metavar="MOMENT", help="A day or a moment such as `2026-11-01T08:30`, in UTC unless it says otherwise."
        ),
    ],
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="Also entities with a direct neighbour that is new or changed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compile, count who changed, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, on a terminal either.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept with the event.")] = "",
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Embed entities that are new or changed with the active release's model, and publish only these.

    Example: star-platform refresh --node member --changed-since 2026-11-01T00:00 --dry-run
    """
    from star_platform.cli.console import open_progress
    from star_platform.project import Project
    from star_platform.release.refresh import RefreshWish

    wish = RefreshWish(node, microseconds(changed_since), neighbours)

    def agreed(found: Refreshed) -> bool:
        if dry_run or yes or not sys.stdin.isatty():
            return not dry_run
        note(_found(found))
        return typer.confirm("Embed and publish them?", err=True)

    done = Project.open(project).refresh(wish, agreed=agreed, reason=reason, progress=open_progress())
    if as_json:
        say_json({**done.record(), "release": f"r{done.release}", "dry_run": dry_run})
        return
    say(_found(done))
    if done.done:
        say(_written(done))
    elif dry_run:
        note("Nothing was published. Next: the same without --dry-run")


def microseconds(text: str) -> int:
    """Microseconds since the epoch; raises UsageError U015 for what is no moment."""
    from datetime import UTC, datetime, timedelta

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "U015", f"{text!r} is not a moment", hint="write a day or a moment, such as 2026-11-01 or 2026-11-01T08:30"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _found(found: Refreshed) -> str:
    beside = f", {found.neighbours:,} beside them" if found.neighbours else ""
    gone = f"; {found.gone:,} gone" if found.gone else ""
    of = f"{found.node} in r{found.release}: {plural(found.entities, 'vector')}"
    return f"{of}; {found.new:,} new, {found.changed:,} changed{beside}{gone}"


def _written(done: Refreshed) -> str:
    return (
        f"{done.embedded:,} embedded, {done.written:,} written, {done.removed:,} removed,"
        f" {done.unchanged:,} as they were"
    )
