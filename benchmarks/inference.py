"""Vectors of every node: layer by layer over all neighbours, beside sampled neighbourhoods of [50, 5].

    python -m benchmarks.inference [--quick]

One untrained model (width 200, 4 heads, two layers) over a generated marketplace whose nodes have text vectors of 384
numbers, at one moment after everything. Sampled inference does batches of 4,096 nodes as `embed` does, of which some
are timed, spread over all node types in the shares that they have; layer-wise inference does all nodes, from input
encoders to the last layer, with its files in a temporary folder. Both have the same threads, and they take turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._harness import ratio, report, spread, take_turns
from benchmarks._market import MemoryGraph
from star_platform.gnn import runtime
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.inference import BATCH, Embedder
from star_platform.gnn.model_io import ModelSpec, new_model
from star_platform.gnn.trees import TreeReader

CORES = len(os.sched_getaffinity(0))
FAN_OUTS = (50, 5)
SETTINGS = TrainingConfig(
    dim=200, heads=4, fan_outs=FAN_OUTS, inference="layer-wise", activity=False, threads=CORES, device="cpu"
)


def make_embedder(market: MemoryGraph) -> Embedder:
    reader = TreeReader(market.graph, SETTINGS)
    spec = ModelSpec("in memory", reader.inputs.specs, reader.relations, reader.weighted, {})
    return Embedder(market.graph, new_model(spec, SETTINGS).eval())


def sampled(embedder: Embedder, market: MemoryGraph, batches: int) -> tuple[Callable[[], None], int]:
    """A run over `batches` batches of nodes in a row, each of one type; and how many nodes that is."""
    moment, total = market.as_of + 1, sum(market.counts.values())
    taken = []
    for node, count in market.counts.items():
        own = max(1, round(batches * count / total))
        first = np.linspace(0, max(0, count - BATCH), own).astype(np.int64)
        taken.append((node, np.concatenate([np.arange(at, min(at + BATCH, count)) for at in first])))

    def run() -> None:
        for node, indices in taken:
            for _ in embedder.batches(node, indices, np.full(len(indices), moment)):
                pass

    return run, sum(len(indices) for _, indices in taken)


def layer_wise(embedder: Embedder, market: MemoryGraph) -> Callable[[], None]:
    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            embedder.layerwise(market.as_of + 1, None, "benchmark", Path(folder))

    return run


def counted(run: Callable[[], None], cpu: list[float]) -> Callable[[], None]:
    """`run` that also notes the processor seconds of its threads: they do not mind what else the machine does."""

    def noted() -> None:
        start = time.process_time()
        run()
        cpu.append(time.process_time() - start)

    return noted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller graph and fewer rounds; under 50 s")
    args = parser.parse_args()
    nodes, edges, rounds, batches = (80_000, 1_900_000, 3, 5) if args.quick else (1_280_000, 30_000_000, 2, 12)

    runtime.keep_freed_memory()
    start = time.perf_counter()
    market = MemoryGraph(nodes, edges)
    embedder = make_embedder(market)
    everybody, held = sum(market.counts.values()), len(embedder.reader.adjacency.edges)
    print(f"{everybody:,} nodes, {held:,} edges, made in {time.perf_counter() - start:.1f} s", flush=True)

    by_sampling, some = sampled(embedder, market, batches)
    cpu: dict[str, list[float]] = {"sampled": [], "layer_wise": []}
    runs = {
        "sampled": counted(by_sampling, cpu["sampled"]),
        "layer_wise": counted(layer_wise(embedder, market), cpu["layer_wise"]),
    }
    seconds = take_turns(runs, rounds)
    # per node: the one does some of them, the other all
    theirs, ours = np.array(seconds["sampled"]) / some, np.array(seconds["layer_wise"]) / everybody
    figures: dict[str, Any] = {
        "sampled_nodes_per_s": round(1 / float(np.median(theirs))),
        "layer_wise_nodes_per_s": round(1 / float(np.median(ours))),
        "layer_wise_all_nodes_s": round(float(np.median(seconds["layer_wise"])), 2),
        "layer_wise_edges_per_s": round(2 * held / float(np.median(seconds["layer_wise"]))),
        "vs_sampled_cpu": round(ratio(np.array(cpu["sampled"]) / some, np.array(cpu["layer_wise"]) / everybody), 2),
    }
    cases = {"nodes": everybody, "edges": held, "sampled_nodes": some, "fan_outs": list(FAN_OUTS), "cores": CORES}
    ratios = {"vs_sampled": round(ratio(theirs, ours), 2)}
    report("inference", ratios, {"vs_sampled": spread(theirs, ours)}, figures, cases)


if __name__ == "__main__":
    main()
