"""What a stage will cost, honestly rough."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """Cost of one stage: seconds on this machine, peak memory and store size in bytes."""

    seconds: float
    memory_bytes: int
    store_bytes: int


NOTHING = Estimate(0.0, 0, 0)
