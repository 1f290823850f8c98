"""Adam on the rows of a batch: the table may have millions of rows, a step touches thousands of them."""

from __future__ import annotations

import math

import numpy as np

from star_platform.gnn.ltgnn import _kernels as kernels
from star_platform.gnn.ltgnn import tables
from star_platform.gnn.ltgnn.matrix import ALONE, Float32Array, Int64Array, Workers


class RowAdam:
    """Adam (Kingma and Ba 2015) of one table; rows outside a batch and their moments rest, as in torch's SparseAdam."""

    def __init__(
        self,
        table: Float32Array,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        workers: Workers = ALONE,
    ) -> None:
        self.table, self.betas, self.epsilon, self.workers = table, betas, epsilon, workers
        self.first, self.second = tables.zeros(table.shape), tables.zeros(table.shape)
        self.steps = 0

    def step(self, rows: Int64Array, gradients: Float32Array, lr: float) -> None:
        """Move distinct `rows [b]` against `gradients`, float32 `[b, dim]`."""
        self.steps += 1
        beta_1, beta_2 = self.betas
        size = np.float32(lr / (1.0 - beta_1**self.steps))
        correction = np.float32(1.0 / math.sqrt(1.0 - beta_2**self.steps))
        one, two, epsilon = np.float32(beta_1), np.float32(beta_2), np.float32(self.epsilon)

        def work(first: int, last: int) -> None:
            kernels.adam_rows(
                self.table,
                self.first,
                self.second,
                rows,
                gradients,
                size,
                correction,
                one,
                two,
                epsilon,
                first,
                last,
            )

        self.workers.over(len(rows), work)
