"""The state of a recommender on disk, exact enough that a killed and resumed run ends with the same bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from star_platform.errors import TrainingError

if TYPE_CHECKING:
    from star_platform.gnn.ltgnn.recommender import Recommender

FILE = "checkpoint.safetensors"
FORMAT = 2
"""Changes with what is stored, or with what a step computes."""


def _arrays(run: Recommender) -> dict[str, NDArray[Any]]:
    """All that moves; the memory's aggregate follows from the snapshot at the next refresh."""
    memory, adam = run.memory, run.optimizer
    return {
        "table": run.table,
        "adam.first": adam.first,
        "adam.second": adam.second,
        "memory.snapshot": memory.snapshot,
        "memory.moving": memory.moving,
    }


def save(folder: Path, run: Recommender) -> None:
    """Write in one rename, after the bytes are on disk; between epochs only."""
    state = {"key": run.key, "epochs": run.epochs_done, "steps": run.optimizer.steps}
    draft = folder / (FILE + ".draft")
    save_file(_arrays(run), draft, {"state": json.dumps(state, sort_keys=True)})
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(folder / FILE)


def restore(folder: Path, run: Recommender) -> bool:
    """Load the checkpoint in `folder` into `run`, where there is one.

    Raises:
        TrainingError: M033 when the file is damaged or belongs to another run.
    """
    path = folder / FILE
    if not path.exists():
        return False
    try:
        with safe_open(path, "np") as file:
            state = json.loads(file.metadata()["state"])
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        key, epochs, steps = state["key"], int(state["epochs"]), int(state["steps"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            "M033", f"{path} cannot be read: {error}", hint=f"remove {folder}: it is only scratch"
        ) from error
    if key != run.key:
        raise TrainingError("M033", f"{path} belongs to another run", hint=f"remove {folder}: it is only scratch")
    for name, array in _arrays(run).items():
        np.copyto(array, found[name])
    run.epochs_done, run.optimizer.steps = epochs, steps
    return True
