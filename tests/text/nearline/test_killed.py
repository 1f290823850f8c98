"""5,000 updates, 65 % of them without a change, and workers that are killed (SIGKILL) in the middle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from star_platform.errors import ExitCode

from .tiny_texts import Updates, updates
from .world import Spec, Working, World, wait_for

pytestmark = pytest.mark.slow
UNCHANGED = 0.65


class Watch:
    """How many of some events are done."""

    def __init__(self, world: World, events: int) -> None:
        self._stream, self._events = world.stream("watch"), events

    def __call__(self) -> int:
        lag = self._stream.lag()
        return self._events - lag.waiting - lag.pending


def check_served(world: World, plan: Updates) -> None:
    """The newest text of every entity is served, and nothing is left to do."""
    assert world.stream("watch").lag().empty
    assert world.dead() == []
    entities = sorted(plan.last)
    vectors, _ = world.served("member.profile", entities)
    for entity, vector in zip(entities, vectors, strict=True):
        np.testing.assert_allclose(vector, world.vector(plan.last[entity]), atol=1e-5, err_msg=str(entity))


def history(world: World) -> Any:
    """Without the rows that a killed worker had written and its successor wrote again."""
    rows = world.history("member.profile").drop_duplicates(["member_id", "event_timestamp", "arrived_at"])
    return list(zip(rows.member_id.tolist(), (rows.event_timestamp.astype("int64") // 1000).tolist(), strict=True))


def test_a_worker_killed_twice(spec: Spec, world: World) -> None:
    plan = updates(5_000, 400, UNCHANGED, seed=11)
    world.send(*plan.events)
    done = Watch(world, 5_000)
    for share in (0.2, 0.5):
        worker = Working(spec, "w1", max_batch=64)
        wait_for(lambda share=share: done() > share * 5_000)  # type: ignore[misc]
        worker.kill()
        assert not world.stream("watch").lag().empty
    assert Working(spec, "w1", max_batch=64).join() == ExitCode.OK
    check_served(world, plan)
    found = history(world)
    assert sorted(found) == sorted(plan.changes)
    assert 1 - len(found) / 5_000 == pytest.approx(plan.skip_share)
    assert plan.skip_share == pytest.approx(UNCHANGED, abs=0.01)


def test_two_workers_one_of_them_dies_for_good(spec: Spec, world: World) -> None:
    """Both have changes of the same entities in hand at the same time; what the dead one held is claimed."""
    plan = updates(3_000, 150, UNCHANGED, seed=12)
    world.send(*plan.events)
    done = Watch(world, 3_000)
    dying, living = Working(spec, "w1", max_batch=32), Working(spec, "w2", max_batch=32)
    wait_for(lambda: done() > 1_000)
    dying.kill()
    assert living.join() == ExitCode.OK
    check_served(world, plan)
    assert set(history(world)) <= {(event["entity"], event["event_time"]) for event in plan.events}
    assert 1 - len(history(world)) / 3_000 == pytest.approx(plan.skip_share, abs=0.05)
