"""`plan`, `release`, `releases`, `activate`: from branches to an active release, and back to an older one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from star_platform.cli.describe import describe
from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import columns, note, say, say_json
from star_platform.cli.show import print_release
from star_platform.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from star_platform.project import Project

BranchOption = Annotated[
    list[str] | None, typer.Option("--branch", "-b", help="Only these branches (repeat it); all ready ones otherwise.")
]
Reason = Annotated[str, typer.Option(help="Why; kept with the event.")]


def plan(
    branch: BranchOption = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 when a release would change something.")
    ] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Show what a release would change, rebuild and reuse, who is affected, and what it costs.

    Example: star-platform plan --branch companies
    """
    from star_platform.planning.plan import to_json
    from star_platform.planning.render import render_plan
    from star_platform.project import Project

    request = Project.open(project).plan(branch)
    if as_json:
        say_json(to_json(request.plan))
    else:
        say(render_plan(request.plan))
    if detailed_exitcode and not request.plan.nothing_changed:
        raise typer.Exit(ExitCode.CHANGES_PENDING)


def release(
    branch: BranchOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show the stages and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the release that was interrupted.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build every stage anew; stored artefacts must have the same bytes.")
    ] = False,
    reason: Reason = "",
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Merge the ready branches, compile, train, embed, evaluate, publish, verify, activate.

    Example: star-platform release --reason "companies join the graph"
    """
    from star_platform.cli.console import open_progress
    from star_platform.project import Project

    place = Project.open(project)
    if explain:
        _explain(place, branch, as_json)
        return
    made = place.release(only=branch, resume=resume, rebuild=rebuild, reason=reason, progress=open_progress())
    if made is None:
        active = place.registry.active()
        name = active.name if active else "the last release"
        if as_json:
            say_json({"changed": False, "latest": name})
        else:
            say(f"Nothing changed since {name}: branches, data and settings are the same. No release was made.")
        return
    if as_json:
        say_json({"changed": True, **describe(place, made)})
    else:
        print_release(place, made)
        note(f"Next: star-platform fetch <node> <id> --release {made.name}")


def _explain(place: Project, branch: list[str] | None, as_json: bool) -> None:
    from star_platform.planning.plan import stages_json
    from star_platform.planning.render import render_stages

    stages = place.plan(branch).plan.stages
    if as_json:
        say_json({"stages": stages_json(stages)})
    else:
        say(render_stages(stages))


def releases(as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """List the releases with their states.

    Example: star-platform releases --json
    """
    from star_platform.project import Project

    place = Project.open(project)
    found = place.releases()
    active = place.registry.active() if found else None
    if as_json:
        listed = [
            {"release": r.name, "state": r.state, "created_at": r.created_at.isoformat(), "created_by": r.created_by}
            for r in found
        ]
        say_json({"latest": active.name if active else None, "releases": listed})
        return
    if not found:
        say("no release yet")
        note("Next: star-platform plan")
        return
    rows = [("release", "state", "made", "by", "base")]
    for item in found:
        mark = " (latest)" if active and active.number == item.number else ""
        base = f"r{item.base}" if item.base else "-"
        rows.append((item.name, f"{item.state}{mark}", f"{item.created_at:%Y-%m-%d %H:%M}", item.created_by, base))
    say(columns(rows))


def activate(
    name: Annotated[str | None, typer.Argument(help="The release that `latest` shall name, such as `r1`.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="The same, as an option.")] = None,
    reason: Reason = "",
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Make a release the active one; also the way back to an older one.

    Example: star-platform activate --to r1 --reason "r2 misses the new companies"
    """
    from star_platform.project import Project

    if (name is None) == (to is None):
        raise UsageError("U014", "name one release to activate", hint="star-platform activate r1, or --to r1")
    place = Project.open(project)
    before, after = place.activate(str(name or to), reason)
    if as_json:
        say_json({"before": before.name if before else None, "after": after.name})
    else:
        say(f"latest: {before.name if before else 'none'} -> {after.name}. Pinned readers keep what they read.")
