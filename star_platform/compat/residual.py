"""A small network on top of a linear map, for drifts that no matrix follows (Drift-Adapter, arXiv 2509.23471).

Its last layer starts at zero, so it starts as the linear map. It cannot be composed and is fitted for each older space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.compat.config import CompatConfig
from star_platform.compat.fit import Linear
from star_platform.compat.model import Float64Array, Hidden
from star_platform.compat.pairs import Pairs, gather


def fit_residual(pairs: Pairs, linear: Linear, config: CompatConfig) -> Hidden:
    """Train `relu(x w1 + b1) w2 + b2` on what `linear` leaves of the old vectors; equal inputs give equal weights.

    Uses torch. At most `config.residual_rows` pairs, drawn evenly, are read into memory. Inputs and targets are scaled
    to unit variance for training, and the scales folded into the weights.
    """
    import torch

    some = _at_most(pairs, config)
    new = gather(some.new.vectors, some.rows)
    left = gather(some.old.vectors, some.old_rows) - (new @ linear.weights + linear.bias).astype(np.float32)
    mean, spread, size = new.mean(axis=0, dtype=np.float64), _spread(new), float(_spread(left).mean())
    x = torch.from_numpy(((new - mean) / spread).astype(np.float32))
    y = torch.from_numpy((left / size).astype(np.float32))
    draw = torch.Generator().manual_seed(config.seed)
    width = x.shape[1] ** -0.5
    w1 = ((torch.rand(x.shape[1], config.hidden, generator=draw) * 2 - 1) * width).requires_grad_()
    b1 = ((torch.rand(config.hidden, generator=draw) * 2 - 1) * width).requires_grad_()
    w2 = torch.zeros(config.hidden, y.shape[1], requires_grad=True)
    b2 = torch.zeros(y.shape[1], requires_grad=True)
    optimiser = torch.optim.Adam([w1, b1, w2, b2], lr=config.residual_lr)
    steps = config.residual_epochs * -(-len(x) // config.residual_batch)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    for _ in range(config.residual_epochs):
        order = torch.randperm(len(x), generator=draw)
        for rows in torch.split(order, config.residual_batch):
            loss = torch.nn.functional.mse_loss(torch.relu(x[rows] @ w1 + b1) @ w2 + b2, y[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            decay.step()
    inner, shift, outer, offset = (part.detach().double().numpy() for part in (w1, b1, w2, b2))
    scaled = inner / spread[:, None]
    return Hidden(scaled, shift - mean @ scaled, outer * size, offset * size)


def _at_most(pairs: Pairs, config: CompatConfig) -> Pairs:
    if len(pairs) <= config.residual_rows:
        return pairs
    rng = np.random.default_rng(config.seed)
    return pairs.take(np.sort(rng.choice(len(pairs), config.residual_rows, replace=False)))


def _spread(values: NDArray[Any]) -> Float64Array:
    """Standard deviation of each column, 1 where it does not vary."""
    found: Float64Array = values.std(axis=0, dtype=np.float64)
    found[found == 0.0] = 1.0
    return found
