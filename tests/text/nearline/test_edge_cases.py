"""Each edge case of a stream of changes, on a real Redis, through a stock Feast client."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from star_platform.errors import TextError
from star_platform.text.nearline.model import DELETED, MISSING
from tests.text.nearline.world import START, Counting, World, event


def check_served(world: World, entity: int, text: str | None) -> None:
    (vector,), _ = world.served("member.profile", [entity])
    if text is None:
        assert vector is None
    else:
        np.testing.assert_allclose(vector, world.vector(text), atol=1e-6)


def asked(world: World) -> list[str]:
    assert isinstance(world.encoder, Counting)
    return world.encoder.asked


def test_a_change_is_served_and_kept(world: World) -> None:
    world.send(event(7, "data engineer", 1))
    metrics = world.drain()
    assert metrics.outcomes["changed"] == 1
    check_served(world, 7, "data engineer")
    rows = world.history("member.profile")
    assert rows.member_id.tolist() == [7]
    assert rows.event_timestamp.astype("int64").tolist() == [(START + 1000) * 1000]


def test_fields_are_rendered_as_a_release_does(world: World) -> None:
    fields = {"headline": " senior  data\u00a0engineer ", "summary": None, "photo": "cosmetic"}
    world.send({"feature": "member.profile", "entity": 1, "event_time": START, "fields": fields})
    world.send(
        {
            "feature": "member.profile",
            "entity": 2,
            "event_time": START,
            "fields": {"headline": "data", "summary": "team"},
        }
    )
    world.drain()
    check_served(world, 1, "senior data engineer")
    check_served(world, 2, "data\nteam")


def test_an_older_event_never_overwrites(world: World) -> None:
    world.send(event(7, "nurse", 5))
    world.drain()
    world.send(event(7, "teacher", 4))
    metrics = world.drain()
    assert metrics.outcomes == {"stale": 1}
    check_served(world, 7, "nurse")


def test_out_of_order_in_one_batch(world: World) -> None:
    world.send(event(7, "sales", 9), event(7, "nurse", 5), event(7, "lead", 7))
    world.drain()
    check_served(world, 7, "sales")
    assert world.history("member.profile").event_timestamp.astype("int64").tolist() == [
        (START + 1000 * at) * 1000 for at in (5, 7, 9)
    ]


def test_of_equal_times_the_later_event_wins(world: World) -> None:
    world.send(event(7, "nurse", 5))
    world.drain()
    world.send(event(7, "teacher", 5))
    assert world.drain().outcomes == {"changed": 1}
    check_served(world, 7, "teacher")


def test_a_replayed_event_changes_nothing(world: World) -> None:
    world.send(event(7, "nurse", 5))
    world.drain()
    world.send(event(7, "nurse", 5))
    assert world.drain().outcomes == {"unchanged": 1}
    assert len(world.history("member.profile")) == 1


def test_there_and_back_again_encodes_nothing(world: World) -> None:
    for at, text in enumerate(["nurse", "teacher", "nurse"]):
        world.send(event(7, text, at))
        world.drain()
    assert asked(world) == ["nurse", "teacher"]
    check_served(world, 7, "nurse")
    assert len(world.history("member.profile")) == 3


def test_there_and_back_again_in_one_batch(world: World) -> None:
    world.send(*[event(7, text, at) for at, text in enumerate(["nurse", "teacher", "nurse"])])
    assert world.drain().outcomes == {"changed": 3}
    check_served(world, 7, "nurse")
    assert len(world.history("member.profile")) == 3


def test_an_edit_of_the_layout_is_skipped(world: World) -> None:
    world.send(event(7, "data engineer", 1))
    world.drain()
    world.send(event(7, "  data\n\u200b engineer\t", 2))
    assert world.drain().outcomes == {"unchanged": 1}
    assert asked(world) == ["data engineer"]


def test_an_unchanged_text_moves_the_event_time(world: World) -> None:
    """So that an event between the two is known to be old."""
    world.send(event(7, "nurse", 1))
    world.drain()
    world.send(event(7, "nurse", 9))
    world.drain()
    world.send(event(7, "teacher", 5))
    assert world.drain().outcomes == {"stale": 1}
    check_served(world, 7, "nurse")


def test_a_cosmetic_field_is_skipped(world: World) -> None:
    for at, photo in enumerate(["a.png", "b.png"]):
        fields = {"headline": "nurse", "summary": "team", "photo": photo}
        world.send({"feature": "member.profile", "entity": 7, "event_time": START + at, "fields": fields})
    assert world.drain().outcomes == {"changed": 1, "unchanged": 1}


def test_one_text_of_two_entities_is_encoded_once(world: World) -> None:
    world.send(event(1, "nurse", 1), event(2, "nurse", 1), event("job/1", "nurse", 1, "job.description"))
    assert world.drain().outcomes == {"changed": 3}
    assert asked(world) == ["nurse"]
    check_served(world, 1, "nurse")
    check_served(world, 2, "nurse")
    vectors, _ = world.served("job.description", ["job/1", "job/2"])
    np.testing.assert_allclose(vectors[0], world.vector("nurse"), atol=1e-6)
    assert vectors[1] is None


def test_a_deletion_removes_the_vector_and_what_the_text_was(world: World) -> None:
    world.send(event(7, "nurse", 5))
    world.drain()
    world.send(event(7, None, 6))
    world.drain()
    check_served(world, 7, None)
    (state,) = world.sink.states("member.profile", [7])
    assert state is not None
    assert state.tag == DELETED
    world.send(event(7, "teacher", 4))  # from before the deletion
    assert world.drain().outcomes == {"stale": 1}
    check_served(world, 7, None)
    world.send(event(7, "teacher", 8))
    world.drain()
    check_served(world, 7, "teacher")


def test_a_batch_of_deletions_only(world: World) -> None:
    """Feast drops a frame whose values are all null without an error."""
    world.send(event(1, "nurse", 1), event(2, "nurse", 1))
    world.drain()
    world.send(event(1, None, 2), event(2, None, 2))
    assert world.drain().outcomes == {"changed": 2}
    assert world.served("member.profile", [1, 2])[0] == [None, None]


def test_a_deletion_of_somebody_unknown_is_remembered(world: World) -> None:
    world.send(event(7, None, 6))
    world.drain()
    world.send(event(7, "nurse", 5))
    assert world.drain().outcomes == {"stale": 1}


@pytest.mark.parametrize("text", ["", " \n\t\u200b"])
def test_an_empty_text_is_missing_and_never_zeros(world: World, text: str) -> None:
    world.send(event(7, "nurse", 1))
    world.drain()
    world.send(event(7, text, 2))
    world.drain()
    vectors, tags = world.served("member.profile", [7])
    assert vectors == [None]
    assert tags == [MISSING]
    assert world.history("member.profile").embedding.tolist()[-1] is None


def test_another_encoder_is_another_version_and_misses(world: World, tiny_decoder: Path) -> None:
    world.send(event(7, "nurse", 1))
    world.drain()
    other = replace(world.spec, model=tiny_decoder).open()
    assert other.sink.version("member.profile") == 2
    assert other.served("member.profile", [7])[0] == [None]
    other.send(event(7, "nurse", 2))
    assert other.drain().outcomes == {"changed": 1}
    check_served(other, 7, "nurse")
    again = world.spec.open()  # somebody with the old encoder does not get the old version back
    assert again.sink.version("member.profile") == 3


def test_a_worker_with_the_former_encoder_stops(world: World, tiny_decoder: Path) -> None:
    """Its vectors are of another space; what it had in hand is done by those with the new one."""
    old = world.worker("old", patience=0.01)
    new = replace(world.spec, model=tiny_decoder).open()
    world.send(event(7, "nurse", 1))
    world.sink._store.refresh_registry()
    with pytest.raises(TextError) as caught:
        world.drain(old)
    assert caught.value.code == "T052"
    new.drain(new.worker("new", claim_after=0.001))
    np.testing.assert_allclose(new.served("member.profile", [7])[0][0], new.vector("nurse"), atol=1e-6)
    assert world.served("member.profile", [7])[0] == [None]  # version 1


def test_a_join_gets_the_text_of_its_time(world: World) -> None:
    import pandas as pd

    world.send(event(7, "nurse", 10), event(7, "teacher", 20), event(7, None, 30), event(7, "teacher", 20))
    world.drain()
    moments = pd.to_datetime([START + 1000 * at for at in (5, 15, 25, 35)], unit="ms", utc=True)
    frame = pd.DataFrame({"member_id": [7] * 4, "event_timestamp": moments})
    store = world.sink._store
    joined = store.get_historical_features(frame, ["member_profile_text@v1:embedding"]).to_df()
    joined = joined.sort_values("event_timestamp")
    assert len(joined) == 4
    found = joined.embedding.tolist()
    assert found[0] is None
    np.testing.assert_allclose(found[1], world.vector("nurse"), atol=1e-6)
    np.testing.assert_allclose(found[2], world.vector("teacher"), atol=1e-6)
    assert found[3] is None
