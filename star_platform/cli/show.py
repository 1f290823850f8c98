"""`show`: what became of a release, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_platform.cli.describe import describe
from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import columns, note, say, say_json

if TYPE_CHECKING:
    from star_platform.project import Project
    from star_platform.registry.values import Release


def show(
    name: Annotated[str, typer.Argument(help="A release such as `r2`, or `latest`.")] = "latest",
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Show one release: graph, quality with intervals, stages, what Feast serves.

    Example: star-platform show r2
    """
    from star_platform.project import Project

    place = Project.open(project)
    found = place.find_release(name)
    if as_json:
        say_json(describe(place, found))
    else:
        print_release(place, found)


def print_release(place: Project, found: Release) -> None:
    """Graph, quality, maps, stages and what Feast serves."""
    facts = describe(place, found)
    say(f"{found.name}  {found.state}  made {found.created_at:%Y-%m-%d %H:%M} UTC by {found.created_by}")
    if found.state in ("failed", "building"):
        note("It is not finished. Next: star-platform release --resume")
    for title, key in (("Nodes", "nodes"), ("Edges", "edges")):
        if facts.get(key):
            say(f"{title:<9} " + ", ".join(f"{name} {count:,}" for name, count in facts[key].items()))
    _print_quality(facts)
    _print_maps(facts)
    _print_stages(facts)
    for node, view in facts.get("published", {}).items():
        say(f"Feast     {view['reference']}  {view['rows']:,} {node} vectors of {view['dim']}")


def _print_quality(facts: dict[str, Any]) -> None:
    report = facts.get("evaluation")
    if report:
        from star_platform.evaluation.render import render

        say(render(report))


def _print_maps(facts: dict[str, Any]) -> None:
    """One line per map to an older release, one per consumer of one."""
    report = facts.get("compat")
    if not report:
        return
    rows = [
        (
            f"Map       {item['node']} -> r{item['target']}",
            f"{item['method']}, {item['via']}",
            _map_figures(item["figures"]),
            item["verdict"],
        )
        for item in report["maps"]
    ]
    rows += [
        (f"Map       {item['node']} -> r{item['release']}", "none", item["reason"], "") for item in report["skipped"]
    ]
    say(columns(rows))
    for entry in report["gate"]["consumers"]:
        reasons = "; ".join(entry["reasons"])
        say(f"Reader    {entry['consumer']} of r{entry['release']}: {entry['verdict']} ({reasons})")


def _map_figures(figures: dict[str, Any]) -> str:
    """The figures on held-out entities that a reader looks at first."""
    shown = (("R2", "r2"), ("cosine", "cosine_mean"), ("p5", "cosine_p5"), ("overlap@10", "overlap_10"))
    known = [f"{name} {figures[key]:.3f}" for name, key in shown if figures.get(key) is not None]
    return f"{' '.join(known)} ({figures['n']:,} held out)"


def _print_stages(facts: dict[str, Any]) -> None:
    stages = facts.get("stages", [])
    if not stages:
        return
    reused = sum(stage["reused"] for stage in stages)
    slowest = sorted(stages, key=lambda stage: -(stage["seconds"] or 0.0))[:3]
    times = ", ".join(f"{stage['stage']} {stage['seconds']:.1f} s" for stage in slowest if stage["seconds"] is not None)
    say(f"Stages    {len(stages)} done, {reused} of them reused; longest: {times}")
