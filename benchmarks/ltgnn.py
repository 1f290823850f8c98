"""Seconds of one epoch of LTGNN beside one of 3-layer LightGCN in torch's sparse CSR: Gowalla, dim 64, batch 2,048.

    python -m benchmarks.ltgnn [--quick]

LTGNN trains with the settings of examples/gowalla, softmax among 1,024 shared negatives; with BPR, one uniform negative
per pair as LightGCN has, it is given as well (`bpr`). Both sides use Adam, all cores and one process, taking turns.
LightGCN propagates over the whole graph, forward and backward, in every step, so its steps cost the same: a number of
them is timed and scaled to the steps of an epoch. Its backward is written for a symmetric matrix (one more product per
layer), which is faster than what autograd does with a CSR matrix; that one is timed too (`autograd`). An epoch of LTGNN
is timed whole: negatives, memory refresh, every step.

The second part times LTGNN's epoch on generated graphs of growing size, 12 edges a node with power-law popularity; the
slope of log seconds over log edges is 1 where the cost is linear. `slope` is that of the settings of examples/gowalla;
with BPR it is given as well. What lifts it above 1 is the memory: the work per edge is the same, but at 10^5 edges all
vectors are in the processor's caches, at 10^7 none is, and a small graph's batch meets the same nodes more than once.
Seconds of the processor are given beside those on the wall, for a machine that is not quiet.

Without Gowalla (`$STAR_DATA`, or ../shared/data) the first part runs on a generated graph of its size, and says so.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks._harness import ratio, report, spread, take_turns
from star_platform.gnn import runtime
from star_platform.gnn.ltgnn.interactions import Interactions, read_pairs
from star_platform.gnn.ltgnn.recommender import Recommender, RecommenderConfig

CORES = len(os.sched_getaffinity(0))
DATA = Path(os.environ.get("STAR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "gowalla"
DIM, BATCH, LAYERS = 64, 2048, 3
USERS, ITEMS, PAIRS = 29_858, 40_981, 810_128
EDGES_PER_NODE = 12
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "gowalla" / "run.py"


def settings() -> dict[str, RecommenderConfig]:
    """Those that examples/gowalla trains with, and BPR."""
    chosen: RecommenderConfig = runpy.run_path(str(EXAMPLE))["CHOSEN"]
    size: dict[str, Any] = {"dim": DIM, "batch_size": BATCH, "threads": CORES}
    return {"softmax": dataclasses.replace(chosen, **size), "bpr": RecommenderConfig(**size)}


def gowalla() -> Interactions:
    """The official training pairs."""
    parts = [read_pairs(DATA / name) for name in ("train_minus_valid.txt", "valid.txt")]
    users, items = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    return Interactions.of(users, items, USERS, ITEMS)


def generated(pairs: int, users: int, items: int, seed: int = 7) -> Interactions:
    """Pairs of users and items, both of power-law popularity; repeated pairs are drawn again."""
    rng = np.random.default_rng(seed)
    keys = np.empty(0, dtype=np.int64)
    while len(keys) < pairs:
        missing = int(1.05 * (pairs - len(keys))) + 16
        sides = ((rng.random(missing) ** 2 * size).astype(np.int64) for size in (users, items))
        drawn_users, drawn_items = sides
        keys = np.union1d(keys, rng.permutation(users)[drawn_users] * items + drawn_items)
    keys = np.sort(rng.permutation(keys)[:pairs])
    return Interactions.of(keys // items, keys % items, users, items)


class _Product(torch.autograd.Function):
    """`matrix @ vectors` for a symmetric matrix: the gradient is one more product, without a transposed copy."""

    @staticmethod
    def forward(context: Any, matrix: Tensor, vectors: Tensor) -> Tensor:
        context.matrix = matrix
        return matrix @ vectors

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, context.matrix @ gradient


class LightGCN:
    """He et al. 2020: no self-loops, mean of layers 0 to 3, L2 1e-4, Adam 1e-3 over the whole table."""

    def __init__(self, pairs: Interactions, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.pairs, self.product = pairs, product
        nodes = pairs.num_users + pairs.num_items
        users, items = torch.from_numpy(pairs.users), torch.from_numpy(pairs.items.astype(np.int64)) + pairs.num_users
        degree = torch.bincount(torch.cat([users, items]), minlength=nodes).clamp(min=1).double()
        values = (degree[users] * degree[items]).rsqrt().float()
        places = torch.stack([torch.cat([users, items]), torch.cat([items, users])])
        self.matrix = torch.sparse_coo_tensor(places, values.repeat(2), (nodes, nodes)).coalesce().to_sparse_csr()
        self.table = torch.nn.Parameter(0.1 * torch.randn(nodes, DIM))
        self.optimizer = torch.optim.Adam([self.table], lr=1e-3, fused=True)
        self.rng = np.random.default_rng(0)

    def steps(self, count: int) -> None:
        """That many steps on random pairs."""
        for key in range(count):
            chosen = self.rng.integers(len(self.pairs), size=BATCH)
            users = np.searchsorted(self.pairs.indptr, chosen, side="right") - 1
            others = torch.from_numpy(self.pairs.others(users, key)) + self.pairs.num_users
            self.step(
                torch.from_numpy(users),
                torch.from_numpy(self.pairs.items[chosen]).long() + self.pairs.num_users,
                others,
            )

    def step(self, users: Tensor, items: Tensor, others: Tensor) -> None:
        """One step of BPR."""
        self.optimizer.zero_grad()
        total = layer = self.table
        for _ in range(LAYERS):
            layer = self.product(self.matrix, layer)
            total = total + layer
        found = total / (LAYERS + 1)
        u, i, j = (functional.embedding(rows, found) for rows in (users, items, others))
        own = sum(functional.embedding(rows, self.table).square().sum() for rows in (users, items, others))
        loss = functional.softplus((u * (j - i)).sum(dim=1)).mean() + 1e-4 * 0.5 * own / len(users)
        loss.backward()
        self.optimizer.step()


def beside_lightgcn(quick: bool) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Ratios, spread and figures of the first part."""
    here = DATA.is_dir()
    pairs = gowalla() if here else generated(PAIRS, USERS, ITEMS)
    ours = {name: Recommender(pairs, config) for name, config in settings().items()}
    theirs, plain = LightGCN(pairs, _Product.apply), LightGCN(pairs, torch.mm)
    steps = ours["softmax"].steps_per_epoch
    count, rounds = (3, 2) if quick else (12, 5)
    alone = max(1, count // 3)
    runs = {
        "lightgcn": lambda: theirs.steps(count),
        "ltgnn": ours["softmax"].epoch,
        "bpr": ours["bpr"].epoch,
        "autograd": lambda: plain.steps(alone),
    }
    if quick:
        del runs["bpr"]
    _warm(theirs, plain)
    with runtime.torch_threads(CORES):
        seconds = take_turns(runs, rounds, warm=0)
    epochs = [each * steps / count for each in seconds["lightgcn"]]
    autograd = [each * steps / alone for each in seconds["autograd"]]
    figures = {
        "graph": "gowalla" if here else "generated, of Gowalla's size",
        "ltgnn_epoch_s": float(np.median(seconds["ltgnn"])),
        "lightgcn_epoch_s": float(np.median(epochs)),
        "lightgcn_steps_timed": count * rounds,
        "lightgcn_autograd_epoch_s": float(np.median(autograd)),
        "steps_per_epoch": steps,
    }
    ratios = {
        "vs_lightgcn_epoch": ratio(epochs, seconds["ltgnn"]),
        "vs_lightgcn_autograd": ratio(autograd, seconds["ltgnn"]),
    }
    if "bpr" in runs:
        ratios["vs_lightgcn_epoch_bpr"] = ratio(epochs, seconds["bpr"])
    return ratios, {"vs_lightgcn_epoch": spread(epochs, seconds["ltgnn"])}, figures


def _warm(*models: LightGCN) -> None:
    """Compile our loops on a graph that takes no time, and run one step of each of the others."""
    few = generated(20_000, 700, 970)
    for config in settings().values():
        Recommender(few, config).epoch()
    with runtime.torch_threads(CORES):
        for model in models:
            model.steps(1)


def growth(quick: bool) -> dict[str, Any]:
    """Seconds of an epoch by number of edges, and the log-log slopes; edges count once, not once per direction."""
    sizes = [100_000, 316_228, 1_000_000] + ([] if quick else [3_162_278, 10_000_000])
    configs = settings()
    if quick:
        del configs["bpr"]
    wall: dict[str, list[float]] = {name: [] for name in configs}
    processor: dict[str, list[float]] = {name: [] for name in configs}
    for size in sizes:
        nodes = size // EDGES_PER_NODE
        pairs = generated(size, round(nodes * 0.42), nodes - round(nodes * 0.42))
        for name, config in configs.items():
            run = Recommender(pairs, config)
            taken = [_timed(run.epoch) for _ in range(3 if size < 300_000 or (size < 1_000_000 and not quick) else 1)]
            wall[name].append(float(np.median([each[0] for each in taken])))
            processor[name].append(float(np.median([each[1] for each in taken])))
            print(f"{size:>12,} edges, {name:>8}: {wall[name][-1]:8.2f} s an epoch", flush=True)
            del run
    slopes = {f"slope_{name}": _slope(sizes, seconds) for name, seconds in wall.items()}
    slopes |= {f"slope_{name}_processor": _slope(sizes, seconds) for name, seconds in processor.items()}
    seconds = {f"seconds_{name}": [round(each, 3) for each in found] for name, found in wall.items()}
    return {"slope": slopes["slope_softmax"], **slopes, "edges": sizes, **seconds}


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


def _slope(sizes: list[int], seconds: list[float]) -> float:
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and graphs of up to 10^6 edges")
    quick = parser.parse_args().quick
    runtime.keep_freed_memory()
    ratios, spreads, figures = beside_lightgcn(quick)
    for name, value in {**ratios, **figures}.items():
        print(f"{name:>26} {value:.2f}" if isinstance(value, float) else f"{name:>26} {value}", flush=True)
    figures |= growth(quick)
    print(f"{'log-log slope':>26} {figures['slope']:.3f}", flush=True)
    report("ltgnn", {k: round(v, 2) for k, v in ratios.items()}, spreads, figures, 1 + len(figures["edges"]))


if __name__ == "__main__":
    main()
