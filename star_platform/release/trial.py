"""Training by itself: the stages of a plan up to the model, in the store, without a release.

The artefacts are those that the next release of the same plan would build, so that it finds them. A trial gets no
release number, moves no alias and publishes nothing; it holds the release lease, for it writes into the same store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from star_platform.registry.artefacts import Artefact
from star_platform.release.build import BUILDERS
from star_platform.release.model import ReleaseRequest, Run, Workshop

if TYPE_CHECKING:
    from star_platform.planning.stages import Stage
    from star_platform.registry.leases import Lease

NO_RELEASE = 0
"""The number of a run that belongs to no release; stages that leave artefacts never ask for it."""


@dataclass(frozen=True)
class Trial:
    """A model that was trained, or found in the store."""

    model: Artefact
    reused: bool
    seconds: float
    """Of training alone; 0 where the model was found."""
    built: tuple[str, ...]
    """Names of the stages that were built."""


def try_training(shop: Workshop, request: ReleaseRequest, lease: Lease) -> Trial:
    """Build what is missing of everything that the model needs, then the model.

    Raises:
        StarError: of the stage that failed. What was built before it stays, and a checkpoint of training too.
    """
    run = Run(shop, request, NO_RELEASE, lease)
    stages, built, seconds = needed(request.plan.stages, "train"), [], 0.0
    for position, stage in enumerate(stages, 1):
        lease.check()
        found = shop.store.find(stage.kind, stage.fingerprint)
        shop.progress.line(f"[{position:>2}/{len(stages)}] {stage.name:<36} {'reuse' if found else stage.what}")
        begin = time.monotonic()
        if found is None:
            found = BUILDERS[stage.kind](run, stage)
            seconds = time.monotonic() - begin
            built.append(stage.name)
        else:
            shop.store.verify(found)
        run.done[stage.name] = found
    reused = "train" not in built
    return Trial(run.done["train"], reused, 0.0 if reused else seconds, tuple(built))


def needed(stages: Sequence[Stage], last: str) -> tuple[Stage, ...]:
    """Stage `last` and all that it reads, directly or not, in the order of the plan."""
    by_name = {stage.name: stage for stage in stages}
    wanted, waiting = set(), [last]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += by_name[name].inputs
    return tuple(stage for stage in stages if stage.name in wanted)
