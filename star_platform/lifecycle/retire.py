"""Retirement: a release's own vectors are not served any more; a map from the active release answers for it.

The order makes every step one that can be finished later: look, then one transaction in our registry (the truth, with
states, routes and reasons together), then Feast, which can be brought in line with our registry at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from star_platform.errors import LifecycleError
from star_platform.lifecycle.model import SERVABLE, Reader, Services, ServingMap
from star_platform.lifecycle.report import blocked
from star_platform.lifecycle.survey import Survey, survey
from star_platform.registry.history import FORCED, MATERIALISED, Route, last_details
from star_platform.registry.leases import Lease
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Note

_S = ReleaseState


@dataclass(frozen=True)
class Retired:
    """What answers for a release now.

    routes: by which maps its reads are answered. moved: routes of older releases that went through it before. unmapped:
    node types that nothing answers for any more. forced: readers that were cut off with --force.
    """

    release: int
    routes: tuple[Route, ...]
    readers: tuple[Reader, ...]
    moved: tuple[Route, ...] = ()
    unmapped: tuple[str, ...] = ()
    forced: tuple[Reader, ...] = ()
    materialised: bool = False


def retire(
    services: Services, number: int, actor: str, reason: str, *, materialise: bool, force_reason: str | None
) -> Retired:
    """Let maps answer for a release, unless somebody reads it who cannot be served by one.

    deprecated, draining, retired: three states in one transaction, with the routes. Called again it finishes what a
    killed call left undone, and with `materialise` writes the mapped vectors under the old version later on.

    Raises:
        BlockedByConsumers: L004 with everybody who stands in the way, unless `force_reason` says why they may.
        LifecycleError: L005 the release is in no state to be retired, L006 a force without a reason, L007 other
            releases are answered from this one and cannot be answered from the active one, L008 it is kept to go back
            to, L010 the online store does not say who reads what.
        LeaseHeld: R006 while somebody releases.
    """
    registry = services.registry
    check_force(force_reason)
    with registry.lease(services.lease) as lease:
        registry.record_consumers(services.consumers())
        services.feast_state().check()  # a pin that leads nowhere would keep Feast from following
        look = survey(services, strict=True)
        state = registry.release(number).state
        moved: tuple[Route, ...] = ()
        forced: tuple[Reader, ...] = ()
        if state is not _S.RETIRED:
            _check(look, number, state)
            moved, ended = rerouted(look, number)
            notes = [*(route.note() for route in moved), *(route.end() for route in ended)]
            forced = _retire(look, number, actor, reason, notes, force_reason, lease)
        services.feast.reconcile(services.feast_state())
        if materialise:
            _materialise(services, number, actor, lease)
    after = Survey(services)
    routes = tuple(route for _, route in sorted(after.routes_to(number).items()))
    return Retired(
        release=number,
        routes=routes,
        readers=after.who_uses(number).readers,
        moved=moved,
        unmapped=tuple(sorted(after.nodes(number) - {route.node for route in routes})),
        forced=forced,
        materialised=number in last_details(after.events, MATERIALISED),
    )


def check_force(force_reason: str | None) -> None:
    """Raises LifecycleError L006 when somebody forces without saying why."""
    if force_reason is not None and not force_reason.strip():
        raise LifecycleError(
            "L006", "a force needs a reason", hint='it is kept with the event: --force --reason "who agreed, and why"'
        )


def _check(look: Survey, number: int, state: ReleaseState) -> None:
    if state not in (_S.DEPRECATED, _S.DRAINING):
        hints = {
            _S.ACTIVE: "activate its successor first",
            _S.CANDIDATE: f"say so first: star-platform deprecate r{number}",
            _S.PURGED: "nothing of it is left to retire",
        }
        hint = hints.get(state, "only what was published can be retired")
        raise LifecycleError("L005", f"r{number} is {state} and cannot be retired", hint=hint)
    kept = _kept(look)
    if number in kept:
        raise LifecycleError(
            "L008",
            f"r{number} is kept as it is, so that `activate` can go back to it",
            hint=f"retire it after the next release, or lower lifecycle.keep_previous ({len(kept)}) in star.yaml",
        )


def _kept(look: Survey) -> frozenset[int]:
    """The last releases before the active one whose own vectors are still served."""
    native = [
        number
        for number, release in look.releases.items()
        if release.state in (_S.DEPRECATED, _S.DRAINING) and number < (look.active or 0)
    ]
    count = look.services.config.keep_previous
    return frozenset(sorted(native)[-count:]) if count else frozenset()


def rerouted(look: Survey, number: int) -> tuple[tuple[Route, ...], tuple[Route, ...]]:
    """Routes of older releases that go through this one: those that take their place, and those that end.

    A route ends where the active release has no map that may take its place and nobody is left whom it answers.
    Raises LifecycleError L007 where somebody is.
    """
    moved, ended = [], []
    for old in look.routes_through(number):
        maps = {item.node: item for item in look.services.maps(old.target)}
        new = maps.get(old.node)
        refusal = _refusal(look, old, new)
        if new is not None and refusal is None:
            moved.append(Route(new.node, new.source, new.target, new.artefact))
        elif not _read(look, old):
            ended.append(old)
        else:
            raise LifecycleError(
                "L007",
                f"r{old.target} is answered from r{number} through {old.name}, and {refusal}",
                hint=f"keep r{number} until its readers have moved: star-platform who-uses r{old.target}",
            )
    return tuple(moved), tuple(ended)


def _read(look: Survey, route: Route) -> bool:
    """Whether anybody is left whom the route answers."""
    readers = look.who_uses(route.target).readers
    return any(reader.standing in ("served", "blocked") and route.node in reader.nodes for reader in readers)


def _refusal(look: Survey, old: Route, new: ServingMap | None) -> str | None:
    """Why the map `new` may not take the place of the route `old`."""
    if new is None:
        return f"there is no map from r{look.active} to r{old.target} that could take its place"
    readers = [c.name for c in look.declared if c.release == f"r{old.target}" and old.node in c.nodes]
    judged = {name: new.judgement(name) for name in readers} or {"its geometry": new.geometry}
    bad = [
        f"{name}: {item.verdict}" + (f" ({'; '.join(item.reasons)})" if item.reasons else "")
        for name, item in judged.items()
        if item.verdict not in SERVABLE
    ]
    return f"the map from r{new.source} is not good enough for {', '.join(bad)}" if bad else None


def _retire(
    look: Survey,
    number: int,
    actor: str,
    reason: str,
    rerouting: Sequence[Note],
    force_reason: str | None,
    lease: Lease,
) -> tuple[Reader, ...]:
    """The transaction; hands back the readers that were overruled."""
    who = look.who_uses(number)
    if who.blocking and force_reason is None:
        count, others = len(who.blocking), [reader for reader in who.readers if not reader.blocks]
        readers = f"{count} of {len(who.readers)} readers"
        raise blocked(
            "L004",
            f"r{number} cannot be retired: {readers} would get vectors that are not good enough, or none",
            f"move them to r{look.active}, or declare what they need in consumers/; `star-platform who-uses r{number}`",
            (*who.blocking, *others),
        )
    notes = [*(route.note() for route in _routes(look, number, who.readers)), *rerouting]
    if who.blocking:
        labels = [reader.label for reader in who.blocking]
        notes.insert(0, Note(FORCED, number, {"step": "retire", "readers": labels}, force_reason or ""))
    given = look.deprecations.get(number)
    early = given is not None and look.services.today() <= given.sunset
    look.services.registry.advance(
        number,
        (_S.DRAINING, _S.RETIRED),
        actor,
        force_reason if force_reason is not None and not reason else reason,
        details={"before_sunset": True} if early else {},
        notes=notes,
        lease=lease,
    )
    return who.blocking


def _routes(look: Survey, number: int, readers: Sequence[Reader]) -> list[Route]:
    """Maps that may answer: those that satisfy somebody who reads the node type, or the geometry where nobody does."""
    found = []
    for item in look.services.maps(number):
        served = any(reader.standing == "served" and item.node in reader.nodes for reader in readers)
        if served or item.geometry.verdict in SERVABLE:
            found.append(Route(item.node, item.source, item.target, item.artefact))
    return found


def _materialise(services: Services, number: int, actor: str, lease: Lease) -> None:
    """Write mapped vectors under the old version, for clients that know nothing of maps; once."""
    if number in last_details(services.registry.events(number), MATERIALISED):
        return
    state = services.feast_state()
    nodes = []
    for route in state.routes:
        source, target = services.published(route.source), services.published(number)
        if route.target == number and source is not None and target is not None:
            services.feast.materialise(route, source, target, progress=services.progress)
            nodes.append(route.node)
    if nodes:
        services.registry.note(MATERIALISED, number, actor, {"nodes": sorted(nodes)}, lease=lease)
