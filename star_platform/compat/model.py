"""What this room works with: the vectors of a release, and a map from its space into an older one.

Rows are entities and maps multiply on the right: `E_m ~ E_n @ weights + bias` with weights `[d_n, d_m]`, from a newer
release n to an older m and never back (STAR, arXiv 2507.09797, equation 8). numpy alone applies a map: readers need
no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from star_platform.errors import CompatError

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Method = Literal["identity", "ridge", "procrustes", "low-rank", "residual", "joint"]
Via = Literal["direct", "composed"]

FORMAT_VERSION = 1
WEIGHTS, FACTS = "maps.safetensors", "maps.json"


@dataclass(frozen=True, eq=False)
class Vectors:
    """One node type of one release."""

    ids: pa.Array[Any]
    """`[n]` int or string, unique."""
    vectors: Float32Array
    """`[n, dim]`, usually a memory map; row i belongs to `ids[i]`."""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.ids) != len(self.vectors):
            raise CompatError(
                "C002",
                f"{len(self.ids)} ids and vectors of shape {list(self.vectors.shape)} do not belong together",
                hint="one row of vectors per id, from the same artefact",
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])


@dataclass(frozen=True, eq=False)
class SpaceVectors:
    """The vectors of every entity node type of one release."""

    release: int
    space: str
    """Fingerprint of the embedding space."""
    nodes: Mapping[str, Vectors]


@dataclass(frozen=True, eq=False)
class Hidden:
    """What a residual map adds to the linear part: `relu(x @ w1 + b1) @ w2 + b2`, all float64."""

    w1: Float64Array
    """`[d_n, h]`."""
    b1: Float64Array
    """`[h]`."""
    w2: Float64Array
    """`[h, d_m]`."""
    b2: Float64Array
    """`[d_m]`."""


@dataclass(frozen=True, eq=False)
class CompatMap:
    """A map of one node type from release `source` to the space of the older release `target`."""

    node: str
    source: int
    target: int
    source_space: str
    target_space: str
    weights: Float64Array
    """`[d_n, d_m]`."""
    bias: Float64Array
    """`[d_m]`."""
    normalise: bool
    """Bring every mapped vector to length 1, because those of the target have it."""
    method: Method
    via: Via = "direct"
    hidden: Hidden | None = None
    """None: the map is linear."""
    fidelity: Mapping[str, float] = field(default_factory=dict)
    """Figures on held-out entities, such as `r2`, `cosine_mean`, `cosine_p5`, `overlap_10`."""

    def __post_init__(self) -> None:
        d_n, d_m = self.weights.shape
        shapes: list[tuple[Float64Array, tuple[int, ...]]] = [(self.bias, (d_m,))]
        if self.hidden is not None:
            h = self.hidden.b1.shape[0]
            shapes += [(self.hidden.w1, (d_n, h)), (self.hidden.w2, (h, d_m)), (self.hidden.b2, (d_m,))]
        if any(array.shape != shape for array, shape in shapes):
            raise CompatError("C003", f"the parts of the map {self.name} have dimensions that do not fit each other")

    @property
    def name(self) -> str:
        """Such as `member:r3->r1`."""
        return f"{self.node}:r{self.source}->r{self.target}"

    @property
    def dims(self) -> tuple[int, int]:
        """(d_n, d_m)."""
        return int(self.weights.shape[0]), int(self.weights.shape[1])

    def apply(self, vectors: NDArray[Any]) -> Float32Array:
        """Vectors `[n, d_n]` of the source release as float32 `[n, d_m]` in the space of the target.

        Computed in float32: one matmul, and two more for a residual map. A row of zeros that is normalised stays zeros.

        Raises:
            CompatError: C003 when the vectors have another dimension.
        """
        x = np.asarray(vectors, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.weights.shape[0]:
            raise CompatError(
                "C003",
                f"{self.name} takes vectors of {self.weights.shape[0]} dimensions, not an array {list(x.shape)}",
                hint=f"hand it vectors of release r{self.source}",
            )
        weights, bias, hidden = self._float32
        mapped: Float32Array = x @ weights
        mapped += bias
        if hidden is not None:
            w1, b1, w2, b2 = hidden
            inner = x @ w1
            inner += b1
            mapped += np.maximum(inner, 0.0, out=inner) @ w2
            mapped += b2
        return unit_rows(mapped) if self.normalise else mapped

    @cached_property
    def _float32(self) -> tuple[Float32Array, Float32Array, tuple[Float32Array, ...] | None]:
        hidden = None
        if self.hidden is not None:
            parts = (self.hidden.w1, self.hidden.b1, self.hidden.w2, self.hidden.b2)
            hidden = tuple(np.ascontiguousarray(part, dtype=np.float32) for part in parts)
        return np.ascontiguousarray(self.weights, np.float32), np.ascontiguousarray(self.bias, np.float32), hidden

    @cached_property
    def fingerprint(self) -> str:
        """The first 32 hex digits of SHA-256 over everything that changes what `apply` answers, and the two spaces."""
        content = hashlib.sha256(json.dumps(self._facts(), sort_keys=True).encode())
        for name, array in sorted(self._arrays().items()):
            content.update(f"\0{name}{list(array.shape)}\0".encode())
            content.update(array.tobytes())
        return content.hexdigest()[:32]

    def _facts(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "source": self.source,
            "target": self.target,
            "source_space": self.source_space,
            "target_space": self.target_space,
            "normalise": self.normalise,
            "method": self.method,
            "via": self.via,
        }

    def _arrays(self) -> dict[str, Float64Array]:
        arrays = {"weights": self.weights, "bias": self.bias}
        if self.hidden is not None:
            arrays |= {
                "w1": self.hidden.w1,
                "b1": self.hidden.b1,
                "w2": self.hidden.w2,
                "b2": self.hidden.b2,
            }
        return {name: np.ascontiguousarray(array, dtype="<f8") for name, array in arrays.items()}


def unit_rows(vectors: Float32Array) -> Float32Array:
    """Each row of `vectors` brought to length 1, in place; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0.0] = 1.0
    vectors /= lengths
    return vectors


