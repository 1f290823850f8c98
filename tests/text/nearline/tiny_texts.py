"""A realistic stream of edits: most leave the text as it is, or change its layout only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.text.tiny import WORDS

from .world import START


@dataclass(frozen=True)
class Updates:
    """last: the text of each entity in the end. changes: (entity, milliseconds) of every event that changes a text."""

    events: list[dict[str, Any]]
    last: dict[int, str]
    changes: list[tuple[int, int]]

    @property
    def skip_share(self) -> float:
        return 1 - len(self.changes) / len(self.events)


def updates(count: int, entities: int, unchanged: float, seed: int) -> Updates:
    """The first event of an entity always changes its text, so later ones do so more rarely than `1 - unchanged`."""
    generator = np.random.default_rng(seed)
    last: dict[int, str] = {}
    events: list[dict[str, Any]] = []
    changes: list[tuple[int, int]] = []
    later = ((1 - unchanged) * count - entities) / (count - entities)
    for number in range(count):
        entity, at = int(generator.integers(entities)), START + 10 * number
        text = last.get(entity)
        if text is None or generator.random() < later:
            text = " ".join(generator.choice(WORDS, 6)) + f" {number}"
            changes.append((entity, at))
        last[entity] = text
        shown = text.replace(" ", "  \n") if generator.random() < 0.3 else text
        events.append({"feature": "member.profile", "entity": entity, "event_time": at, "text": shown})
    return Updates(events, last, changes)
