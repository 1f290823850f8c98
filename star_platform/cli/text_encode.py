"""`star-platform text encode`: vectors of all text features, without a release."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import columns, note, say, say_json

if TYPE_CHECKING:
    from star_platform.project.encoding import EncodedFeature


def encode(
    rank: Annotated[
        int, typer.Option("--rank", envvar="RANK", help="Which share of the texts, from 0; with --ranks.")
    ] = 0,
    ranks: Annotated[
        int,
        typer.Option("--ranks", envvar="WORLD_SIZE", min=1, help="How many processes share the texts out."),
    ] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Also write DIR/<feature>.parquet; not with --ranks.")
    ] = None,
    branch: Annotated[
        list[str] | None, typer.Option("--branch", "-b", help="Only these branches (repeat it); all ready ones else.")
    ] = None,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Encode the texts of the ready branches; the next release finds the vectors. Texts that are cached are skipped.

    Example: star-platform text encode --out vectors
    """
    from star_platform.cli.console import open_progress
    from star_platform.project import Project
    from star_platform.project.encoding import encode_features
    from star_platform.text.filling import Share

    share = Share(rank, ranks)
    done = list(encode_features(Project.open(project), share, out, branch, open_progress()))
    if as_json:
        say_json({"rank": rank, "ranks": ranks, "features": [item.record() for item in done]})
    elif done:
        say(_table(done))
    if not done:
        note("The ready branches have no feature of `kind: text`.")
    elif ranks > 1:
        note("Next: when all ranks are done, star-platform text encode (or release), which finds their vectors")


def _table(done: list[EncodedFeature]) -> str:
    rows = [["feature", "texts", "cached", "encoded", "skipped", "tokens", "texts/s", "seconds"]]
    for item in done:
        told = item.record()
        counts = [f"{told[name]:,}" for name in ("texts", "cached", "encoded")]
        skipped = f"{100 * told['skipped_share']:.1f} %"
        figures = [f"{told['tokens_to_encode']:,}", f"{told['texts_per_s']:,}", f"{told['seconds']:,.1f}"]
        rows.append([item.feature, *counts, skipped, *figures])
    lines = [columns(rows)]
    lines += [f"vectors of {item.feature}: {item.artefact}" for item in done if item.artefact is not None]
    lines += [f"table of {item.feature}: {item.table}" for item in done if item.table is not None]
    return "\n".join(lines)
