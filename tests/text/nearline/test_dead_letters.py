"""Poisoned events land in the dead-letter stream with their reason, and stop nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from star_platform.errors import TextError
from star_platform.text.encoder import EncodedBatch
from star_platform.text.nearline.error_pages import ERROR_PAGES
from tests.text.nearline.world import START, Counting, World, event

GOOD = event(1, "nurse", 1)


def changed(**fields: Any) -> bytes:
    """A good event with other fields; None takes one away."""
    return json.dumps({name: value for name, value in (GOOD | fields).items() if value is not None}).encode()


POISON: dict[str, tuple[bytes, str, str]] = {
    "bad JSON": (b'{"feature": "member.pro', "T041", "not JSON"),
    "no UTF-8": (b"\xff\xfe{}", "T041", "not JSON"),
    "deep nesting": (b"[" * 100_000, "T041", "not JSON"),
    "no object": (b"[1, 2]", "T041", "no JSON object"),
    "unknown field": (changed(colour="red"), "T042", "unknown field 'colour'"),
    "no feature": (changed(feature=None), "T042", "`feature` is missing"),
    "no entity": (changed(entity=None), "T042", "`entity` is missing"),
    "no text": (changed(text=None), "T042", "either `fields` or `text`"),
    "two texts": (changed(fields={"headline": "a", "summary": "b"}), "T042", "either `fields` or `text`"),
    "a number for fields": (changed(text=None, fields=3), "T042", "`fields` is an object"),
    "a column is missing": (changed(text=None, fields={"headline": "a"}), "T042", "lacks the column 'summary'"),
    "a list for a text": (changed(text=["a"]), "T042", "`text` is no text"),
    "half a surrogate": (
        b'{"feature": "member.profile", "entity": 1, "event_time": 1, "text": "\\ud800"}',
        "T042",
        "no text",
    ),
    "deleted is a text": (changed(deleted="yes"), "T042", "`deleted` is true or false"),
    "unknown feature": (changed(feature="member.hobby"), "T043", "there are job.description, member.profile"),
    "unknown node type": (changed(feature="recruiter.bio"), "T044", "no node type 'recruiter'"),
    "an id of the wrong type": (changed(entity="1"), "T044", "whole number"),
    "true as an id": (changed(entity=True), "T044", "whole number"),
    "an id of 65 bits": (changed(entity=2**64), "T044", "whole number"),
    "an empty id": (changed(feature="job.description", entity=""), "T044", "a text of 1 to"),
    "no time": (changed(event_time=None), "T045", "missing"),
    "a time without zone": (changed(event_time="2026-01-01T00:00:00"), "T045", "neither RFC 3339"),
    "no such day": (changed(event_time="2026-02-30T00:00:00Z"), "T045", "no moment"),
    "a time with fractions": (changed(event_time=1.5), "T045", "neither RFC 3339"),
    "before 1970": (changed(event_time=-1), "T045", "before 1970"),
    "the far future": (changed(event_time=32_503_680_000_000), "T045", "after the event's arrival"),
    "a huge text": (changed(text="x" * 300_000), "T046", "more than 262,144"),
}


def test_every_kind_has_its_code_and_stops_nobody(world: World) -> None:
    sent = [payload for payload, _, _ in POISON.values()]
    keys = world.send(*sent, json.dumps(GOOD).encode())
    metrics = world.drain()
    assert metrics.outcomes == {"dead": len(POISON), "changed": 1}
    np.testing.assert_allclose(world.served("member.profile", [1])[0][0], world.vector("nurse"), atol=1e-6)
    letters = {letter["id"]: letter for letter in world.dead()}
    assert len(letters) == len(POISON)
    for key, payload, (name, (_, code, reason)) in zip(keys, sent, POISON.items(), strict=False):
        letter = letters[key]
        assert (letter["code"], reason in letter["reason"]) == (code, True), (name, letter["code"], letter["reason"])
        assert letter["payload"].encode()[:60] == payload.decode(errors="replace").encode()[:60]
        assert int(letter["bytes"]) == len(payload)
        assert code in ERROR_PAGES
    assert world.stream().lag().empty


def test_a_message_without_the_field(world: World) -> None:
    world.stream()._client.xadd(world.spec.stream, {"data": "{}"})
    assert world.drain().dead == {"T041": 1}


def test_times_are_read_as_written(world: World) -> None:
    at = "2025-06-15T17:06:40+02:00"  # START, ten seconds later
    world.send(
        {**event(1, "nurse", 0), "event_time": "2025-06-15T15:06:50.123456Z"},
        {**event(2, "nurse", 0), "event_time": at},
    )
    world.drain()
    states = world.sink.states("member.profile", [1, 2])
    assert [state.order.time for state in states if state] == [
        START * 1000 + 10_123_456 - 10_000_000 + 10_000_000,
        START * 1000,
    ]


def test_only_entities_of_the_release(world: World) -> None:
    signal = world.signals["member.profile"]
    world.signals["member.profile"] = replace(signal, admits={1, 2}.__contains__)
    world.send(event(1, "nurse", 1), event(3, "teacher", 1), event(4, None, 1))
    metrics = world.drain()
    assert metrics.outcomes == {"changed": 2, "dead": 1}  # a deletion is welcome from anybody
    assert metrics.dead == {"T044": 1}


def test_who_opted_out_is_kept_nowhere(world: World) -> None:
    signal = world.signals["member.profile"]
    world.signals["member.profile"] = replace(signal, refuses={3}.__contains__)
    bad = {**event(3, "secret", 1), "event_time": "yesterday"}
    world.send(event(3, "secret", 1), bad, event(1, "nurse", 1))
    assert world.drain().outcomes == {"changed": 1, "refused": 2}
    assert world.dead() == []
    assert world.sink.states("member.profile", [3]) == [None]


class Choking(Counting):
    """Fails on one text, as a model does that returns NaN."""

    def batches(self, texts: Sequence[str]) -> Iterator[EncodedBatch]:
        if "sales" in texts:
            raise TextError("T006", "NaN")
        return super().batches(texts)


def test_one_text_that_the_encoder_fails_on(world: World) -> None:
    choking = Choking(world.encoder)
    for name, signal in world.signals.items():
        world.signals[name] = replace(signal, encoder=choking)
    world.send(event(1, "nurse", 1), event(2, "sales", 1), event(3, "teacher", 1))
    metrics = world.drain()
    assert metrics.outcomes == {"changed": 2, "dead": 1}
    (letter,) = world.dead()
    assert (letter["code"], letter["reason"]) == ("T048", "T006: NaN")
    assert [v is None for v in world.served("member.profile", [1, 2, 3])[0]] == [False, True, False]


@pytest.mark.parametrize("limit", [1, 3])
def test_what_ends_every_worker_is_given_up(world: World, limit: int) -> None:
    """Handed out again and again, and never done."""
    world.send(event(1, "nurse", 1), event(2, "teacher", 1))
    for number in range(limit):
        stream = world.stream(f"dying-{number}", claim_after=0.001)
        assert len(stream.read(10, 10) if number == 0 else stream.claim(10)) == 2
    metrics = world.drain(world.worker("w9", max_deliveries=limit, claim_after=0.001))
    assert metrics.dead == {"T047": 2}
    assert [letter["deliveries"] for letter in world.dead()] == [str(limit + 1)] * 2
