"""What a worker has done: counts, rate, latency; as a line, as JSON, as Prometheus text."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from star_platform.text.nearline.model import Lag

OUTCOMES = ("changed", "unchanged", "stale", "repeated", "refused", "dead")
"""What became of an event; every event that was done has one. `refused`: the entity opted out."""
_WINDOW = 10_000
_RATE_SECONDS = 60.0
_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Metrics:
    """Counts since the start; latencies of the last 10,000 events, from arrival in the stream to being done."""

    target: float
    outcomes: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    """`encoded` and `cached` texts, `claimed` messages, `batches`, `retries`, `late` events."""
    dead: Counter[str] = field(default_factory=Counter)
    """Dead letters by code."""
    lag: Lag | None = None
    started: float = field(default_factory=time.monotonic)
    buckets: Counter[float] = field(default_factory=Counter)
    latency_sum: float = 0.0
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def done(self, latencies: list[float]) -> None:
        """Events that are done, each with its latency in seconds."""
        self._latencies.extend(latencies)
        self.counts["late"] += sum(latency > self.target for latency in latencies)
        self.latency_sum += sum(latencies)
        for latency in latencies:
            self.buckets[next((bound for bound in _BUCKETS if latency <= bound), float("inf"))] += 1
        self._recent.append((time.monotonic(), len(latencies)))
        while self._recent and self._recent[0][0] < time.monotonic() - _RATE_SECONDS:
            self._recent.popleft()

    @property
    def events(self) -> int:
        return self.outcomes.total()

    @property
    def rate(self) -> float:
        """Events per second over the last minute, or since the start if that is shorter."""
        span = min(_RATE_SECONDS, time.monotonic() - self.started)
        return sum(count for _, count in self._recent) / max(span, 1e-9)

    @property
    def skip_share(self) -> float:
        """Of the valid events, those that needed no encode and no write of a vector."""
        valid = self.events - self.outcomes["dead"] - self.outcomes["refused"]
        return 1 - self.outcomes["changed"] / valid if valid else 0.0

    def latency(self, quantile: float) -> float | None:
        """Seconds; None before the first event."""
        return float(np.quantile(self._latencies, quantile)) if self._latencies else None

    def record(self) -> dict[str, Any]:
        """As JSON data; times in seconds."""
        p50, p99 = self.latency(0.5), self.latency(0.99)
        return {
            "events": self.events,
            **{name: self.outcomes[name] for name in OUTCOMES},
            "encoded": self.counts["encoded"],
            "cached": self.counts["cached"],
            "claimed": self.counts["claimed"],
            "batches": self.counts["batches"],
            "retries": self.counts["retries"],
            "late": self.counts["late"],
            "rate": round(self.rate, 2),
            "skip_share": round(self.skip_share, 4),
            "p50": None if p50 is None else round(p50, 4),
            "p99": None if p99 is None else round(p99, 4),
            "target": self.target,
            "dead_by_code": dict(sorted(self.dead.items())),
            "waiting": self.lag.waiting if self.lag else None,
            "pending": self.lag.pending if self.lag else None,
        }

    def line(self) -> str:
        """For people: `1,234 events, 56.7/s, 65 % skipped, p50 0.21 s, p99 0.90 s of 2 s, 17 waiting, 2 dead`."""
        parts = [f"{self.events:,} events", f"{self.rate:,.1f}/s", f"{100 * self.skip_share:.0f} % skipped"]
        p50, p99 = self.latency(0.5), self.latency(0.99)
        if p50 is not None and p99 is not None:
            parts.append(f"p50 {p50:.2f} s, p99 {p99:.2f} s (target {self.target:g} s)")
        if self.lag is not None:
            parts.append(f"{'' if self.lag.exact else 'over '}{self.lag.waiting:,} waiting")
        parts.append(f"{self.outcomes['dead']:,} dead")
        return ", ".join(parts)

    def prometheus(self) -> str:
        """The text format of Prometheus, version 0.0.4."""
        lines = ["# TYPE star_text_events_total counter"]
        lines += [f'star_text_events_total{{outcome="{name}"}} {self.outcomes[name]}' for name in OUTCOMES]
        lines.append("# TYPE star_text_dead_letters_total counter")
        lines += [f'star_text_dead_letters_total{{code="{code}"}} {n}' for code, n in sorted(self.dead.items())]
        for name in ("encoded", "cached", "claimed", "batches", "retries", "late"):
            lines += [f"# TYPE star_text_{name}_total counter", f"star_text_{name}_total {self.counts[name]}"]
        lines.append("# TYPE star_text_latency_seconds histogram")
        below = 0
        for bound in _BUCKETS:
            below += self.buckets[bound]
            lines.append(f'star_text_latency_seconds_bucket{{le="{bound:g}"}} {below}')
        total = below + self.buckets[float("inf")]
        lines.append(f'star_text_latency_seconds_bucket{{le="+Inf"}} {total}')
        lines += [f"star_text_latency_seconds_sum {self.latency_sum:.6f}", f"star_text_latency_seconds_count {total}"]
        lines += ["# TYPE star_text_latency_target_seconds gauge", f"star_text_latency_target_seconds {self.target:g}"]
        if self.lag is not None:
            lines += ["# TYPE star_text_waiting gauge", f"star_text_waiting {self.lag.waiting}"]
            lines += ["# TYPE star_text_pending gauge", f"star_text_pending {self.lag.pending}"]
        return "\n".join(lines) + "\n"
