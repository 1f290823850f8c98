"""`fetch`: published vectors, as a downstream model gets them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import note, say, say_json
from star_platform.errors import UsageError

if TYPE_CHECKING:
    from star_platform.publishing.read import Fetched


def fetch(
    node: Annotated[str, typer.Argument(help="Entity node type, such as `member`.")],
    ids: Annotated[list[str] | None, typer.Argument(help="External ids.")] = None,
    ids_from: Annotated[Path | None, typer.Option(help="A text file with one id per line.")] = None,
    name: Annotated[str, typer.Option("--release", help="`latest`, or a release such as `r2`.")] = "latest",
    consumer: Annotated[str | None, typer.Option(help="Read what this declared consumer is pinned to.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write a Parquet file: <node>_id, found, embedding.")] = None,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Read vectors from the online store, through a stock Feast client.

    Example: star-platform fetch member 17 42 --release r2
    """
    wanted = [*(ids or ()), *_ids_in(ids_from)]
    if not wanted:
        raise UsageError("U012", "no ids to fetch", hint="name them, or use --ids-from FILE")
    from star_platform.project import Project

    with warnings.catch_warnings(record=True) as told:  # such as that the release will end
        warnings.simplefilter("always", FutureWarning)
        fetched = Project.open(project).fetch(node, wanted, release=name, consumer=consumer)
    for warning in told:
        note(f"warning: {warning.message}")
    if output is not None:
        import pyarrow.parquet as pq

        pq.write_table(fetched.table(), output)
        say(f"{int(fetched.found.sum()):,} of {len(fetched.ids):,} {node} vectors of r{fetched.release} in {output}")
    elif as_json:
        say_json(_as_json(fetched))
    else:
        _print(fetched)


def _ids_in(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise UsageError("U013", f"{path} cannot be read: {error.strerror}", hint="give a text file of ids") from error


def _as_json(fetched: Fetched) -> dict[str, Any]:
    rows = zip(fetched.ids, fetched.found.tolist(), fetched.vectors.tolist(), strict=True)
    return {
        "node": fetched.node,
        "release": f"r{fetched.release}",
        "space": fetched.space,
        "rows": [{"id": i, "found": found, "embedding": vector if found else None} for i, found, vector in rows],
    }


def _print(fetched: Fetched) -> None:
    say(f"{fetched.node} vectors of r{fetched.release}, dim {fetched.vectors.shape[1]}, space {fetched.space[:12]}")
    for i, found, vector in zip(fetched.ids, fetched.found, fetched.vectors, strict=True):
        shown = " ".join(f"{value:+.4f}" for value in vector[:6]) + " ..." if found else "not found"
        say(f"  {i!s:<20} {shown}")
