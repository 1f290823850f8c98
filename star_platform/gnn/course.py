"""The course of a run: which fan-outs it draws next, which model is the best so far, when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from star_platform.gnn.adaptive import FanOutController, FanOutState
from star_platform.gnn.alignment import settled
from star_platform.gnn.checkpoint import RunState
from star_platform.gnn.config import TrainingConfig
from star_platform.graph.sampling import FanOut


class Course:
    """What validations decide, noted in a `RunState`."""

    def __init__(self, config: TrainingConfig, total_steps: int, *, aligned: bool = False) -> None:
        """`total_steps`: of all epochs. `aligned`: whether alignment has to come down first."""
        self._config, self._aligned = config, aligned
        self.controller: FanOutController | None = None
        if config.adaptive.enabled:
            self.controller = FanOutController(config.adaptive, config.fan_outs, total_steps)

    def draw(self, state: RunState, count: int) -> tuple[FanOut, ...] | None:
        """The fan-outs of the next `count` steps; None where they never change."""
        if self.controller is None:
            return None
        held = FanOutState.of(state.fan_out) if state.fan_out else self.controller.start()
        held = self.controller.before(held, count)
        state.fan_out = held.record()
        return self.controller.fan_outs(held)

    def judge(self, state: RunState, entry: Mapping[str, Any]) -> bool:
        """Note a validation in the history; whether its model is the best so far."""
        state.history.append({**entry, **self._observed(state, entry["auc"])})
        if not self._eligible(state.history[-1]):
            return False
        if len(state.history) > 1 and not self._eligible(state.history[-2]):
            state.best = float("-inf")  # what came before does not count
        if entry["auc"] > state.best:
            state.best, state.since_best = entry["auc"], 0
            return True
        state.since_best += 1
        return False

    def go_on(self, state: RunState) -> None:
        """Note whether training is over: epochs or patience used up, and an adaptive fan-out full for long."""
        tired = state.since_best >= self._config.patience
        if self.controller is not None and tired:
            held = FanOutState.of(state.fan_out)
            tired = self.controller.may_stop(held)
            if not tired:
                state.fan_out = self.controller.hurry(held).record()
        state.done = tired or state.epoch >= self._config.max_epochs

    def chosen(self, state: RunState) -> dict[str, Any]:
        """The validation of the best model."""
        return max((entry for entry in state.history if self._eligible(entry)), key=lambda entry: entry["auc"])

    def _observed(self, state: RunState, metric: float) -> dict[str, Any]:
        """What a validation tells the controller of the fan-out, and the history of it."""
        if self.controller is None:
            return {"fan_outs": [hop if isinstance(hop, int) else dict(hop) for hop in self._config.fan_outs]}
        held = FanOutState.of(state.fan_out)
        told = self.controller.entry(held)
        state.fan_out = self.controller.observe(held, metric, state.steps).record()
        return told

    def _eligible(self, entry: Mapping[str, Any]) -> bool:
        """Whether the model of a validation may be chosen: alignment has come down, and the fan-out is full."""
        full = self.controller is None or entry["fan_out"] == self.controller.most
        return full and (not self._aligned or settled(entry["epoch"], self._config.max_epochs))
