"""Examples per second of a training step, beside DGL's recipe, on 1.28 M nodes and 30 M edges (58 M with reverses).

    python -m benchmarks.training [--quick]

Link prediction of 4,096 member-job pairs a step against 512 drawn jobs that all pairs share; 384-d texts projected
to 200, two layers, 4 heads, AdamW. Both sides draw as many neighbours of every relation, [4, 1] (small) and [10, 1]
(large), see all edges that are older than the step, and relabel the nodes of every hop.

*ours* is the trainer's own step, in bfloat16 and in float32, with its prefetching thread. *dgl* is what its guide
shows: `NeighborSampler` blocks, `HeteroGraphConv` of `GATv2Conv` (of `SAGEConv` for mean pooling), float32. `vs_dgl` is
against DGL as a user runs it, in a process with glibc's own malloc settings; `vs_dgl_tuned` against DGL in this
process, whose allocator keeps freed memory as ours does. Both take turns with ours.

`compute_vs_gemm`: the seconds of compute of our step over those of bfloat16 matrix products of as many FLOPs. Matrix
units (AMX) make products ten times as fast, and little else; `ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16` keeps all from them.
`sample_gather_share`: the seconds of sampling and gathering, measured alone on one thread, over all core-seconds of a
step; `waits`: the share of a step in which the computing thread waited for them. `--quick` takes a smaller graph and
batches of an eighth, so that its ratios are not those of the full size.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

os.environ.setdefault("DGLBACKEND", "pytorch")

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._harness import ratio, report, spread
from benchmarks._market import TEXT_DIM, MemoryGraph
from star_platform.gnn import products, runtime
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.trainer import Trainer
from star_platform.signals.model import LinkPrediction, Negatives

DIM, HEADS = 200, 4
FAN_OUTS = {"small": (4, 1), "large": (10, 1)}
EDGE = "applies"
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    nodes: int = 1_280_000
    edges: int = 30_000_000
    batch: int = 4096
    negatives: int = 512
    rounds: int = 3
    steps: int = 2


QUICK = Size(nodes=128_000, edges=3_000_000, batch=512, negatives=128, rounds=2, steps=1)


class Ours:
    """The trainer, and its steps one after another."""

    def __init__(
        self, market: MemoryGraph, size: Size, fan_outs: tuple[int, ...], encoder: str, precision: str, threads: int
    ) -> None:
        self.batch = size.batch
        config = TrainingConfig.model_validate(
            {
                "encoder": encoder,
                "precision": precision,
                "dim": DIM,
                "heads": HEADS,
                "fan_outs": fan_outs,
                "budget": "per-relation",
                "moment": "step",
                "batch_size": size.batch,
                "dropout": 0.0,
                "id_dropout": 0.0,
                "activity": False,
                "age_encoding": False,
                "repeats": "all",
                "threads": threads,
                "negatives": size.negatives,
                "validation_share": 0.01,
                "test_share": 0.0,
                "validation_examples": size.batch,
            }
        )
        objective = LinkPrediction(kind="link-prediction", edge=EDGE, negatives=Negatives(kind="uniform"))
        self.trainer = Trainer(market.graph, {"applies": objective}, config)
        keys = [key for key in self.trainer.training.epoch(0) if len(key.examples) == size.batch]
        self.keys = sorted(keys, key=lambda key: -int(key.examples[0]))  # the latest steps: they see nearly all edges
        self.clock = self.trainer.reader.clock
        self.edges: list[int] = []

    def steps(self, count: int) -> list[float]:
        """Seconds of each of `count` steps, once the prefetching thread is ahead."""
        seconds, begin = [], 0.0
        made = runtime.ahead(self.trainer._made, self.keys[: count + 2])
        for number, (batch, _) in enumerate(made):
            if number == 1:
                self.clock.taken()
            if number > 0:
                self.edges.append(sum(batch.trees.edges))
                with self.clock.measured("compute"):
                    self.trainer._step(batch)
            if number > 1:  # the first only fills the caches
                seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
        return seconds

    def prepared(self, count: int) -> dict[str, float]:
        """Seconds of making a batch without computing with it: `all` of it, and its parts `sample` and `gather`."""
        self.trainer._made(self.keys[0])
        self.clock.taken()
        begin = time.perf_counter()
        for key in self.keys[:count]:
            self.trainer._made(key)
        whole = time.perf_counter() - begin
        return {part: seconds / count for part, seconds in {**self.clock.taken(), "all": whole}.items()}

    def flops(self) -> float:
        """Of the matrix products of one step, forward and backward; all made by torch, for it counts no others."""
        batch, _ = self.trainer._made(self.keys[0])
        torchs_own = mock.patch.object(products, "has_tiles", return_value=False)
        with torchs_own, FlopCounterMode(display=False) as counter:
            self.trainer._step(batch)
        return float(counter.get_total_flops())


class Dgl:
    """The same model and task, written as DGL's guide does."""

    def __init__(self, market: MemoryGraph, size: Size, fan_outs: tuple[int, ...], encoder: str) -> None:
        import dgl
        from dgl.nn.pytorch import GATv2Conv, HeteroGraphConv, SAGEConv

        torch.manual_seed(0)
        self.size = size
        self.pairs = market.edges_named(EDGE)
        data = {
            tuple(name): ("csc", (torch.from_numpy(e.indptr), torch.from_numpy(e.indices).long(), []))
            for name, e in ((name, market.edges(name)) for name in market.edge_types)
        }
        self.graph = dgl.heterograph(data, num_nodes_dict=market.counts).formats("csc")
        self.texts = {node: torch.from_numpy(market.features(node)[0].values) for node in market.node_types}
        self.sampler = dgl.dataloading.NeighborSampler(list(reversed(fan_outs)))  # it takes the deepest hop first
        self.inputs = nn.ModuleDict({node: nn.Linear(TEXT_DIM, DIM) for node in market.node_types})

        def conv() -> nn.Module:
            return GATv2Conv(DIM, DIM // HEADS, HEADS) if encoder == "attention" else SAGEConv(DIM, DIM, "mean")

        self.layers = nn.ModuleList(
            HeteroGraphConv({relation: conv() for relation in self.graph.etypes}, aggregate="sum") for _ in fan_outs
        )
        parameters = [*self.inputs.parameters(), *self.layers.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-3)
        self.edges: list[int] = []
        self._rng = np.random.default_rng(5)
        self._dst = self.pairs.destinations()

    def steps(self, count: int) -> list[float]:
        """Seconds of each of `count` steps, after one that does not count."""
        seconds = []
        for _ in range(count + 1):
            begin = time.perf_counter()
            chosen = self._rng.integers(len(self.pairs.indices), size=self.size.batch)
            self._step(self.pairs.indices[chosen].astype(np.int64), self._dst[chosen].astype(np.int64))
            seconds.append(time.perf_counter() - begin)
        return seconds[1:]

    def _step(self, members: Any, jobs: Any) -> None:
        drawn = self._rng.integers(self.graph.num_nodes("job"), size=self.size.negatives)
        some, src = np.unique(members, return_inverse=True)
        others, dst = np.unique(np.concatenate([jobs, drawn]), return_inverse=True)
        seeds = {"member": torch.from_numpy(some), "job": torch.from_numpy(others)}
        nodes, _, blocks = self.sampler.sample_blocks(self.graph, seeds)
        self.edges.append(sum(block.num_edges() for block in blocks))
        hidden = {node: self.inputs[node](self.texts[node][ids]) for node, ids in nodes.items() if len(ids)}
        for depth, (layer, block) in enumerate(zip(self.layers, blocks, strict=True)):
            hidden = {node: values.flatten(1) for node, values in layer(block, hidden).items()}
            if depth + 1 < len(blocks):
                hidden = {node: functional.leaky_relu(values) for node, values in hidden.items()}
        sources, targets = hidden["member"][torch.from_numpy(src)], hidden["job"][torch.from_numpy(dst)]
        positive = (sources * targets[: len(members)]).sum(1)
        negative = sources @ targets[len(members) :].T
        loss = functional.softplus(-positive).mean() + functional.softplus(negative).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class PlainDgl:
    """DGL in a process of its own, with the allocator as it comes; it shares the market and works when it is asked to.

    The process is forked before torch has started threads here.
    """

    def __init__(self, market: MemoryGraph, size: Size) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(market, size, theirs), daemon=True)
        self._process.start()

    def prepare(self, fan_outs: tuple[int, ...], encoder: str) -> None:
        self._ask((fan_outs, encoder))

    def steps(self, count: int) -> list[float]:
        found: list[float] = self._ask(count)
        return found

    def _ask(self, what: Any) -> Any:
        self._ours.send(what)
        return self._ours.recv()


