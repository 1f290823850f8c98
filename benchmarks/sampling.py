"""Seeds per second of the neighbour sampler beside `dgl.dataloading.NeighborSampler`: two hops, 4,096 seeds.

    python -m benchmarks.sampling [--quick]

Three of ours: `per_relation` draws exactly what DGL draws (a fan-out for every relation), `joint` spends one budget
over all relations of a node, and `timed` is `joint` with a different moment per seed, as in training, which DGL cannot
do: DGL sees all edges and shares nodes between seeds there, so that ratio is not like for like. DGL's graph has int64
ids: its fused sampler returns wrong edges on int32. Both sides relabel the nodes of every hop. One thread each, but for
`all_cores`: there DGL uses OpenMP within a batch, and ours draws a batch per thread.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ.setdefault("DGLBACKEND", "pytorch")

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks._harness import ratio, report, spread, take_turns
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.sampling import NeighbourSampler
from star_platform.graph.storage import EdgeArrays, EdgeType

SEEDS = 4096
CORES = len(os.sched_getaffinity(0))
FAN_OUTS = ((10, 5), (50, 5))
RELATIONS = (
    ("member", "applies", "job", 0.17, True),
    ("member", "views", "job", 0.40, True),
    ("recruiter", "messages", "member", 0.06, True),
    ("member", "has-skill", "skill", 0.12, False),
    ("job", "needs-skill", "skill", 0.12, False),
    ("member", "has-title", "title", 0.05, False),
    ("job", "has-title", "title", 0.03, False),
    ("job", "at-company", "company", 0.05, False),
)
NODES = {"member": 0.68, "job": 0.25, "company": 0.03, "recruiter": 0.005, "skill": 0.03, "title": 0.005}


def generate(nodes: int, edges: int, seed: int = 7) -> tuple[dict[str, int], list[EdgeArrays]]:
    """A marketplace: power-law popularity of every endpoint, six months of dated interactions, reverses as well."""
    rng = np.random.default_rng(seed)
    counts = {name: max(64, int(nodes * share)) for name, share in NODES.items()}
    made = []
    for src, relation, dst, share, dated in RELATIONS:
        m = int(edges * share)
        sources, targets = _power_law(rng, counts[src], m), _power_law(rng, counts[dst], m)
        times = rng.integers(0, 180 * 86_400_000_000, m) if dated else None
        made.append(_csc(EdgeType(src, relation, dst), counts[dst], sources, targets, times))
        made.append(_csc(EdgeType(dst, "rev_" + relation, src), counts[src], targets, sources, times))
    return counts, made


def _power_law(rng: np.random.Generator, n: int, m: int) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Popularity of rank r falls as r^-0.7; ids are shuffled."""
    ranks = (n * rng.random(m, dtype=np.float32) ** (1 / 0.3)).astype(np.int32)
    return rng.permutation(n).astype(np.int32)[np.minimum(ranks, n - 1)]


def _csc(name: EdgeType, n: int, sources: Any, targets: Any, times: Any) -> EdgeArrays:
    order = np.argsort(times, kind="stable") if times is not None else np.arange(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    indptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(targets, minlength=n), out=indptr[1:])
    return EdgeArrays(name, indptr, sources[order], None if times is None else times[order], None, {})


