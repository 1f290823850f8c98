"""`star-platform demo`: five teams, two releases, one downstream model, told with figures.

Run again, it goes on from what is there: unchanged data and branches release nothing anew, and a killed run is taken up
where finished stages end.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.demo.generate import Size, ensure
from star_platform.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.console import Console

    from star_platform.project import Project
    from star_platform.registry.values import Release

FIRST = ("marketplace-core", "companies", "skills")
"""The branches of the first release; the second takes every ready branch."""
DATA = "data"
"""The variable of star.yaml that says where the generated tables go."""


@dataclass(frozen=True)
class Story:
    """Who tells what, about which project."""

    project: Project
    console: Console
    progress: Progress

    @property
    def data(self) -> Path:
        return self.project.root / self.project.file.variables[DATA]

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        self.console.print(f"\n[bold]{title}[/bold]")
        begin = time.monotonic()
        yield
        self.say(f"[dim]{time.monotonic() - begin:.0f} s[/dim]")

    def say(self, text: str) -> None:
        from rich.padding import Padding

        self.console.print(Padding(text, (0, 0, 0, 2)), highlight=False)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.table import Table

        table = Table(*head, box=None, padding=(0, 3, 0, 0), header_style="dim")
        for row in rows:
            table.add_row(*row)
        self.console.print(table, highlight=False)


def run(
    root: Path, *, members: int = 2_000, seed: int = 0, progress: Progress = SILENT, console: Console | None = None
) -> None:
    """Generate, release from three branches, release from all, fetch, train a downstream model, and tell.

    The data goes to the folder that the variable `data` of star.yaml names; the story to stdout.
    """
    from rich.console import Console

    from star_platform.demo.downstream import read_impressions
    from star_platform.project import Project
    from star_platform.publishing.client import DeprecatedRelease

    warnings.simplefilter("ignore", DeprecatedRelease)  # the story reads r1 on purpose
    begin = time.monotonic()
    story = Story(Project.open(root), console or Console(), progress)
    with story.chapter("1  A job marketplace"):
        made = ensure(story.data, Size(members, seed))
        _tell_market(story, made)
    fresh = made or not any(release.state == "active" for release in story.project.releases())
    if fresh:
        with story.chapter(f"2  Three teams release: {', '.join(FIRST)}"):
            _tell_release(story, story.project.release(only=FIRST, reason="demo", progress=progress))
    with story.chapter("3  Two more teams join" if fresh else "2  Release what has changed"):
        _tell_release(story, story.project.release(reason="demo", progress=progress))
    with story.chapter(f"{4 if fresh else 3}  A downstream team reads the vectors from Feast"):
        _tell_downstream(story)
    with story.chapter(f"{5 if fresh else 4}  A model of the release before is served by the new one"):
        _tell_frozen(story)
    story.console.print(f"\n[bold]Done in {time.monotonic() - begin:.0f} s.[/bold] Look around:")
    member = read_impressions(story.data).distinct("member")[0]
    for command in ("status", "show latest", f"fetch member {member}", "who-uses r1", "plan"):
        story.say(f"star-platform {command}")
    story.say("then write a branch of your own: docs/branches.md")


def _tell_market(story: Story, made: bool) -> None:
    import pyarrow.parquet as pq

    def rows(name: str) -> str:
        return f"{pq.read_metadata(story.data / f'{name}.parquet').num_rows:,}"

    story.say(
        f"{'Generated' if made else 'Already there'}: {rows('members')} members, {rows('jobs')} jobs, "
        f"{rows('companies')} companies, {rows('recruiters')} recruiters; from January to June 2025 "
        f"{rows('applies')} applications, {rows('reactions')} saves and dismisses, {rows('inmails')} InMails."
    )
    story.say("What members want is planted in 24 specialities; most texts name only the field.")


def _tell_release(story: Story, released: Release | None) -> None:
    release = released or story.project.registry.active()
    if release is None:
        return
    if released is None:
        story.say(f"Nothing has changed since {release.name}: no stage ran.")
    registry, store = story.project.registry, story.project.store
    found = {item.stage: store.open(item.kind, item.fingerprint).details for item in registry.artefacts(release.number)}
    stages = registry.stages(release.number)
    reused = sum(stage.reused for stage in stages)
    branches = ", ".join(branch.branch for branch in registry.branches(release.number))
    story.say(f"{release.name} is {release.state}, from {branches}.")
    nodes = sum(entry["nodes"] for entry in found["graph"]["nodes"].values())
    edges = sum(entry["edges"] for entry in found["graph"]["edges"].values())
    story.say(
        f"Graph: {nodes:,} nodes, {edges:,} edges of {len(found['graph']['edges'])} types, reverses included. "
        f"{len(stages)} stages: {reused} reused, {len(stages) - reused} run."
    )
    story.table(
        ("  AUC of", "release [95 %]", "no graph", "text", "popularity"),
        [(f"  {name}", *_quality(objective)) for name, objective in found["evaluate"]["objectives"].items()],
    )
    story.say("On edges later than all of training; ~ marks a baseline that is not clearly worse.")


def _quality(objective: Mapping[str, Any]) -> list[str]:
    """AUC of the release with its interval, then of the baselines, with ~ where the paired interval holds 0."""
    methods = objective["methods"]
    cells = [_figure(methods["release"]["auc"])]
    for baseline in ("no-graph", "text-cosine", "popularity"):
        if baseline not in methods or methods[baseline]["auc"]["value"] is None:
            cells.append("-")
            continue
        low = objective["differences"][baseline]["auc"]["low"]
        clear = low is not None and low > 0
        cells.append(f"{methods[baseline]['auc']['value']:.3f}{'' if clear else ' ~'}")
    return cells


def _figure(figure: Mapping[str, float | None], form: str = ".3f") -> str:
    value, low, high = (figure[key] for key in ("value", "low", "high"))
    if value is None:
        return "undefined"
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _tell_downstream(story: Story) -> None:
    from star_platform.demo.downstream import compare, read_impressions

    project = story.project
    active = project.registry.active()
    if active is None:
        return
    impressions = read_impressions(story.data)
    published = project.published()
    numbers = [number for number in (active.base, active.number) if number in published]
    begin = time.monotonic()
    vectors = {
        f"with vectors of r{number}": tuple(
            project.fetch(node, impressions.distinct(node), release=f"r{number}") for node in ("member", "job")
        )
        for number in numbers
    }
    count = sum(len(fetched.ids) for pair in vectors.values() for fetched in pair)
    story.say(f"{count:,} vectors fetched in {time.monotonic() - begin:.1f} s, for the four weeks after the release.")
    results = compare(impressions, vectors)
    story.say(
        f"A logistic ranker, trained on two weeks of impressions, tested on the two that follow "
        f"({results[0].test_pairs:,} pairs of {results[0].test_members:,} members):"
    )
    story.table(
        ("  ranker", "AUC [95 %]", "difference to the row above"),
        [
            (f"  {one.name}", _figure(one.auc.as_json()), _figure(one.gain.as_json(), "+.3f") if one.gain else "")
            for one in results
        ],
    )
    story.say("Intervals by resampling members; differences are paired.")


def _tell_frozen(story: Story) -> None:
    """The ranker of the release before, which nobody trains again."""
    from dataclasses import replace as changed

    from star_platform.demo.downstream import keep_frozen, read_impressions

    project = story.project
    active = project.registry.active()
    maps = {item.node: item for item in project.serving.maps() if active and item.source == active.number}
    old = active.base if active else None
    if active is None or old not in project.serving.native() or {item.target for item in maps.values()} != {old}:
        story.say("There is no older release to serve.")
        return
    impressions = read_impressions(story.data)
    nodes = ("member", "job")
    before = [project.fetch(node, impressions.distinct(node), release=f"r{old}") for node in nodes]
    now = [project.fetch(node, impressions.distinct(node), release=active.name) for node in nodes]
    mapped = [changed(item, vectors=maps[item.node].apply(item.vectors)) for item in now]
    served = {f"{active.name} as it is": now, f"{active.name} through the map": mapped}
    results = keep_frozen(impressions, before, served)
    story.say(f"A ranker that was trained on r{old}, and that nobody trains again, is served:")
    story.table(
        ("  vectors of", "AUC [95 %]", f"difference to r{old}"),
        [
            (f"  {one.name}", _figure(one.auc.as_json()), _figure(one.gain.as_json(), "+.3f") if one.gain else "")
            for one in results
        ],
    )
    story.say(
        "Both releases have the same dimensions and seed, so their spaces lie near each other here; "
        "examples/many_versions is about releases that do not."
    )
    story.say(
        f"`star-platform show {active.name}` has what the gate says of the map, `who-uses r{old}` whom it may serve; "
        f"after `retire r{old}` it answers for them."
    )
