"""Which changes need an encode, a write, or nothing: by event time and by what the text is.

Per entity, in the order of event time (equal times: of arrival), starting from what is served:

    not newer than what is served        repeated or stale: nothing
    newer, the same text                 unchanged: only the event time moves
    newer, another text (or none)        changed: a row of history; the last one is served
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from star_platform.text.cache import text_keys
from star_platform.text.nearline.model import DELETED, MISSING, Change, EntityId, Order, State, TextSignal

Subject = tuple[str, EntityId]
_NOTHING = State(Order(-1, -1), "")


Outcome = Literal["changed", "unchanged", "stale", "repeated"]


@dataclass(frozen=True, slots=True)
class Decided:
    """One change, what becomes of it, and its tag."""

    change: Change
    outcome: Outcome
    tag: str


@dataclass
class Plan:
    """What to do with the changes of a batch.

    served: entities whose text changes, and the state that they shall have. unchanged: those whose text stays.
    """

    decided: list[Decided] = field(default_factory=list)
    served: dict[Subject, State] = field(default_factory=dict)
    unchanged: dict[Subject, State] = field(default_factory=dict)

    @property
    def changed(self) -> list[Decided]:
        return [item for item in self.decided if item.outcome == "changed"]


def plan(
    changes: Iterable[Change], tags: Mapping[tuple[str, str], str], states: Mapping[Subject, State | None]
) -> Plan:
    """Pure: what becomes of `changes`, given the tag of every (feature, text) and what is served."""
    by_subject: dict[Subject, list[Change]] = defaultdict(list)
    for change in changes:
        by_subject[change.subject].append(change)
    result = Plan()
    for subject, own in by_subject.items():
        before = now = states[subject] or _NOTHING
        writes = False
        for change in sorted(own, key=lambda item: item.order):
            decided = _decide(change, tag_of(change, tags), now)
            result.decided.append(decided)
            writes |= decided.outcome == "changed"
            if change.order > now.order:
                now = State(change.order, decided.tag)
        if writes:
            result.served[subject] = now
        elif now.order > before.order:
            result.unchanged[subject] = now
    return result


def _decide(change: Change, tag: str, now: State) -> Decided:
    if change.order == now.order:
        return Decided(change, "repeated", tag)
    if change.order < now.order:
        return Decided(change, "stale", tag)
    return Decided(change, "unchanged" if tag == now.tag else "changed", tag)


def tag_of(change: Change, tags: Mapping[tuple[str, str], str]) -> str:
    """What the text of a change is, whoever's it is."""
    if change.deleted:
        return DELETED
    return tags[change.feature, change.text] if change.text else MISSING


def tags_of(changes: Iterable[Change], signals: Mapping[str, TextSignal]) -> dict[tuple[str, str], str]:
    """The tag of every text: the key that the text cache has it under, so that another encoder's text is another."""
    texts: dict[str, set[str]] = defaultdict(set)
    for change in changes:
        if change.text:
            texts[change.feature].add(change.text)
    result: dict[tuple[str, str], str] = {}
    for feature, distinct in texts.items():
        ordered = sorted(distinct)
        keys, _ = text_keys(signals[feature].encoder.fingerprint, ordered)
        result |= {(feature, text): key.tobytes().hex() for text, key in zip(ordered, keys, strict=True)}
    return result
