"""A fan-out that starts small and grows when validation stops improving.

STAR (arXiv 2507.09797, algorithm 1) and LiGNN (arXiv 2402.11139, section 4.1), with K the configured fan-out:

    after each validation with metric m:    if m <= best + tolerance:  k = min(k + grow, K)
                                            best = max(best, m);  tolerance *= decay

Early in training a few neighbours tell nearly as much as all of them, and a step with few is cheap. Only the numbers
that samplers are given change, so it works with every one of them. k never shrinks, and a hop or relation never takes
more than its own configured fan-out.

Vectors are published at the full fan-out, so training must end at it: the last `full_share` of all steps have it
whatever validation says. Where training is cut short the same holds of the steps that were made: when patience runs out
(`hurry`) the fan-out is full from there on, and training goes on until the steps at the full one are `full_share` of
all (`may_stop`). The trainer chooses among models that were validated at the full fan-out, for only these tell what the
published vectors are worth, and so patience counts from there as well.

Everything here is a value: a state, and functions from one to the next. A run resumed from a stored state goes on as if
it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from star_platform.errors import TrainingError
from star_platform.gnn.config import AdaptiveConfig

Hop = int | Mapping[str, int]
"""Neighbours of a hop: one number, or one per edge type."""


@dataclass(frozen=True)
class FanOutState:
    """Where the schedule is."""

    k: int
    """Neighbours per hop, before each hop's own limit."""
    tolerance: float
    """What the next validation must beat the best by for k to stay."""
    steps: int = 0
    """Steps of training done."""
    best: float | None = None
    """Best metric so far; None before the first validation."""
    full_since: int | None = None
    """Steps that were done when the fan-out became full; None while it is not."""

    def record(self) -> dict[str, Any]:
        """As JSON, for a checkpoint."""
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> FanOutState:
        """The way back of `record`."""
        return cls(**record)


class FanOutController:
    """Decides the fan-outs of each stretch of steps between two validations.

    Per stretch: `before` it, the steps with `fan_outs`, a validation, `after` it. When patience runs out, `may_stop`
    says whether training may end there, and `hurry` gives the state to go on with if not.
    """

    def __init__(self, config: AdaptiveConfig, full: tuple[Hop, ...], total_steps: int) -> None:
        """`full`: the configured fan-outs, nearest hop first. `total_steps`: of all epochs, or a lower bound.

        A bound that is too low makes the share of steps at the full fan-out larger, never smaller.

        Raises:
            TrainingError: M035 when there is no fan-out that could grow.
        """
        self.config, self.full = config, full
        self.most = max((_most(hop) for hop in full), default=0)
        if self.most == 0:
            raise TrainingError(
                "M035",
                "`adaptive` has no fan-out to grow: the model reads no neighbours",
                hint="give `fan_outs`, or set `adaptive: {enabled: false}`",
            )
        self.latest = max(0, total_steps - math.ceil(config.full_share * total_steps))
        """Steps after which the fan-out is full at the latest."""

    def start(self) -> FanOutState:
        """Before the first step."""
        return self._grown(FanOutState(k=0, tolerance=self.config.tolerance), self.config.start)

    def fan_outs(self, state: FanOutState) -> tuple[Hop, ...]:
        """What samplers draw now, nearest hop first."""
        return tuple(_capped(hop, state.k) for hop in self.full)

    def before(self, state: FanOutState, count: int) -> FanOutState:
        """For the next `count` steps: full if they would reach into the last `full_share`."""
        return self._full(state) if state.steps + count > self.latest else state

    def after(self, state: FanOutState, count: int, metric: float) -> FanOutState:
        """What a validation after `count` more steps makes of `state`."""
        return self.observe(state, metric, state.steps + count)

    def observe(self, state: FanOutState, metric: float, step: int) -> FanOutState:
        """The same with the number of all steps done so far."""
        stale = state.best is not None and metric <= state.best + state.tolerance
        best = metric if state.best is None else max(state.best, metric)
        seen = replace(state, steps=step, best=best, tolerance=state.tolerance * self.config.decay)
        return self._grown(seen, self.config.grow) if stale else seen

    def may_stop(self, state: FanOutState) -> bool:
        """Whether `full_share` of the steps done so far had the full fan-out."""
        return state.full_since is not None and state.full_since <= (1 - self.config.full_share) * state.steps + 1e-9

    def hurry(self, state: FanOutState) -> FanOutState:
        """Full from here on: training shall end, but must not yet."""
        return self._full(state)

    def entry(self, state: FanOutState) -> dict[str, Any]:
        """What a validation's entry of the history tells: the fan-outs that the steps before it had, k, tolerance."""
        shown = [hop if isinstance(hop, int) else dict(hop) for hop in self.fan_outs(state)]
        return {"fan_outs": shown, "fan_out": state.k, "tolerance": state.tolerance}

    def _full(self, state: FanOutState) -> FanOutState:
        return self._grown(state, self.most)

    def _grown(self, state: FanOutState, by: int) -> FanOutState:
        k = min(state.k + by, self.most)
        since = state.steps if k == self.most and state.full_since is None else state.full_since
        return replace(state, k=k, full_since=since)


LOGGED = ("step", "epoch", "fan_out", "fan_outs", "auc", "tolerance", "seconds")


def rows(validations: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The schedule as `history.json` has it under `fan_out`: one row per validation of an adaptive run."""
    return [{key: entry[key] for key in LOGGED if key in entry} for entry in validations if "fan_out" in entry]


def _most(hop: Hop) -> int:
    return hop if isinstance(hop, int) else max(hop.values(), default=0)


def _capped(hop: Hop, k: int) -> Hop:
    return min(hop, k) if isinstance(hop, int) else {name: min(value, k) for name, value in hop.items()}
