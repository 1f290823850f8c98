"""A run's state on disk: tensors without pickle, written in one rename."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from star_platform.errors import TextError

FILE = "checkpoint.safetensors"


@dataclass
class State:
    """Where a run is. Random numbers depend on the seed and the step alone, so there is no generator to keep."""

    key: str
    """What is trained, on what, and how."""
    steps: int = 0
    best: float = float("-inf")
    best_step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=dict)
    """What losses said since the last validation."""


class Keeper:
    """Saves and restores parameters, the best of them so far, and the state of AdamW."""

    def __init__(self, folder: Path, parameters: Mapping[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
        self._path = folder / FILE
        self._parameters = parameters
        self._optimiser = optimiser
        self.best: dict[str, Tensor] = {}

    def save(self, state: State) -> None:
        tensors: dict[str, Tensor] = {f"now.{name}": value for name, value in self._parameters.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        for name, parameter in self._parameters.items():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = torch.as_tensor(value)
        draft = self._path.with_suffix(".draft")
        plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        save_file(plain, draft, {"state": json.dumps(asdict(state), sort_keys=True)})
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(self._path)

    def keep_best(self) -> None:
        self.best = {name: value.detach().clone() for name, value in self._parameters.items()}

    def take_best(self) -> None:
        """Put the best parameters in place."""
        with torch.no_grad():
            for name, value in self.best.items():
                self._parameters[name].copy_(value)

    def restore(self, key: str) -> State:
        """The state of run `key`, its tensors in place; a new state where there is no checkpoint.

        Raises:
            TextError: T025 when the file is damaged or belongs to another run.
        """
        if not self._path.exists():
            return State(key)
        try:
            with safe_open(self._path, "pt") as file:
                state = State(**json.loads(file.metadata()["state"]))
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise _unusable(self._path, f"cannot be read: {error}") from error
        if state.key != key:
            raise _unusable(self._path, "belongs to another run")
        for name, value in tensors.items():
            kind, _, parameter = name.partition(".")
            if kind == "best":
                self.best[parameter] = value.to(self._parameters[parameter].device)
            elif kind == "now":
                with torch.no_grad():
                    self._parameters[parameter].copy_(value)
            else:
                at = self._parameters[parameter]
                self._optimiser.state[at][kind] = value if kind == "step" else value.to(at.device)
        return state


def _unusable(path: Path, why: str) -> TextError:
    return TextError("T025", f"{path} {why}", hint=f"remove {path.parent}: it is only scratch")
