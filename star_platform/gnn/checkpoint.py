"""A run's state on disk, exact enough that a killed and resumed run ends with the same bytes; no pickle."""

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

from star_platform.errors import TrainingError
from star_platform.gnn.optimiser import Optimiser

FILE = "checkpoint.safetensors"


@dataclass
class RunState:
    """Where a run is, besides its tensors."""

    key: str
    """What is trained, on what, and how: a checkpoint of another run is not resumed."""
    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    steps: int = 0
    """Steps done in all."""
    best: float = float("-inf")
    since_best: int = 0
    """Validations without a better one."""
    done: bool = False
    timing: list[dict[str, Any]] = field(default_factory=list)
    """Seconds and shares of work before each validation; no result, so it is kept out of the history."""
    fan_out: dict[str, Any] = field(default_factory=dict)
    """State of the controller of an adaptive fan-out."""
    history: list[dict[str, Any]] = field(default_factory=list)


def save(folder: Path, state: RunState, model: nn.Module, best: Mapping[str, Tensor], optimiser: Optimiser) -> None:
    """Write in one rename, after the bytes are on disk."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    tensors |= {f"optimiser.{name}": tensor for name, tensor in optimiser.state().items()}
    tensors["rng"] = torch.get_rng_state()
    target = folder / FILE
    draft = target.with_suffix(".draft")
    # Copies: safetensors refuses tensors that share memory, which `best` and `model` may do.
    save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, draft, _metadata(state))
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)


def _metadata(state: RunState) -> dict[str, str]:
    return {"state": json.dumps(asdict(state), sort_keys=True)}


def restore(
    folder: Path, key: str, model: nn.Module, optimiser: Optimiser
) -> tuple[RunState, dict[str, Tensor]] | None:
    """Load the checkpoint of run `key` into model, optimiser and torch's random state; None where there is none.

    Returns:
        The state and the weights of the best validation so far.

    Raises:
        TrainingError: M007 when the file is damaged or belongs to another run.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            state = RunState(**json.loads(file.metadata()["state"]))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            "M007", f"{path} cannot be read: {error}", hint=f"remove {folder}: it is only scratch"
        ) from error
    if state.key != key:
        raise TrainingError("M007", f"{path} belongs to another run", hint=f"remove {folder}: it is only scratch")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if rest:
            parts[part][rest] = tensor
    model.load_state_dict(parts["model"])
    optimiser.restore(parts["optimiser"])
    torch.set_rng_state(tensors["rng"])
    return state, parts["best"]
