"""Seeds per second of the neighbour sampler beside `dgl.dataloading.NeighborSampler`: two hops, 4,096 seeds.

    python -m benchmarks.sampling [--quick]

    vs_dgl_per_relation   draws exactly what DGL draws, a fan-out for every relation
    vs_dgl_budget         spends one budget over all relations of a node, our default
    vs_dgl_timed          the same with a moment per seed, as in training. DGL sees all edges there, at no time, and
                          shares nodes between seeds: that ratio is not like for like
    temporal_vs_uniform   time of the latest k before the moments, in units of a uniform draw before the same moments
    weighted_vs_uniform   chances that follow weights, beside uniform draws over the same weighted edges
    ppr_vs_uniform        the latest k of PageRank lists at the same moments, per edge drawn: those lists are always
                          full (`ppr_time_vs_uniform` among the figures is not per edge)

Fan-outs are written seed side first. DGL writes them the other way round, and is handed them so: both sides draw the
same numbers of neighbours at the same hop. DGL's graph has int64 ids: its fused sampler returns wrong edges on int32.
Both sides relabel the nodes of every hop. One thread each, but for `all_cores`: there DGL uses OpenMP within a batch,
and ours draws a batch per thread.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks._dgl_sampler import Dgl
from benchmarks._harness import ratio, report, spread, take_turns
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.sampling import NeighbourSampler, Strategy
from star_platform.graph.storage import EdgeArrays, EdgeType

SEEDS = 4096
CORES = len(os.sched_getaffinity(0))
END = 180 * 86_400_000_000
"""Length of the history, microseconds."""
SNAPSHOTS, BEST = 4, 50
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
        times = rng.integers(0, END, m) if dated else None
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


class Look(NamedTuple):
    """One way to look neighbours up."""

    adjacency: Adjacency
    strategy: Strategy = "uniform"
    moments: int = 0
    """Distinct moments in the second half of the history, in turn; 0: one for all seeds, after everything."""
    threads: int = 1


def ours(look: Look, fan_outs: tuple[int, ...], batches: list[Any]) -> Callable[[], None]:
    sampler = NeighbourSampler(look.adjacency, fan_outs, look.strategy, layout="ragged")
    steps = iter(range(10**9))
    times = moments(look)
    pool = ThreadPoolExecutor(look.threads) if look.threads > 1 else None

    def run() -> None:
        if pool is None:
            for batch in batches:
                sampler.sample(batch, times, next(steps))
        else:
            for done in [pool.submit(sampler.sample, batch, times, next(steps)) for batch in batches]:
                done.result()

    return run


def moments(look: Look) -> NDArray[np.int64]:
    """A moment per seed."""
    if look.moments == 0:
        return np.full(SEEDS, END + 1)
    return np.resize(np.random.default_rng(1).integers(END // 2, END, look.moments), SEEDS)


def edges_drawn(look: Look, fan_outs: tuple[int, ...], batches: list[Any]) -> int:
    sampler = NeighbourSampler(look.adjacency, fan_outs, look.strategy, layout="ragged")
    return sum(len(b.neighbours) for batch in batches for b in sampler.sample(batch, moments(look), 0).blocks)


def weighted(adjacency: Adjacency) -> Adjacency:
    """The same edges with log-normal weights."""
    rng = np.random.default_rng(5)
    return replace(adjacency, weights=np.exp(rng.standard_normal(len(adjacency.edges), dtype=np.float32)))


def pagerank(adjacency: Adjacency) -> Adjacency:
    """What `strategy: ppr` reads, with made-up scores: every member's 50 best members, anew at four snapshots."""
    rng = np.random.default_rng(6)
    member = adjacency.node_types.index("member")
    first, last = (int(bound) for bound in adjacency.offsets[member : member + 2])
    lists = np.zeros(adjacency.num_nodes, dtype=np.int64)
    lists[first:last] = SNAPSHOTS * BEST
    indptr = np.concatenate([[0], np.cumsum(lists)])
    dates = (END * np.linspace(0.4, 0.9, SNAPSHOTS)).astype(np.int64)
    edges = np.empty((last - first, SNAPSHOTS, BEST, 2), dtype=np.int64)
    edges[..., 0] = dates[:, None]
    edges[..., 1] = rng.integers(first, last, edges.shape[:3], dtype=np.int32)
    return replace(
        adjacency,
        relation_names=(EdgeType("member", "ppr__member__member", "member"),),
        indptr=indptr,
        edges=edges.reshape(-1, 2),
        weights=np.tile(np.linspace(0.001, 0.05, BEST, dtype=np.float32), (last - first) * SNAPSHOTS),
        newest=int(dates[-1]),
        longest=SNAPSHOTS * BEST,
        mirrored=False,
    )


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
    heavy, ppr = weighted(joint), pagerank(joint)
    dgl = Dgl(counts, made, SEEDS)
    print(
        f"{joint.num_nodes:,} nodes, {len(joint.edges):,} edges, built in {time.perf_counter() - start:.1f} s",
        flush=True,
    )
    looks = {
        "per_relation": Look(split),
        "budget": Look(joint),
        "timed": Look(joint, moments=SEEDS),
        "temporal": Look(joint, "latest", SEEDS),
        "uniform_beside_weights": Look(heavy, moments=SEEDS),
        "weighted": Look(heavy, "weighted", SEEDS),
        "ppr": Look(ppr, "latest", SEEDS),
        "timed_1_moment": Look(joint, moments=1),
        "timed_64_moments": Look(joint, moments=64),
    }
    if CORES > 1:
        for name in ("per_relation", "budget", "timed"):
            looks[f"{name}_all_cores"] = looks[name]._replace(threads=CORES)

    rng = np.random.default_rng(3)
    first = int(joint.offsets[joint.node_types.index("member")])
    members = first + rng.permutation(counts["member"])[: SEEDS * per_round]
    batches = [np.asarray(part) for part in members.reshape(per_round, SEEDS)]
    ratios: dict[str, Any] = {}
    spreads: dict[str, Any] = {}
    for fan_outs in FAN_OUTS:
        name = "[" + ",".join(map(str, fan_outs)) + "]"
        runs = {"dgl": dgl.plain(fan_outs, batches)}
        if CORES > 1:
            runs["dgl_all_cores"] = dgl.plain(fan_outs, batches, CORES)
        seconds = take_turns(runs | {key: ours(look, fan_outs, batches) for key, look in looks.items()}, rounds)
        for key, taken in seconds.items():
            figures[f"{key}_seeds_per_s{name}"] = round(SEEDS * per_round / float(np.median(taken)))
        for key in ("per_relation", "budget", "timed"):
            for cores in ("", "_all_cores") if CORES > 1 else ("",):
                against = seconds["dgl" + cores], seconds[key + cores]
                ratios[f"vs_dgl_{key}{cores}{name}"] = round(ratio(*against), 2)
                spreads[f"vs_dgl_{key}{cores}{name}"] = spread(*against)
        for key, base in (("temporal", "timed"), ("weighted", "uniform_beside_weights"), ("ppr", "timed")):
            against = seconds[key], seconds[base]
            if key == "ppr":  # every list is full there: as long as uniform takes for as many edges
                more = edges_drawn(looks[key], fan_outs, batches) / edges_drawn(looks[base], fan_outs, batches)
                figures[f"ppr_edges_vs_uniform{name}"] = round(more, 2)
                figures[f"ppr_time_vs_uniform{name}"] = round(ratio(*against), 2)
                against = [each / more for each in seconds[key]], seconds[base]
            ratios[f"{key}_vs_uniform{name}"] = round(ratio(*against), 2)
            spreads[f"{key}_vs_uniform{name}"] = spread(*against)
        _beside_workers(dgl, fan_outs, members, seconds, per_round, ratios, figures, name)
        print(
            name,
            {k: round(float(np.median(v)) / per_round * 1e3, 1) for k, v in seconds.items()},
            "ms a batch",
            flush=True,
        )
    cases = {"seeds": SEEDS, "nodes": joint.num_nodes, "edges": len(joint.edges), "cores": CORES}
    report("sampling", ratios, spreads, figures, cases)


def _beside_workers(
    dgl: Dgl,
    fan_outs: tuple[int, ...],
    members: Any,
    seconds: dict[str, list[float]],
    per_round: int,
    ratios: dict[str, Any],
    figures: dict[str, Any],
    name: str,
) -> None:
    """DGL's loader with one and with two worker processes."""
    for count in (1, 2):
        try:
            batch_s = float(np.mean(dgl.workers(fan_outs, members, count, 2 * len(seconds["dgl"]))))
        except (OSError, RuntimeError) as error:  # such as a /dev/shm that is too small
            figures[f"dgl_workers_{count}{name}"] = f"failed: {str(error).splitlines()[0][:120]}"
            continue
        figures[f"dgl_workers_{count}_seeds_per_s{name}"] = round(SEEDS / batch_s)
        for key in ("per_relation", "budget"):
            mine = float(np.median(seconds[key])) / per_round
            ratios[f"vs_dgl_workers_{count}_{key}{name}"] = round(batch_s / mine, 2)


if __name__ == "__main__":
    main()
