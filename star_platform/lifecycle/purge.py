"""The last step: the vectors of a release are removed, and its number, maps, figures and events stay."""

from __future__ import annotations

from dataclasses import dataclass, replace

from star_platform.errors import LifecycleError
from star_platform.lifecycle.model import Freed, Reader, Services
from star_platform.lifecycle.report import blocked
from star_platform.lifecycle.retire import check_force
from star_platform.lifecycle.survey import Survey, survey
from star_platform.registry.history import FORCED, FREED, MATERIALISED, last_details, step_into
from star_platform.registry.leases import Lease
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Note

_S = ReleaseState
_STEP = "space"
"""Where the event of the step says how much there was, for a purge that is killed forgets what it removed."""


@dataclass(frozen=True)
class Purged:
    """What a purge gave back, or would give back with `dry_run`.

    rows: of the online store. seconds: at least, at the rate that was asked for. answered: node types that a map still
    answers for. materialised: mapped vectors had been written under its version, and are gone too.
    """

    release: int
    dry_run: bool
    rows: int = 0
    online_bytes: int = 0
    offline_bytes: int = 0
    artefact_bytes: int = 0
    seconds: float | None = None
    answered: tuple[str, ...] = ()
    materialised: bool = False

    @property
    def bytes(self) -> int:
        return self.online_bytes + self.offline_bytes + self.artefact_bytes


def purge(
    services: Services,
    number: int,
    actor: str,
    reason: str,
    *,
    rate: int | None,
    dry_run: bool,
    force_reason: str | None,
) -> Purged:
    """Remove the vectors of a retired (or failed) release from the online, the offline and the artefact store.

    The step to `purged` comes first, so that nobody can be led to rows that are about to go; then Feast follows, then
    the rows go, at most `rate` per second. Called again, it goes on where a killed call stopped, or says what the
    finished one gave back.

    Raises:
        LifecycleError: L009 the release is not retired, L007 other releases are answered from it, L006 a force without
            a reason, L010 the online store does not say who reads what.
        BlockedByConsumers: L004 somebody reads a node type that no map answers for.
        LeaseHeld: R006 while somebody releases.
    """
    check_force(force_reason)
    registry = services.registry
    if dry_run:
        look = survey(services, strict=False)
        _check(look, number)
        return _sized(look, number, rate, dry_run=True)
    with registry.lease(services.lease) as lease:
        registry.record_consumers(services.consumers())
        services.feast_state().check()  # a pin that leads nowhere would keep Feast from following
        look = survey(services, strict=True)
        _check(look, number)
        if registry.release(number).state is not _S.PURGED:
            _step(look, number, actor, reason, rate, force_reason, lease)
        services.feast.reconcile(services.feast_state())
        if number not in last_details(look.events, FREED):
            _settle(services, number)
            _remove(services, number, actor, rate, lease)
    return _recorded(Survey(services), number)


def _check(look: Survey, number: int) -> None:
    state = look.services.registry.release(number).state
    if state not in (_S.RETIRED, _S.FAILED, _S.PURGED):
        raise LifecycleError(
            "L009",
            f"r{number} is {state}: its vectors are served, and are not removed",
            hint=f"retire it first: star-platform retire r{number}"
            if state in (_S.DEPRECATED, _S.DRAINING)
            else "only retired and failed releases are purged",
        )
    through = look.routes_through(number)
    if through:
        names = ", ".join(route.name for route in through)
        raise LifecycleError(
            "L007",
            f"other releases are answered from the vectors of r{number}, through {names}",
            hint="purge those first, or release again so that the active release answers for them",
        )


def _step(
    look: Survey, number: int, actor: str, reason: str, rate: int | None, force_reason: str | None, lease: Lease
) -> None:
    lost = _lost(look, number)
    if lost and force_reason is None:
        raise blocked(
            "L004",
            f"r{number} cannot be purged: it is read, and no map answers for all of it",
            f"move them to r{look.active}; `star-platform who-uses r{number}` lists them",
            lost,
        )
    labels = [reader.label for reader in lost]
    notes = [Note(FORCED, number, {"step": "purge", "readers": labels}, force_reason or "")] if lost else []
    size = _sized(look, number, rate, dry_run=False)
    space = {"rows": size.rows, "online_bytes": size.online_bytes, "offline_bytes": size.offline_bytes}
    look.services.registry.advance(
        number, (_S.PURGED,), actor, reason, details={_STEP: space}, notes=notes, lease=lease
    )


def _lost(look: Survey, number: int) -> tuple[Reader, ...]:
    """Readers of node types that nothing answers for: a forced retirement left them the release's own vectors."""
    if look.services.registry.release(number).state is _S.FAILED:
        return ()
    routed = look.routes_to(number).keys()
    readers = look.who_uses(number).blocking
    return tuple(reader for reader in readers if not set(reader.nodes) <= routed)


def _settle(services: Services, number: int) -> None:
    """Wait until every running client reads through the route."""
    step = step_into(services.registry.events(number), number, _S.RETIRED)
    if step is None:
        return
    left = services.config.settle_seconds - (services.now() - step.at).total_seconds()
    if left > 0:
        services.progress.line(f"waiting {left:.0f} s until every reader of r{number} has heard of its retirement")
        services.wait(left)


def _remove(services: Services, number: int, actor: str, rate: int | None, lease: Lease) -> None:
    published = services.published(number)
    rows = online = offline = 0
    if published is not None:
        freed: Freed = services.feast.purge(
            published, rate=rate, work_dir=services.work_dir / f"purge-r{number}", progress=services.progress
        )
        rows, online, offline = freed.rows, freed.online_bytes, freed.offline_bytes
    space = {"rows": rows, "online_bytes": online, "offline_bytes": offline}
    step = step_into(services.registry.events(number), number, _S.PURGED)
    before = step.details.get(_STEP, {}) if step is not None else {}
    # The last of several calls removed only what the earlier ones had left, so what was there at the start counts.
    freed_bytes = {name: max(int(before.get(name, 0)), value) for name, value in space.items()}
    details = {**freed_bytes, "artefact_bytes": services.discard(number)}
    services.registry.note(FREED, number, actor, details, lease=lease)


# --- how much ---------------------------------------------------------------------------------------------------------


def _sized(look: Survey, number: int, rate: int | None, *, dry_run: bool) -> Purged:
    found = _recorded(look, number)
    published = look.services.published(number)
    if number in last_details(look.events, FREED) or published is None:
        return replace(found, dry_run=dry_run)
    size = look.services.feast.purge_size(published)
    return replace(
        found,
        dry_run=dry_run,
        rows=size.rows,
        online_bytes=size.online_bytes,
        offline_bytes=size.offline_bytes,
        seconds=size.rows / rate if rate else None,
    )


def _recorded(look: Survey, number: int) -> Purged:
    """What the event of a finished purge says; zeros before."""
    return Purged(
        release=number,
        dry_run=False,
        answered=tuple(sorted(look.routes_to(number))),
        materialised=number in last_details(look.events, MATERIALISED),
        **{name: int(value) for name, value in last_details(look.events, FREED).get(number, {}).items()},
    )