def _serve(market: MemoryGraph, size: Size, pipe: Connection) -> None:
    torch.set_num_threads(CORES)
    dgl: Dgl | None = None
    while True:
        asked = pipe.recv()
        if isinstance(asked, int):
            assert dgl is not None
            pipe.send(dgl.steps(asked))
        else:
            dgl = None
            dgl = Dgl(market, size, *asked)
            pipe.send(len(dgl.steps(1)))


def gemm_rate() -> float:
    """FLOPs a second of bfloat16 products of a step's usual shape."""
    a, b = torch.randn(100_000, TEXT_DIM).bfloat16(), torch.randn(TEXT_DIM, DIM).bfloat16()
    out = torch.empty(len(a), DIM, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(7):
        begin = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - begin)
    return 2 * len(a) * TEXT_DIM * DIM / best


def compare(
    market: MemoryGraph, size: Size, plain: PlainDgl, name: str, encoder: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """One setting: ratios, spreads and figures."""
    fan_outs, key = FAN_OUTS[name], f"[{name}]" if encoder == "attention" else f"_mean[{name}]"
    plain.prepare(fan_outs, encoder)
    ours, tuned = Ours(market, size, fan_outs, encoder, "bf16", CORES), Dgl(market, size, fan_outs, encoder)
    runs: dict[str, Callable[[int], list[float]]] = {"ours": ours.steps, "dgl": plain.steps, "dgl_tuned": tuned.steps}
    if name == "small":
        runs["ours_float32"] = Ours(market, size, fan_outs, encoder, "float32", CORES).steps
    seconds: dict[str, list[float]] = {other: [] for other in runs}
    compute: list[float] = []
    for turn in range(size.rounds + 1):
        for other, run in runs.items():
            taken = run(size.steps)
            if turn:
                seconds[other].append(float(np.median(taken)))
            if other == "ours":
                compute.append(ours.clock.taken()["compute"] / (size.steps + 1))
    ratios, spreads = {}, {}
    for theirs in ("dgl", "dgl_tuned"):
        for mine in ("ours", "ours_float32"):
            if mine in seconds:
                label = f"{'' if mine == 'ours' else 'float32_'}vs_{theirs}{key}"
                ratios[label] = round(ratio(seconds[theirs], seconds[mine]), 2)
                spreads[label] = spread(seconds[theirs], seconds[mine])
    figures = {f"{label}{key}": value for label, value in _figures(ours, seconds["ours"], compute[1:]).items()} | {
        f"edges{key}": [int(np.median(ours.edges)), int(np.median(tuned.edges))],
        f"ms{key}": {other: round(float(np.median(values)) * 1e3, 1) for other, values in seconds.items()},
        f"examples_per_s{key}": {o: round(size.batch / float(np.median(values))) for o, values in seconds.items()},
    }
    alone = Ours(market, size, fan_outs, encoder, "bf16", 1).prepared(8)
    read = alone["sample"] + alone["gather"]
    step = float(np.median(seconds["ours"]))
    figures |= {
        f"sample_gather_share{key}": round(read / (CORES * step), 4),
        f"sample_gather_ms{key}": [round(alone[part] * 1e3, 1) for part in ("sample", "gather", "all")],
        f"sample_gather_examples_per_s{key}": round(size.batch / read),
        f"made_examples_per_s{key}": round(size.batch / alone["all"]),
    }
    print(key, figures[f"ms{key}"], ratios, flush=True)
    return ratios, spreads, figures


def _figures(ours: Ours, seconds: list[float], compute: list[float]) -> dict[str, float]:
    """What our step does with its time."""
    flops, rate = ours.flops(), gemm_rate()
    return {
        "waits": round(1 - float(np.median(compute)) / float(np.median(seconds)), 3),
        "compute_vs_gemm": round(float(np.median(compute)) / (flops / rate), 2),
        "gflop": round(flops / 1e9, 1),
        "gemm_gflops": round(rate / 1e9),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller graph and smaller batches; under 50 s")
    parser.add_argument("--encoder", default=None, choices=["attention", "mean"], help="only this one")
    parser.add_argument("--fan-outs", default=None, choices=sorted(FAN_OUTS), help="only these")
    args = parser.parse_args()
    size = QUICK if args.quick else Size()
    market = MemoryGraph(size.nodes, size.edges)
    plain = PlainDgl(market, size)
    torch.set_num_threads(CORES)
    runtime.keep_freed_memory()
    settings = [("small", "attention"), ("large", "attention"), ("large", "mean")]
    chosen = [s for s in settings if args.fan_outs in (None, s[0]) and args.encoder in (None, s[1])]
    parts = [compare(market, size, plain, name, encoder) for name, encoder in chosen]
    ratios, spreads, figures = ({k: v for part in parts for k, v in part[place].items()} for place in range(3))
    report("training", ratios, spreads, figures, asdict(size) | {"cores": CORES})


if __name__ == "__main__":
    main()
