"""How large a training step is, from counts alone: items and edges per hop, products and memory. Free of torch.

Estimates: average degrees stand for all nodes, all edges count as earlier than the example, and nodes that two seeds
share are counted once only where their moments are one (`moment: step`). Real steps are smaller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from star_platform.gnn.config import TrainingConfig

Relation = tuple[str, str, str]
"""Source node type, name, destination node type."""


@dataclass(frozen=True)
class GraphCounts:
    """Of a compiled graph."""

    nodes: Mapping[str, int]
    edges: Mapping[Relation, int]
    """With reverses."""
    columns: Mapping[str, int]
    """Numbers per node that are projected, by node type."""


@dataclass(frozen=True)
class Hop:
    """Items of one hop, and the edges that lead to the next."""

    items: int
    edges: int
    """0 for the last."""


@dataclass(frozen=True)
class StepSize:
    """Of one step of one objective."""

    seeds: int
    hops: tuple[Hop, ...]
    flops: int
    """Of matrix products and edges, forward and backward."""
    memory: int
    """Bytes of hidden states that wait for the backward pass."""


def step_size(config: TrainingConfig, graph: GraphCounts, seeds: Mapping[str, int]) -> StepSize:
    """`seeds`: of each node type."""
    fan_outs = (config.ltgnn.neighbours,) if config.encoder == "ltgnn" else config.fan_outs
    counts, hops = dict.fromkeys(graph.nodes, 0.0) | {node: float(n) for node, n in seeds.items()}, []
    if config.moment == "step":
        counts = {node: _distinct(n, graph.nodes[node]) for node, n in counts.items()}
    for fan_out in fan_outs:
        drawn = _drawn(config, graph, counts, fan_out)
        hops.append(Hop(round(sum(counts.values())), round(sum(drawn.values()))))
        counts = {node: n + drawn.get(node, 0.0) for node, n in counts.items()}
        if config.moment == "step":
            counts = {node: _distinct(n, graph.nodes[node]) for node, n in counts.items()}
    hops.append(Hop(round(sum(counts.values())), 0))
    inputs = sum(2 * n * graph.columns.get(node, 0) * config.dim for node, n in counts.items())
    flops, memory = _cost(config, hops, inputs)
    return StepSize(sum(seeds.values()), tuple(hops), flops, memory)


def _distinct(draws: float, nodes: int) -> float:
    """Of `nodes`, how many are met by so many draws."""
    return nodes * -math.expm1(-draws / nodes) if nodes else 0.0


def _drawn(
    config: TrainingConfig, graph: GraphCounts, counts: Mapping[str, float], fan_out: int | Mapping[str, int]
) -> dict[str, float]:
    """Edges to each source node type, for a hop's items by type."""
    found: dict[str, float] = {}
    for node, items in counts.items():
        degrees = {
            relation: edges / max(1, graph.nodes[node])
            for relation, edges in graph.edges.items()
            if relation[2] == node and items
        }
        total = sum(degrees.values())
        for relation, degree in degrees.items():
            if isinstance(fan_out, int) and config.budget == "joint":
                taken = degree * min(1.0, fan_out / total) if total else 0.0
            else:
                taken = min(degree, fan_out if isinstance(fan_out, int) else fan_out.get(relation[1], 0))
            found[relation[0]] = found.get(relation[0], 0.0) + items * taken
    return found


def _cost(config: TrainingConfig, hops: Sequence[Hop], inputs: float) -> tuple[int, int]:
    """Floating-point operations of a step, and bytes of its hidden states."""
    mean = config.encoder != "attention"
    dim, heads = config.dim, 1 if mean else config.heads
    inner = dim * (1 if mean else config.multiplier)
    size = 2 if config.precision == "bf16" else 4
    flops, numbers = inputs, float(hops[-1].items * dim * 3)
    for hop in hops[:-1]:
        per_item = dim * dim + inner * dim + (0 if mean else 3 * inner * dim)
        layer = 2 * hop.items * per_item + 4 * hop.edges * heads * dim
        towers = 2 if config.towers == "dual" else 1
        flops += towers * layer
        numbers += towers * (hop.items * (4 * dim + 2 * inner + 2 * heads * dim) + 2 * hop.edges * heads)
    return round(3 * flops), round(2 * size * numbers)  # backward costs twice forward; gradients are as large
