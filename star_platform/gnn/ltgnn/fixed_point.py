"""The implicit layer and its memory: forward with variance reduction, backward, and what vectors are read out of.

    Z* = (1 - a) A~ Z* + a E = a (I - (1 - a) A~)^-1 E                                     (LTGNN, eq. 4 and 5)

With G = dL/dE, transposing gives the gradient's fixed point: G = (1 - a) A~^T G + a dL/dZ. Each step moves the rows
of one batch, of Z and of G, once towards these fixed points; the memory keeps them, so that over the steps of an epoch
all rows get there while one step costs batch x neighbours x dim, however large the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.gnn.ltgnn import _kernels, tables
from star_platform.gnn.ltgnn import _memory_kernels as kernels
from star_platform.gnn.ltgnn.matrix import ALONE, Csr, Float32Array, Int64Array, Propagation, Workers, multiply

START_STEPS = 7
"""Steps of APPNP that the memory starts from, as in the authors' code."""


def appnp(matrix: Csr, inputs: Float32Array, alpha: float, steps: int, workers: Workers = ALONE) -> Float32Array:
    """`steps` full steps of Z <- (1 - alpha) A~ Z + alpha E from Z = E, float32 `[n, dim]` (Gasteiger et al. 2019)."""
    now, then = tables.copied(inputs), tables.zeros(inputs.shape)
    for _ in range(steps):
        multiply(matrix, now, then, workers, scale=1.0 - alpha, base=inputs, base_scale=alpha)
        now, then = then, now
    return now


def without_input(vectors: Float32Array, inputs: Float32Array, share: float) -> Float32Array:
    """`(Z - c0 E) / (1 - c0)`: the part of a node's own input beyond `share` c0 is left out of what is scored."""
    if not share:
        return vectors
    found: Float32Array = inputs * np.float32(-share)
    found += vectors
    found *= np.float32(1.0 / (1.0 - share))
    return found


def read_out(
    matrix: Csr, inputs: Float32Array, alpha: float, steps: int, share: float, workers: Workers = ALONE
) -> Float32Array:
    """The published vectors, float32 `[n, dim]`: `steps` full steps from the inputs, less the inputs' share."""
    return without_input(appnp(matrix, inputs, alpha, steps, workers), inputs, share)


@dataclass(frozen=True)
class Drawn:
    """The entries of the adjacency that one step sees of each row of its batch; undefined beyond a row's count."""

    counts: NDArray[np.int64]
    """`[b]`."""
    places: NDArray[np.int64]
    """`[b, neighbours]`: places among the matrix's entries."""
    neighbours: NDArray[np.int32]
    """`[b, neighbours]`: the nodes that they come from."""
    weights: Float32Array
    """`[b, neighbours]`: values, times entries of the row over entries drawn, so that sums are unbiased."""


def draw(matrix: Csr, rows: Int64Array, neighbours: int, key: int, workers: Workers = ALONE) -> Drawn:
    """Entries of `rows` without replacement, all of a row that has at most `neighbours`; same key, same draw."""
    shape = len(rows), neighbours
    found = Drawn(
        np.empty(len(rows), np.int64), np.empty(shape, np.int64), np.empty(shape, np.int32), np.empty(shape, np.float32)
    )
    seed = np.uint64(key)

    def work(first: int, last: int) -> None:
        _kernels.draw(
            matrix.indptr,
            matrix.indices,
            matrix.values,
            rows,
            neighbours,
            seed,
            found.places,
            found.neighbours,
            found.weights,
            found.counts,
            first,
            last,
        )

    workers.over(len(rows), work)
    return found


