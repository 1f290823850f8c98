"""A release from plan to activation: runs the stages of a plan, skips the done ones, stops before harm.

The plan's stages are values; each kind has one function that builds its artefact (`build`, `maps`) or changes the world
(`effects`). A stage whose artefact is in the store is verified and reused. A killed run leaves finished artefacts, the
checkpoint of a training under way, and the release in state `building`: `resume` goes on with the same number.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from star_platform.errors import ArtefactError, RegistryError, StarError
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Release
from star_platform.release.build import BUILDERS
from star_platform.release.effects import EFFECTS
from star_platform.release.gates import GATES
from star_platform.release.model import ReleaseRequest, Run, Workshop

if TYPE_CHECKING:
    from star_platform.planning.stages import Stage
    from star_platform.registry.leases import Lease


def start(shop: Workshop, request: ReleaseRequest, lease: Lease, *, rebuild: bool = False) -> Release:
    """Give the plan the next release number and run it. A run that was killed before is marked failed.

    With `rebuild` every artefact is made anew beside the stored one, and must have the same bytes.

    Raises:
        StarError: of the stage that failed; the release is then `failed`, and `resume` tries it again.
    """
    registry = shop.registry
    for abandoned in registry.unfinished():
        if abandoned.state is ReleaseState.BUILDING:
            registry.set_state(
                abandoned.number, ReleaseState.FAILED, request.actor, "superseded by a later release", lease
            )
    plan = request.plan
    release = registry.start_release(plan.id, plan.base_number, plan.record(), request.actor, lease)
    registry.record_branches(request.branches, release.number)
    return _run(shop, request, release.number, lease, rebuild)


def resume(shop: Workshop, request: ReleaseRequest, lease: Lease, number: int) -> Release:
    """Go on with an interrupted or failed release; `request` must be the same plan.

    Raises:
        RegistryError: R020 when branches, data or settings have changed since it was started.
    """
    release = shop.registry.release(number)
    if release.plan_id != request.plan.id:
        raise RegistryError(
            "R020",
            f"{release.name} cannot be resumed: branches, data or settings have changed since it was started",
            hint="run `star-platform release`: it starts a new release and reuses every finished stage that still fits",
        )
    if release.state is ReleaseState.FAILED:
        shop.registry.set_state(number, ReleaseState.BUILDING, request.actor, "resumed", lease)
    return _run(shop, request, number, lease, rebuild=False)


def _run(shop: Workshop, request: ReleaseRequest, number: int, lease: Lease, rebuild: bool) -> Release:
    run = Run(shop, request, number, lease)
    try:
        with _workplace(run, rebuild) as workplace:
            stages = request.plan.stages
            for position, stage in enumerate(stages, 1):
                lease.check()
                shop.progress.line(f"[{position:>2}/{len(stages)}] {stage.name:<36} {_intent(run, stage, rebuild)}")
                _run_stage(workplace, run, stage)
    except StarError as error:
        shop.registry.set_state(number, ReleaseState.FAILED, request.actor, str(error), lease)
        raise
    return shop.registry.release(number)


@contextmanager
def _workplace(run: Run, rebuild: bool) -> Iterator[Run]:
    """Where artefacts are built: the store itself, or for a rebuild an empty store and cache beside it."""
    if not rebuild:
        yield run
        return
    root = run.shop.store.root / ".work" / f"rebuild-r{run.number}"
    shutil.rmtree(root, ignore_errors=True)
    shop = replace(run.shop, store=ArtefactStore(root), text_cache=run.shop.text_cache.beside(root / "text-cache"))
    try:
        yield replace(run, shop=shop)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run_stage(workplace: Run, run: Run, stage: Stage) -> None:
    """Reuse or build one stage and record it; `run` has the store that lasts, `workplace` the one to build in."""
    registry, begin = run.shop.registry, time.monotonic()
    effect = EFFECTS.get(stage.kind)
    if effect is not None and registry.done_stages(run.number).get(stage.name) == stage.fingerprint:
        return
    registry.mark_stage(run.number, stage.name, "running", stage.fingerprint, lease=run.lease)
    try:
        reused = False
        if effect is not None:
            effect(run, stage)
        else:
            artefact, reused = _obtain(workplace, run, stage)
            run.done[stage.name] = artefact
            registry.attach(
                run.number, stage.name, stage.kind, stage.fingerprint, artefact.content_hash, artefact.bytes, run.lease
            )
            if stage.kind in GATES:
                GATES[stage.kind](run, artefact)
    except StarError:
        registry.mark_stage(run.number, stage.name, "failed", stage.fingerprint, time.monotonic() - begin)
        raise
    seconds = time.monotonic() - begin
    registry.mark_stage(run.number, stage.name, "done", stage.fingerprint, seconds, reused, run.lease)


def _intent(run: Run, stage: Stage, rebuild: bool) -> str:
    there = stage.kind not in EFFECTS and run.shop.store.find(stage.kind, stage.fingerprint) is not None
    if there:
        return "rebuild and compare" if rebuild else "reuse"
    return stage.what


def _obtain(workplace: Run, run: Run, stage: Stage) -> tuple[Artefact, bool]:
    """The artefact of a stage, and whether it was there before; always verified against its manifest."""
    found = run.shop.store.find(stage.kind, stage.fingerprint)
    if found is None or workplace is not run:
        built = BUILDERS[stage.kind](workplace, stage)
        if workplace is run:
            return built, False
        if found is None:
            return _keep(run, built), False
        if found.content_hash != built.content_hash:
            raise ArtefactError(
                "A003",
                f"rebuilding {stage.name} gave other bytes than the stored artefact {stage.fingerprint}",
                hint="a source changed while it was read, or a stage is not deterministic on this machine",
            )
        return found, False
    run.shop.store.verify(found)
    return found, True


def _keep(run: Run, built: Artefact) -> Artefact:
    """Copy a rebuilt artefact into the store that lasts."""
    with run.shop.store.create(built.kind, built.fingerprint) as draft:
        shutil.copytree(built.path, draft.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json"))
        draft.details.update(built.details)
    return run.shop.store.open(built.kind, built.fingerprint)
