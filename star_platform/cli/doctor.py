"""`doctor`: is everything that a release needs in place, and do registry, artefacts and Feast agree?"""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import columns, note, plural, say, say_json
from star_platform.errors import ExitCode, StarError, UsageError

if TYPE_CHECKING:
    from star_platform.project import Project

LOW_DISK = 2 << 30
"""Free bytes below which a release is likely to fail for want of space."""


@dataclass(frozen=True)
class Finding:
    """The result of one check; `hint` is the next step when it is not ok."""

    check: str
    ok: bool
    message: str
    hint: str = ""


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring the registry's schema up to date and Feast in step with it.")
    ] = False,
    vectors: Annotated[
        bool,
        typer.Option("--vectors", help="Compare published vectors with artefacts; --repair writes those that differ."),
    ] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Check the project, its registry, the stored artefacts and Feast; exit 1 if something is wrong.

    Example: star-platform doctor --vectors --repair
    """
    from star_platform.project import Project

    place = Project.open(project)
    if repair:
        _repair(place, vectors)
    checks = {**_CHECKS, "vectors": _vectors} if vectors else _CHECKS
    findings = [_run(name, check, place) for name, check in checks.items()]
    if as_json:
        say_json({"ok": all(item.ok for item in findings), "checks": [vars(item) for item in findings]})
    else:
        say(columns([("ok" if item.ok else "WRONG", item.check, item.message) for item in findings]))
        for item in findings:
            if item.hint and not item.ok:
                note(f"  = {item.check}: {item.hint}")
    if not all(item.ok for item in findings):
        raise typer.Exit(ExitCode.FAILURE)


def _repair(place: Project, vectors: bool) -> None:
    from star_platform.project.reading import stored_vectors
    from star_platform.release import LEASE

    place.registry.upgrade()
    with place.registry.lease(LEASE):
        for change in place.publisher.reconcile(place.feast_state()):
            note(f"Feast: {change}")
        for number, release in place.serving.native().items() if vectors else ():
            done = place.publisher.sync(release, stored_vectors(place, number))
            if done.written or done.removed:
                note(f"Feast: r{number}: {done.written:,} vectors written again, {done.removed:,} removed")


def _run(name: str, check: Callable[[Project], str], place: Project) -> Finding:
    try:
        return Finding(name, True, check(place))
    except StarError as error:
        return Finding(name, False, f"{error.code}: {error.message}", error.hint or "")


def _python(_: Project) -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"


def _branches(place: Project) -> str:
    branches = place.branches()
    spec = place.merged(branches)
    return f"{plural(len(branches), 'branch')}, {plural(len(spec.signals), 'signal')}, no conflict"


def _registry(place: Project) -> str:
    status = place.registry.status()
    if status.state in ("older", "newer"):
        raise UsageError(
            "U030", f"its schema is {status.found}, this version needs {status.needed}", hint="run --repair"
        )
    return f"{place.registry.database}: {status.state}"


def _lease(place: Project) -> str:
    from star_platform.release import LEASE

    if place.registry.status().state == "absent":
        return "free"
    held = place.registry.lease_info(LEASE)
    return f"held by {held.holder} since {held.acquired_at:%Y-%m-%d %H:%M:%S} UTC" if held else "free"


def _encoder(place: Project) -> str:
    facts = place.encoder.describe()
    return ", ".join(f"{key} {facts[key]}" for key in ("kind", "encoder", "dim") if key in facts)


def _key(place: Project) -> str:
    path = place.pseudonym_key
    if not path.exists():
        return "made by the first release"
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError("U031", f"{path} can be read by others", hint=f"chmod 600 {path}")
    return "readable by its owner alone"


def _artefacts(place: Project) -> str:
    if not place.releases() or place.registry.active() is None:
        return "no release yet"
    active = place.find_release("latest")
    size = 0
    for item in place.registry.artefacts(active.number):
        artefact = place.store.open(item.kind, item.fingerprint)
        place.store.verify(artefact)
        size += artefact.bytes
    return f"every file of {active.name} matches its SHA-256, {size / 1e6:,.1f} MB"


def _feast(place: Project) -> str:
    from star_platform.publishing.projection import compare_state, open_store

    if not place.releases():
        return "no release yet"
    state = place.feast_state()
    differences = compare_state(open_store(place.feature_repo), state)
    if differences:
        raise UsageError("U032", differences[0], hint="run `star-platform doctor --repair`: it touches no vector")
    counts = f"{plural(len(state.releases), 'release')}, {plural(len(state.consumers), 'consumer')}"
    return f"in step with the registry: {counts}"


def _vectors(place: Project) -> str:
    from star_platform.project.reading import stored_vectors

    native = place.serving.native()
    for number, release in native.items():
        place.publisher.verify(release, stored_vectors(place, number))
    rows = sum(node.rows for release in native.values() for node in release.nodes.values())
    return f"{rows:,} of {plural(len(native), 'release')}: counts agree, every offline row and a sample online compared"


def _disk(place: Project) -> str:
    free = shutil.disk_usage(place.root).free
    if free < LOW_DISK:
        raise UsageError("U033", f"{free / 1e9:.1f} GB free", hint="make room, or point `artefacts:` elsewhere")
    return f"{free / 1e9:,.0f} GB free"


_CHECKS: dict[str, Callable[[Project], str]] = {
    "python": _python,
    "branches": _branches,
    "registry": _registry,
    "release lease": _lease,
    "text encoder": _encoder,
    "pseudonym key": _key,
    "artefacts": _artefacts,
    "feast": _feast,
    "disk": _disk,
}
