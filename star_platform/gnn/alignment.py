"""Joint training: the new encoder learns, beside its objectives, to be a linear map away from an old release.

With z the vector of a node in the new space, y its stored vector in release k - 1, and B a matrix [d_new, d_old]
without bias that is learned with the encoder,

    delta = y - z B
    L     = 1/k (|delta|^2 + |delta E_1|^2 + ... + |delta E_(k-1)|^2)

where E_j is the map from release k - 1 to the j-th release before it, frozen, and every term is a mean over batch and
dimensions. `single` stops after the first term; `multi` guards every older release too (BC-Aligner, Hu et al. 2022).
What is added to the loss of each step is `weight * L`.

Here each term is divided by the mean square of its targets, so that it reads as a share of them and one weight suits
vectors of any scale. A batch holds as many nodes of each type, and L is the mean over the types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from star_platform.errors import TrainingError
from star_platform.graph.storage import Graph

FILE = "alignment.safetensors"
NAME = "alignment"
LOSS = "alignment (L)"
"""What L is called among the losses of a run; no objective can have this name."""
SETTLING = 0.2
"""Share of the epochs in which L has yet to come down: no model of that time is chosen, whatever its AUC."""

Float32Array = NDArray[np.float32]


@dataclass(frozen=True)
class AlignTarget:
    """What the nodes of one entity type are aligned to: node `rows[i]` to `vectors[old_rows[i]]`."""

    rows: NDArray[np.int64]
    """int64 [k]: node indices in the new graph."""
    old_rows: NDArray[np.int64]
    """int64 [k]: their rows in `vectors`."""
    vectors: Float32Array
    """float32 [n_old, d_old] of the old release; may be a memory map."""
    earlier: tuple[Float32Array, ...] = ()
    """Maps from the old release's space to older ones, [d_old, d_older] each; used by `multi`."""


@dataclass(frozen=True)
class Alignment:
    """Which release to stay close to, how closely, and through which nodes."""

    release: int
    space: str
    mode: Literal["single", "multi"]
    weight: float
    """Of L beside the objectives; 0 is plain training."""
    batch: int
    """Nodes per step, over all types together."""
    moment: int
    """Microseconds. Nodes are seen as they were then: that of the old vectors, and not after validation starts."""
    nodes: Mapping[str, AlignTarget]
    fingerprint: str
    """Of everything above; a checkpoint made with another one is not resumed."""


def settled(at: float, max_epochs: int) -> bool:
    """Whether a model of moment `at`, in epochs, may be chosen although L is still coming down before."""
    return at > SETTLING * max_epochs


def save_alignment(folder: Path, names: Sequence[str], weights: Mapping[str, Tensor]) -> None:
    """Write B [d_new, d_old] of each node type beside the model, from the state of an `Aligner`."""
    maps = {name: weights[f"maps.{place}"].detach().clone().contiguous() for place, name in enumerate(names)}
    save_file(maps, folder / FILE)


def load_alignment(model_dir: Path) -> dict[str, Float32Array]:
    """B by node type, float32 [d_new, d_old]: `z @ B` is in the old space. Empty for a model trained without.

    Raises:
        TrainingError: M008 when the file is damaged.
    """
    path = model_dir / FILE
    if not path.exists():
        return {}
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(
            "M008", f"{path} cannot be read: {error}", hint="release again: it is trained anew"
        ) from error


def check(alignment: Alignment, graph: Graph, validation_start: int) -> None:
    """Raises TrainingError M011 for what cannot be aligned, or must not be."""
    if alignment.moment > validation_start:
        raise _unusable("its nodes would be seen after validation starts", "let `moment` be the earlier of both")
    if not any(len(target.rows) for target in alignment.nodes.values()):
        raise _unusable("no node of the graph has a vector there", "leave joint training out for this release")
    for name, target in alignment.nodes.items():
        count, old = graph.num_nodes(name), len(target.vectors)
        pairs = (target.rows, count), (target.old_rows, old)
        if len(target.rows) != len(target.old_rows) or not all(_within(rows, size) for rows, size in pairs):
            raise _unusable(f"rows of {name!r} do not fit {count} nodes and {old} old vectors", "join them by id again")
        if any(map_.shape[0] != target.vectors.shape[1] for map_ in target.earlier):
            raise _unusable(f"an earlier map of {name!r} starts from another dimension", "give maps of that release")


def _within(rows: NDArray[np.int64], count: int) -> bool:
    return not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < count)


def _unusable(what: str, hint: str) -> TrainingError:
    return TrainingError("M011", f"cannot align to the old release: {what}", hint=hint)