class Memory:
    """What is remembered of Z and G between steps: `[n, dim]` each, four times.

    `snapshot` is M_in, the memory as of the last refresh; `aggregate` is A~ M_in; both are float32. `moving [n, 2 dim]`
    holds what every step reads of a neighbour, side by side, so that it is fetched once: Z_mem - M_in (`drift`) and
    G_mem (`gradient`), in float32 or, as uint16, in bfloat16. A step reads a row of it per neighbour and writes one per
    node, so that its bytes are what a step costs. Rounding them does not add up: a visit replaces a row.
    """

    def __init__(
        self,
        matrix: Propagation,
        inputs: Float32Array,
        alpha: float,
        workers: Workers = ALONE,
        *,
        bf16: bool = False,
    ) -> None:
        """Start from `START_STEPS` of APPNP over the inputs, and from a gradient of zero; `bf16`: of `moving`."""
        self.matrix, self.alpha, self.workers = matrix, alpha, workers
        self.dim = inputs.shape[1]
        self.snapshot = appnp(matrix.forward, inputs, alpha, START_STEPS, workers)
        self.aggregate = tables.zeros(inputs.shape)
        self.moving = tables.zeros((len(inputs), 2 * self.dim), np.uint16 if bf16 else np.float32)
        self.refresh()

    @property
    def drift(self) -> NDArray[Any]:
        """Z_mem - M_in, a view."""
        return self.moving[:, : self.dim]

    @property
    def gradient(self) -> NDArray[Any]:
        """G_mem, a view."""
        return self.moving[:, self.dim :]

    @property
    def vectors(self) -> Float32Array:
        """Z_mem (allocates)."""
        found = self.snapshot.copy()
        kernels.add_drift(self.moving, found)
        return found

    def refresh(self) -> None:
        """M_in <- Z_mem and M_agg <- A~ M_in; one pass over all edges, once an epoch."""
        kernels.add_drift(self.moving, self.snapshot)
        self.drift.fill(0)
        multiply(self.matrix.forward, self.snapshot, self.aggregate, self.workers)

    def read(
        self, rows: Int64Array, table: Float32Array, drawn: Drawn, places: Int64Array | None = None
    ) -> tuple[Float32Array, Float32Array, Float32Array]:
        """One step of rows `[b]` towards Z*, and what their neighbours send back; the memory stays as it is.

            Z_B = (1 - a) [b A~_S (Z_mem - M_in) + M_agg] + a E_B

        Unbiased over draws for the full step over Z_mem, and equal to it when nothing has moved since the refresh.
        Neighbours are read once for both, as A~ is symmetric and neither needs the loss; once that is known `settle`
        replaces the memory of these rows.

        Args:
            rows: int64[b], distinct.
            table: float32[m, dim], inputs.
            drawn: of `matrix.forward`.
            places: int64[b], which of the inputs is E of each row; `rows` when None.

        Returns:
            E_B, Z_B and `(1 - a) b A~^T_S G_mem`, float32 `[b, dim]` each.
        """
        own, out, back = (np.empty((len(rows), self.dim), dtype=np.float32) for _ in range(3))
        keep, share = np.float32(1.0 - self.alpha), np.float32(self.alpha)
        at = rows if places is None else places

        def work(first: int, last: int) -> None:
            back[first:last] = 0.0
            kernels.mix(rows, self.aggregate, keep, table, at, share, own, out, first, last)
            kernels.aggregate(drawn.counts, drawn.neighbours, drawn.weights, self.moving, keep, out, back, first, last)

        self.workers.over(len(rows), work)
        return own, out, back

    def settle(
        self, rows: Int64Array, vectors: Float32Array, gradient: Float32Array, received: Float32Array
    ) -> Float32Array:
        """One step of rows `[b]` towards G = dL/dE, float32 `[b, dim]`; the memory of these rows is Z_B and G_B then.

            G_B = (1 - a) b A~^T_S G_mem + a dL/dZ_B

        The authors' code stores G times (1 - sum c), which makes the implicit gradient exact only at c = 0; here it is
        stored as it is.

        Args:
            rows: int64[b], distinct.
            vectors: float32[b, dim], Z of these rows, of `read`.
            gradient: float32[b, dim], dL/dZ of these rows.
            received: the first term, of `read`; overwritten.
        """
        share = np.float32(self.alpha)

        def work(first: int, last: int) -> None:
            kernels.settle(rows, vectors, gradient, share, received, self.snapshot, self.moving, first, last)

        self.workers.over(len(rows), work)
        return received
