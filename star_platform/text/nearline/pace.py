"""How many events to take at once, so that all of them are served in time."""

from __future__ import annotations

SHARE = 0.4
"""Of the latency target that one batch may take: an event waits for the batch before its own, and has some to spare."""
_FIRST = 8
_SMOOTH = 0.3


class Pace:
    """Sizes batches by the measured seconds per event; starts small, and at most doubles from batch to batch.

    Under little load a batch is what has arrived while the last one ran, so nothing waits for a batch to fill.
    """

    def __init__(self, target: float, most: int) -> None:
        self._budget, self._most = SHARE * target, most
        self._per_event: float | None = None
        self.size = min(_FIRST, most)

    def took(self, events: int, seconds: float) -> None:
        """A batch of `events` took `seconds`."""
        if not events:
            return
        each = max(seconds / events, 1e-7)
        # A slow batch counts at once: being late is worse than being small.
        slow = self._per_event is None or each > self._per_event
        self._per_event = each if slow or self._per_event is None else (1 - _SMOOTH) * self._per_event + _SMOOTH * each
        fits = int(self._budget / self._per_event)
        self.size = max(1, min(fits, 2 * self.size, self._most))
