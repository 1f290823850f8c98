"""How the sampler names things: contexts of seeds, and the distinct nodes of each hop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.graph import _exclusion_kernels as exclusion
from star_platform.graph import _relabel_kernels as relabel
from star_platform.graph.adjacency import Adjacency

NO_CONTEXTS = np.empty(0, dtype=np.int32)
NO_PAIRS = np.empty((0, 2), dtype=np.int32)


@dataclass(frozen=True)
class Contexts:
    """What the trees of a batch see: a moment each, and at most one hidden pair of nodes."""

    of_seed: NDArray[np.int32]
    """`[b]`, empty when there is one context for all."""
    moments: NDArray[np.int64]
    """`[c]`, ascending."""
    pairs: NDArray[np.int32]
    """`[c, 2]`, -1 where nothing is hidden; `[0, 2]` when nothing is hidden anywhere."""

    @property
    def single(self) -> bool:
        return len(self.of_seed) == 0


@dataclass(frozen=True)
class Hop:
    """The distinct (node, context) of one hop, sorted by node type."""

    nodes: NDArray[np.int32]
    contexts: NDArray[np.int32]
    """Empty when there is one context for all."""
    slices: NDArray[np.int64]
    """`[node types + 1]`."""

    def moments(self, contexts: Contexts) -> NDArray[np.int64]:
        if contexts.single:
            return np.full(len(self.nodes), contexts.moments[0], dtype=np.int64)
        return contexts.moments[self.contexts]


class Scratch:
    """Memory that one thread uses over and over: fresh pages cost as much as the work done in them."""

    def __init__(self, adjacency: Adjacency) -> None:
        words = (adjacency.num_nodes >> 6) + 1
        self.bits = np.empty(words, dtype=np.uint64)
        self.ranks = np.empty(words, dtype=np.int32)
        self.seen = np.zeros((adjacency.longest >> 6) + 1, dtype=np.uint64)
        self.visible = np.empty(adjacency.longest + 1, dtype=np.int64)
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, size: int, dtype: type[np.generic]) -> NDArray[Any]:
        """An uninitialised array of at least nothing, good until the next call with this name."""
        held = self._arrays.get(name)
        if held is None or len(held) < size:
            held = self._arrays[name] = np.empty(size + size // 4, dtype=dtype)
        return held[:size]

    def bitmap_pays(self, items: int) -> bool:
        """Whether a pass over one bit per node of the graph is cheap beside the work on `items`."""
        return len(self.bits) <= 4 * items + 4096


def distinct_contexts(
    adjacency: Adjacency, gids: NDArray[np.int32], times: NDArray[np.int64], partners: NDArray[np.int32] | None
) -> Contexts:
    """One context per distinct moment; a seed whose partner it is joined to before then gets the pair hidden as well.

    Pairs that no valid edge joins need no hiding. Most do not, and share the context of their moment.
    """
    if len(gids) == 0:
        return Contexts(NO_CONTEXTS, np.zeros(1, dtype=np.int64), NO_PAIRS)
    pair = np.full(len(gids), -1, dtype=np.int64)
    if partners is not None:
        joined = np.empty(len(gids), dtype=np.bool_)
        a = adjacency
        lists = (a.mirrored, a.offsets, a.slots, a.rows, a.indptr, a.edges.reshape(-1))
        if exclusion.joined(gids, partners, times, *lists, joined):
            low, high = np.minimum(gids, partners), np.maximum(gids, partners)
            pair = np.where(joined, low.astype(np.int64) << 32 | high, pair)
    hiding = bool((pair >= 0).any())
    order = np.lexsort((pair, times)) if hiding else np.argsort(times, kind="stable")
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (np.diff(times[order]) != 0) | (np.diff(pair[order]) != 0)
    moments = times[order][first]
    if len(moments) == 1 and not hiding:
        return Contexts(NO_CONTEXTS, moments, NO_PAIRS)
    of_seed = np.empty(len(order), dtype=np.int32)
    of_seed[order] = np.cumsum(first, dtype=np.int32) - 1
    hidden = pair[order][first]
    split = np.stack([hidden >> 32, np.where(hidden < 0, -1, hidden & 0xFFFFFFFF)], axis=1).astype(np.int32)
    return Contexts(of_seed, moments, split if hiding else NO_PAIRS)


def first_hop(adjacency: Adjacency, gids: NDArray[np.int32], contexts: Contexts) -> tuple[Hop, NDArray[np.int32]]:
    """The distinct seeds, sorted by (node, context), and where each given seed is among them."""
    count = len(contexts.moments)
    key = gids.astype(np.int64) if contexts.single else gids.astype(np.int64) * count + contexts.of_seed
    order = np.argsort(key)
    ascending = key[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = np.diff(ascending) != 0
    positions = np.empty(len(order), dtype=np.int32)
    positions[order] = np.cumsum(first, dtype=np.int32) - 1
    chosen = order[first]
    nodes = gids[chosen]
    own = contexts.of_seed if contexts.single else contexts.of_seed[chosen]
    return Hop(nodes, own, np.searchsorted(nodes, adjacency.offsets).astype(np.int64)), positions


def next_hop_by_bitmap(
    adjacency: Adjacency, scratch: Scratch, hop: Hop, sources: NDArray[np.int32]
) -> tuple[Hop, NDArray[np.int32]]:
    """The distinct nodes of `hop` and `sources`, ascending, and the positions of the hop's own among them.

    `sources` (flat) become positions in place.
    """
    scratch.bits.fill(0)
    relabel.mark(hop.nodes, scratch.bits)
    relabel.mark(sources, scratch.bits)
    nodes = np.empty(relabel.rank(scratch.bits, scratch.ranks), dtype=np.int32)
    slices = np.empty(len(adjacency.offsets), dtype=np.int64)
    relabel.members(scratch.bits, adjacency.offsets, nodes, slices)
    here = np.empty(len(hop.nodes), dtype=np.int32)
    relabel.positions(hop.nodes, scratch.bits, scratch.ranks, here)
    relabel.positions(sources, scratch.bits, scratch.ranks, sources)
    return Hop(nodes, NO_CONTEXTS, slices), here


def next_hop_by_table(
    adjacency: Adjacency,
    scratch: Scratch,
    hop: Hop,
    sources: NDArray[np.int32],
    relations: NDArray[np.int16],
    starts: NDArray[np.int64],
    width: int,
    drawn: int,
    source_types: NDArray[np.uint8],
) -> tuple[Hop, NDArray[np.int32]]:
    """As `next_hop_by_bitmap` for any number of contexts: sorted by node type, then in order of discovery."""
    single = len(hop.contexts) != len(hop.nodes)
    contexts = np.zeros(len(hop.nodes), dtype=np.int32) if single else hop.contexts
    most = len(hop.nodes) + drawn
    bits = max(4, int(most * 3 // 2).bit_length())
    keys = scratch.array("keys", 1 << bits, np.int64)
    values = scratch.array("values", 1 << bits, np.int32)
    found_nodes = scratch.array("nodes", most, np.int32)
    found_contexts = scratch.array("contexts", most, np.int32)
    found_types = scratch.array("types", most, np.uint8)
    count = relabel.number(
        hop.nodes,
        contexts,
        hop.slices,
        sources,
        relations,
        starts,
        width,
        source_types,
        adjacency.num_nodes,
        keys,
        values,
        np.uint64(64 - bits),
        found_nodes,
        found_contexts,
        found_types,
    )
    order = scratch.array("order", count, np.int32)
    nodes, own = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.int32)
    slices = np.empty(len(adjacency.offsets), dtype=np.int64)
    relabel.by_type(found_nodes, found_contexts, found_types, count, order, slices, nodes, own)
    relabel.renumber(sources, order)
    return Hop(nodes, NO_CONTEXTS if single else own, slices), order[: len(hop.nodes)].copy()