def save_maps(folder: Path, maps: Sequence[CompatMap]) -> None:
    """Write maps into an existing folder as `maps.safetensors` and `maps.json`; equal maps give equal bytes.

    Raises:
        CompatError: C004 when two of them have one name.
    """
    from safetensors.numpy import save_file

    ordered = sorted(maps, key=lambda each: (each.node, each.source, each.target))
    names = [each.name for each in ordered]
    if len(set(names)) < len(names):
        raise CompatError("C004", f"two maps have one name: {', '.join(names)}")
    arrays = {f"{each.name}/{part}": array for each in ordered for part, array in each._arrays().items()}
    save_file(arrays, folder / WEIGHTS)
    facts = [{**each._facts(), "hidden": each.hidden is not None, "fidelity": dict(each.fidelity)} for each in ordered]
    content = {"format_version": FORMAT_VERSION, "maps": facts}
    (folder / FACTS).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_maps(folder: Path) -> tuple[CompatMap, ...]:
    """What `save_maps` wrote, ordered by node type, source and target.

    Raises:
        CompatError: C001 when a file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        content = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        arrays = load_file(folder / WEIGHTS)
        return tuple(_restored(facts, arrays) for facts in content["maps"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CompatError(
            "C001", f"the maps in {folder} cannot be read: {error}", hint="release again: they are fitted anew"
        ) from error


def _restored(facts: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> CompatMap:
    name = f"{facts['node']}:r{facts['source']}->r{facts['target']}"
    rest = {key: value for key, value in facts.items() if key != "hidden"}
    hidden = Hidden(*(arrays[f"{name}/{part}"] for part in ("w1", "b1", "w2", "b2"))) if facts["hidden"] else None
    return CompatMap(**rest, weights=arrays[f"{name}/weights"], bias=arrays[f"{name}/bias"], hidden=hidden)
