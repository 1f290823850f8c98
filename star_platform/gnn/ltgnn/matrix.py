"""The normalised adjacency that vectors are propagated over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from star_platform.errors import TrainingError
from star_platform.gnn.ltgnn import _kernels as kernels
from star_platform.gnn.ltgnn import tables

Key = TypeVar("Key")
Made = TypeVar("Made")
Float32Array = NDArray[np.float32]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]


@dataclass(frozen=True)
class Csr:
    """A square sparse matrix by rows."""

    indptr: Int64Array
    """`[n + 1]`."""
    indices: Int32Array
    """`[nnz]`, ascending within a row."""
    values: Float32Array
    """`[nnz]`."""

    @property
    def num_rows(self) -> int:
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Propagation:
    """`A~ = D_row^-1/2 (A + I) D_col^-1/2` and its transpose; its spectral norm is at most 1 for weights >= 0.

    With symmetric weights the two degree matrices are equal and `backward` is `forward` itself.
    """

    forward: Csr
    """Row v: what node v receives, and how strongly."""
    backward: Csr
    """The transpose, which gradients are propagated over."""

    @property
    def num_nodes(self) -> int:
        return self.forward.num_rows


def propagation(
    num_nodes: int,
    sources: NDArray[Any],
    targets: NDArray[Any],
    weights: Float32Array | None = None,
    *,
    symmetric: bool = True,
    self_loops: bool = True,
) -> Propagation:
    """The normalised adjacency of edges from `sources [e]` to `targets [e]`.

    Args:
        num_nodes: nodes n; ids count from 0.
        sources: node that each edge comes from.
        targets: node that receives it.
        weights: float32[e], not negative; 1 when None. Parallel edges add up.
        symmetric: let every edge lead both ways.
        self_loops: add an edge of weight 1 from every node to itself, as LTGNN does.

    Raises:
        TrainingError: M030 for ids outside the graph, or weights that are negative or not finite.
    """
    values = np.ones(len(sources), np.float32) if weights is None else np.asarray(weights, np.float32)
    _check(num_nodes, sources, targets, values)
    shape = (num_nodes, num_nodes)
    matrix = sp.csr_matrix((values, (targets.astype(np.int32), sources.astype(np.int32))), shape=shape)
    if symmetric:
        matrix = (matrix + matrix.T).tocsr()
    if self_loops:
        matrix = (matrix + sp.identity(num_nodes, dtype=np.float32, format="csr")).tocsr()
    matrix.sort_indices()
    by_row = _inverse_root(np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel())
    by_column = by_row if symmetric else _inverse_root(np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel())
    rows = np.repeat(np.arange(num_nodes), np.diff(matrix.indptr))
    matrix.data = (matrix.data * by_row[rows] * by_column[matrix.indices]).astype(np.float32)
    forward = _csr(matrix)
    return Propagation(forward, forward if symmetric else _csr(matrix.T.tocsr()))


def _check(num_nodes: int, sources: NDArray[Any], targets: NDArray[Any], values: Float32Array) -> None:
    if num_nodes >= 2**31 or (len(sources) and (min(sources.min(), targets.min()) < 0)):
        raise TrainingError("M030", "node ids of a propagation graph are from 0 to 2^31 - 2")
    if len(sources) and max(sources.max(), targets.max()) >= num_nodes:
        raise TrainingError("M030", f"an edge names a node that is not among the {num_nodes:,} of the graph")
    if not np.isfinite(values).all() or (values < 0).any():
        raise TrainingError(
            "M030", "weights of a propagation graph are finite and not negative", hint="look at the edge's `weight`"
        )


def _inverse_root(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    roots = np.zeros_like(degrees)
    np.divide(1.0, np.sqrt(degrees), out=roots, where=degrees > 0)
    return roots


def _csr(matrix: sp.csr_matrix) -> Csr:
    matrix.sort_indices()
    return Csr(
        matrix.indptr.astype(np.int64),
        tables.copied(matrix.indices, np.int32),
        tables.copied(matrix.data, np.float32),
    )


class Workers:
    """Threads that each take a share of the rows. Rows are independent: bytes do not depend on their number."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1:  # each with one thread of torch, whose own would only contend with ours
            self._pool = ThreadPoolExecutor(threads, "propagation", torch.set_num_threads, (1,))

    def each(self, work: Callable[[Key], Made], keys: Iterable[Key]) -> list[Made]:
        """`work(key)` of every key, in their order."""
        if self._pool is None:
            return [work(key) for key in keys]
        return list(self._pool.map(work, keys))

    def over(self, rows: int, work: Callable[[int, int], None]) -> None:
        """`work(first, last)` over all rows, in parallel."""
        if self._pool is None or rows < 2 * self.threads:
            work(0, rows)
            return
        bounds = [rows * place // self.threads for place in range(self.threads + 1)]
        for done in [self._pool.submit(work, bounds[i], bounds[i + 1]) for i in range(self.threads)]:
            done.result()


ALONE = Workers(1)


def multiply(
    matrix: Csr,
    vectors: Float32Array,
    out: Float32Array,
    workers: Workers = ALONE,
    *,
    scale: float = 1.0,
    base: Float32Array | None = None,
    base_scale: float = 0.0,
) -> None:
    """`out = scale * matrix @ vectors + base_scale * base`, float32 `[n, dim]`; `out` must not be `vectors`."""
    base = vectors if base is None else base

    def work(first: int, last: int) -> None:
        kernels.multiply(
            matrix.indptr,
            matrix.indices,
            matrix.values,
            vectors,
            np.float32(scale),
            base,
            np.float32(base_scale),
            out,
            first,
            last,
        )

    workers.over(matrix.num_rows, work)
