"""A training step of learned ids: 1.28 M rows of which a batch reads some tens of thousands.

    python -m benchmarks.id_tables [--quick]

Every step looks up the ids of 100,000 items drawn by a power law (STAR's graph has hubs), sums a loss over them, goes
back, and moves the table. *ours* is `IdTable` with `RowAdam`: gradient and moments of the distinct rows alone. *Sparse
Adam*: `nn.Embedding(sparse=True)` with `torch.optim.SparseAdam`. *Dense AdamW*: `nn.Embedding` with the fused AdamW,
which moves every row in every step. `vs_X` is how many times faster ours is; the allocator keeps freed memory for all
three alike.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._harness import ratio, report, spread, take_turns
from star_platform.gnn import runtime
from star_platform.gnn.ids import IdTable, RowAdam

DIM, ITEMS = 64, 100_000
CORES = len(os.sched_getaffinity(0))


def batches(rows: int, count: int) -> list[Tensor]:
    """int64[ITEMS] each, by a power law over shuffled ids."""
    rng = np.random.default_rng(0)
    order = rng.permutation(rows)
    return [torch.from_numpy(order[(rows * rng.random(ITEMS) ** 3).astype(np.int64)]) for _ in range(count)]


def ours(rows: int, given: list[Tensor], target: Tensor) -> Callable[[], object]:
    table = IdTable(rows, DIM, sparse=True)
    adam = RowAdam({"ids": table}, 1e-3, 0.0)

    def run() -> None:
        for batch in given:
            adam.zero_grad()
            (table(batch) * target).sum().backward()  # type: ignore[no-untyped-call]
            adam.step()

    return run


def theirs(
    table: nn.Embedding, optimizer: torch.optim.Optimizer, given: list[Tensor], target: Tensor
) -> Callable[[], object]:
    def run() -> None:
        for batch in given:
            optimizer.zero_grad()
            (table(batch) * target).sum().backward()
            optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds; under 50 s")
    rounds, count = (3, 2) if parser.parse_args().quick else (9, 4)
    rows = 1_280_000
    torch.set_num_threads(CORES)
    runtime.keep_freed_memory()
    given, target = batches(rows, count), torch.randn(ITEMS, DIM)
    sparse, dense = nn.Embedding(rows, DIM, sparse=True), nn.Embedding(rows, DIM)
    seconds = take_turns(
        {
            "ours": ours(rows, given, target),
            "sparse_adam": theirs(sparse, torch.optim.SparseAdam(sparse.parameters(), 1e-3), given, target),
            "dense_adamw": theirs(
                dense, torch.optim.AdamW(dense.parameters(), 1e-3, weight_decay=0.0, fused=True), given, target
            ),
        },
        rounds,
    )
    others = ("sparse_adam", "dense_adamw")
    report(
        "id_tables",
        {f"vs_{name}": round(ratio(seconds[name], seconds["ours"]), 2) for name in others},
        {f"vs_{name}": spread(seconds[name], seconds["ours"]) for name in others},
        {
            "ms": {name: round(float(np.median(values)) / count * 1e3, 1) for name, values in seconds.items()},
            "distinct_rows": int(np.median([len(batch.unique()) for batch in given])),
        },
        {"rows": rows, "dim": DIM, "items": ITEMS, "rounds": rounds, "steps": count, "cores": CORES},
    )


if __name__ == "__main__":
    main()