def ours(
    adjacency: Adjacency, fan_outs: tuple[int, ...], batches: list[Any], *, timed: bool = False, threads: int = 1
) -> Callable[[], None]:
    layout = "dense" if adjacency.budget == "joint" else "ragged"
    sampler = NeighbourSampler(adjacency, fan_outs, layout=layout)
    steps = iter(range(10**9))
    rng = np.random.default_rng(1)
    moments = rng.integers(adjacency.newest // 2, adjacency.newest, SEEDS) if timed else None

    times = moments if moments is not None else np.full(SEEDS, adjacency.newest + 1)
    pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def run() -> None:
        if pool is None:
            for batch in batches:
                sampler.sample(batch, times, next(steps))
        else:
            for done in [pool.submit(sampler.sample, batch, times, next(steps)) for batch in batches]:
                done.result()

    return run


class Dgl:
    """DGL on the same graph, driven as its guide says."""

    def __init__(self, counts: dict[str, int], edges: list[EdgeArrays]) -> None:
        import dgl
        import torch

        self.dgl, self.torch = dgl, torch
        data = {
            tuple(each.type): ("csc", (torch.from_numpy(each.indptr), torch.from_numpy(each.indices).long(), []))
            for each in edges
        }
        self.graph = dgl.heterograph(data, num_nodes_dict=counts).formats("csc")
        self.node_types = sorted(counts)
        self.offsets = np.concatenate([[0], np.cumsum([counts[name] for name in self.node_types])])

    def seeds(self, batch: Any) -> dict[str, Any]:
        split = {}
        for t, name in enumerate(self.node_types):
            own = batch[(batch >= self.offsets[t]) & (batch < self.offsets[t + 1])] - self.offsets[t]
            if len(own):
                split[name] = self.torch.from_numpy(own)
        return split

    def plain(self, fan_outs: tuple[int, ...], batches: list[Any], threads: int = 1) -> Callable[[], None]:
        """No workers and no loader around it: the sampler by itself, as ours is run."""
        sampler = self.dgl.dataloading.NeighborSampler(list(fan_outs))
        seeds = [self.seeds(batch) for batch in batches]

        def run() -> None:
            with threadpool_limits(threads, user_api="openmp"):
                for each in seeds:
                    sampler.sample_blocks(self.graph, each)

        return run

    def workers(self, fan_outs: tuple[int, ...], members: Any, workers: int, count: int) -> list[float]:
        """Seconds of each of `count` batches out of worker processes, once they are up and their queues are full."""
        loader = self.dgl.dataloading.DataLoader(
            self.graph,
            {
                "member": self.torch.from_numpy(
                    np.resize(members - self.offsets[self.node_types.index("member")], SEEDS * (count + 9))
                )
            },
            self.dgl.dataloading.NeighborSampler(list(fan_outs)),
            batch_size=SEEDS,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
        )
        seconds = []
        last = time.perf_counter()
        for number, _ in enumerate(loader):
            now = time.perf_counter()
            if 4 <= number < 4 + count:  # the last few come out of full queues, for nothing
                seconds.append(now - last)
            last = now
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller graph and fewer rounds; under 50 s")
    args = parser.parse_args()
    nodes, edges, rounds, per_round = (500_000, 6_000_000, 5, 2) if args.quick else (1_280_000, 30_000_000, 9, 4)

    start = time.perf_counter()
    counts, made = generate(nodes, edges)
    figures: dict[str, Any] = {"generate_s": round(time.perf_counter() - start, 2)}
    start = time.perf_counter()
    joint = Adjacency.from_edges(counts, made)
    figures["adjacency_s"] = round(time.perf_counter() - start, 2)
    split = Adjacency.from_edges(counts, made, "per-relation")
    dgl = Dgl(counts, made)
    print(
        f"{joint.num_nodes:,} nodes, {len(joint.edges):,} edges, built in {time.perf_counter() - start:.1f} s",
        flush=True,
    )

    rng = np.random.default_rng(3)
    first = int(joint.offsets[joint.node_types.index("member")])
    members = first + rng.permutation(counts["member"])[: SEEDS * per_round]
    batches = [np.asarray(part) for part in members.reshape(per_round, SEEDS)]
    ratios: dict[str, Any] = {}
    spreads: dict[str, Any] = {}
    for fan_outs in FAN_OUTS:
        name = "[" + ",".join(map(str, fan_outs)) + "]"
        runs = {
            "dgl": dgl.plain(fan_outs, batches),
            "per_relation": ours(split, fan_outs, batches),
            "joint": ours(joint, fan_outs, batches),
            "timed": ours(joint, fan_outs, batches, timed=True),
        }
        if CORES > 1:
            runs["dgl_all_cores"] = dgl.plain(fan_outs, batches, CORES)
            runs["per_relation_all_cores"] = ours(split, fan_outs, batches, threads=CORES)
            runs["joint_all_cores"] = ours(joint, fan_outs, batches, threads=CORES)
        seconds = take_turns(runs, rounds)
        for other in seconds:
            figures[f"{other}_seeds_per_s{name}"] = round(SEEDS * per_round / float(np.median(seconds[other])))
            if not other.startswith("dgl"):
                theirs = seconds["dgl_all_cores" if other.endswith("all_cores") else "dgl"]
                ratios[_key("vs_dgl", other, name)] = round(ratio(theirs, seconds[other]), 2)
                spreads[_key("vs_dgl", other, name)] = spread(theirs, seconds[other])
        for count in (1, 2):
            try:
                batch_s = float(np.mean(dgl.workers(fan_outs, members, count, 4 * rounds)))
            except (OSError, RuntimeError) as error:  # such as a /dev/shm that is too small
                figures[f"dgl_workers_{count}{name}"] = f"failed: {str(error).splitlines()[0][:120]}"
                continue
            figures[f"dgl_workers_{count}_seeds_per_s{name}"] = round(SEEDS / batch_s)
            for other in ("per_relation", "joint"):
                mine = float(np.median(seconds[other])) / per_round
                ratios[_key(f"vs_dgl_workers_{count}", other, name)] = round(batch_s / mine, 2)
        print(
            name,
            {k: round(float(np.median(v)) / per_round * 1e3, 1) for k, v in seconds.items()},
            "ms a batch",
            flush=True,
        )
    cases = {"seeds": SEEDS, "nodes": joint.num_nodes, "edges": len(joint.edges), "cores": CORES}
    report("sampling", ratios, spreads, figures, cases)


def _key(against: str, ours: str, fan_outs: str) -> str:
    """`vs_dgl[10,5]` is what draws the same as DGL; other ways to draw carry their name."""
    return against + ("_" + ours).replace("_per_relation", "") + fan_outs


if __name__ == "__main__":
    main()
