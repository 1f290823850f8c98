"""The stages that change the world: what is published, and what `latest` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Release
from star_platform.release.model import PUBLISHED, FeastStates, Run
from star_platform.release.stored import entity_vectors, maps_of

if TYPE_CHECKING:
    from star_platform.planning.stages import Stage
    from star_platform.publishing.model import FeastState
    from star_platform.publishing.publish import Publisher
    from star_platform.registry.leases import Lease
    from star_platform.registry.registry import Registry


def _publish(run: Run, stage: Stage) -> None:
    shop, embedded = run.shop, run.done["embed"]
    published = shop.publisher.publish(
        run.number,
        entity_vectors(run.graph(), embedded.path),
        spaces=dict.fromkeys(embedded.details["nodes"], embedded.details["space"]),
        as_of=run.graph().as_of,
        work_dir=shop.store.work_dir(stage.kind, f"r{run.number}-{stage.fingerprint}"),
        state=_with_maps(run, shop.feast_state(None)),
        progress=shop.progress,
    )
    shop.registry.note(PUBLISHED, run.number, run.request.actor, published.record(), lease=run.lease)


def _with_maps(run: Run, state: FeastState) -> FeastState:
    """The state with the maps that this release brings."""
    made = run.done.get("compat")
    if made is None:
        return state
    others = tuple(item for item in state.maps if item.source != run.number)
    return replace(state, maps=(*others, *maps_of(made, run.number)))


def _activate(run: Run, _stage: Stage) -> None:
    registry, request = run.shop.registry, run.request
    if registry.release(run.number).state is ReleaseState.BUILDING:
        registry.set_state(run.number, ReleaseState.CANDIDATE, request.actor, "published and verified", run.lease)
    shop = run.shop
    event = Activation(run.number, request.plan.base_number, request.actor, request.reason)
    activate(shop.registry, shop.publisher, shop.feast_state, event, run.lease)


EFFECTS: Mapping[str, Callable[[Run, Stage], None]] = {"publish": _publish, "activate": _activate}


@dataclass(frozen=True)
class Activation:
    """Which release `latest` shall name, instead of which, by whom and why."""

    number: int
    previous: int | None
    actor: str
    reason: str


def activate(
    registry: Registry, publisher: Publisher, feast_state: FeastStates, event: Activation, lease: Lease
) -> None:
    """Move `latest` in one transaction, then let Feast follow. Reversible.

    Raises:
        PublishError: F043 when a consumer's pin would lead nowhere; nothing has happened then.
        BaseMoved: R008 when `latest` does not name `event.previous` any more.
    """
    feast_state(event.number).check()
    registry.activate(event.number, event.actor, event.reason, expected_previous=event.previous, lease=lease)
    publisher.reconcile(feast_state(None))


def finish(release: Release, registry: Registry, publisher: Publisher, state: FeastState, lease: Lease) -> None:
    """Let Feast follow a release that was activated by a process that died before it could tell Feast."""
    publisher.reconcile(state)
    for stage, fingerprint in release.record["stages"].items():
        if stage not in registry.done_stages(release.number):
            registry.mark_stage(release.number, stage, "done", fingerprint, lease=lease)
