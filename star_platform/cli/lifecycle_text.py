"""What the verbs of `lifecycle` print for people, and as JSON where the room has no form of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from star_platform.cli.output import columns, plural

if TYPE_CHECKING:
    from star_platform.lifecycle.model import Reader, WhoUses
    from star_platform.lifecycle.purge import Purged
    from star_platform.lifecycle.retire import Retired
    from star_platform.lifecycle.status import Line, Status


def who_uses_text(found: WhoUses) -> str:
    """Readers one per line, why each stands as it does, and where declaration and observation disagree."""
    latest = f", latest is r{found.active}" if found.active is not None else ""
    lines = [f"r{found.release}  {found.state}{latest}"]
    if not found.readers:
        lines.append("nobody declares it, and no read of it was counted")
    else:
        rows = [("reader", "owner", "declares", "reads", "last read", "standing")]
        table = columns([*rows, *map(_row, found.readers)]).splitlines()
        lines.append(table[0])
        for reader, row in zip(found.readers, table[1:], strict=True):
            lines += [row, *(f"    {reason}" for reason in reader.reasons)]
    lines += _listed("Disagree", found.disagreements)
    if found.blocking:
        labels = ", ".join(reader.label for reader in found.blocking)
        lines.append(f"Retirement is blocked by {labels}.")
    elif found.state in ("deprecated", "draining"):
        lines.append(f"Nobody stands in the way: star-platform retire r{found.release}")
    return "\n".join(lines)


def _row(reader: Reader) -> tuple[str, ...]:
    seen = reader.observed
    need = " (exact)" if reader.need == "exact" else ""
    return (
        reader.label,
        reader.owner or "-",
        f"{reader.declared or '-'}{need}",
        f"{seen.reads:,}" if seen is not None else "-",
        f"{seen.last}" if seen is not None else "-",
        reader.standing,
    )


def _listed(head: str, items: Iterable[str]) -> list[str]:
    return [f"{head if index == 0 else '':<10} {item}" for index, item in enumerate(items)]


def retired_text(done: Retired) -> str:
    """Which maps answer now, and whom that leaves out."""
    served = ", ".join(f"{route.node} from r{route.source}" for route in done.routes)
    lines = [f"r{done.release} is retired: " + (f"mapped, {served}." if served else "nothing answers for it.")]
    lines += [f"{route.name} now answers for r{route.target}." for route in done.moved]
    if done.unmapped and done.routes:
        lines.append(f"No map answers for {', '.join(done.unmapped)}.")
    if done.forced:
        lines.append(f"Overruled: {', '.join(reader.label for reader in done.forced)}.")
    if done.materialised:
        lines.append("Mapped vectors are written under its version, for clients without our store.")
    return "\n".join(lines)


def retired_json(done: Retired) -> dict[str, Any]:
    """What `retire --json` prints."""
    from star_platform.lifecycle.report import reader_json

    return {
        "release": f"r{done.release}",
        "state": "retired",
        "routes": [{"node": r.node, "source": f"r{r.source}", "map": r.name} for r in done.routes],
        "moved": [{"node": r.node, "release": f"r{r.target}", "source": f"r{r.source}"} for r in done.moved],
        "unmapped": list(done.unmapped),
        "readers": [reader_json(reader) for reader in done.readers],
        "forced": [reader.label for reader in done.forced],
        "materialised": done.materialised,
    }


def purged_text(done: Purged) -> str:
    """How much space came back, or would."""
    from star_platform.planning.render import human_bytes, human_seconds

    parts = {"online": done.online_bytes, "offline": done.offline_bytes, "artefacts": done.artefact_bytes}
    space = ", ".join(f"{human_bytes(count)} {name}" for name, count in parts.items() if count)
    verb = "would give back" if done.dry_run else "gave back"
    lines = [
        f"Purging r{done.release} {verb} {human_bytes(done.bytes)} of {plural(done.rows, 'row')}"
        + (f" ({space})." if space else ".")
    ]
    if done.seconds is not None:
        lines.append(f"At this rate it takes at least {human_seconds(done.seconds)}.")
    if done.materialised:
        lines.append("This includes mapped vectors that clients without our store may read.")
    answered = ", ".join(done.answered)
    lines.append(f"A map goes on answering for {answered}." if answered else "Nothing answers for it any more.")
    return "\n".join(lines)


def purged_json(done: Purged) -> dict[str, Any]:
    """What `purge --json` prints."""
    return {
        "release": f"r{done.release}",
        "dry_run": done.dry_run,
        "rows": done.rows,
        "bytes": done.bytes,
        "online_bytes": done.online_bytes,
        "offline_bytes": done.offline_bytes,
        "artefact_bytes": done.artefact_bytes,
        "seconds": done.seconds,
        "answered": list(done.answered),
        "materialised": done.materialised,
    }


def status_text(found: Status) -> str:
    """One line per release, then what is due."""
    from star_platform.planning.render import render_notices

    if not found.lines:
        return "no release yet"
    rows = [("release", "state", "since", "until", "readers", "last read", "next"), *map(_status_row, found.lines)]
    return "\n".join([columns(rows), *render_notices(found.notices)])


def _status_row(line: Line) -> tuple[str, ...]:
    sources = ", ".join(f"r{number}" for number in sorted(set(line.answered.values())))
    state = f"{line.state} (mapped from {sources})" if line.answered else str(line.state)
    blocking = f", blocked by {', '.join(line.blocking)}" if line.blocking else ""
    return (
        line.name,
        state,
        f"{line.since:%Y-%m-%d}",
        f"{line.sunset} -> r{line.successor}" if line.sunset is not None else "-",
        f"{line.readers}{blocking}",
        f"{line.last_read}" if line.last_read is not None else "-",
        line.next or "-",
    )
