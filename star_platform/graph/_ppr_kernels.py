"""The loops of personalised PageRank by forward push (Andersen, Chung, Lang 2006; Bojchevski et al. 2020).

State of a seed, over all nodes of the graph: `state[v] = (residual, threshold)`, in one cache line because every edge
that is walked reads both; the residual is -1 for a node not reached, so that only what was reached is cleared after.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from star_platform.graph.kernels import kernel

UNREACHED = -1.0


@kernel
def at_moment(
    indptr: Any, times: Any, neighbours: Any, born: Any, since: Any, moment: Any, out_indptr: Any, out_neighbours: Any
) -> int:
    """Keep the edges that are undated or in `[since, moment)`, between nodes that existed then; returns how many."""
    undated = np.iinfo(np.int64).min
    used = 0
    for v in range(indptr.size - 1):
        if born[v] < moment:
            for e in range(indptr[v], indptr[v + 1]):
                recent = times[e] >= since or times[e] == undated
                if recent and times[e] < moment and born[neighbours[e]] < moment:
                    out_neighbours[used] = neighbours[e]
                    used += 1
        out_indptr[v + 1] = used
    return used


@kernel
def push(
    indptr: Any, neighbours: Any, seed: Any, alpha: Any, state: Any, mass: Any, queue: Any, reached: Any, pushed: Any
) -> tuple[int, int]:
    """Push from `seed` until every residual is below its threshold; `mass` is then p, `state[:, 0]` r.

    First in, first out. A node waits in the queue exactly while its residual has reached the threshold, so comparing
    before and after an addition says whether it has to be queued: no search, no second array of flags. The seed is
    pushed once whatever its degree: a hub of more than 1 / epsilon neighbours would have none otherwise.

    Returns:
        How many nodes were reached, listed in `reached`, and how many of them pushed (p > 0), listed in `pushed`.
    """
    room = queue.size
    head, waiting = 0, 1
    queue[0] = seed
    state[seed, 0] = alpha
    reached[0] = seed
    n_reached, n_pushed = 1, 0
    while waiting > 0:
        u = queue[head]
        head += 1
        if head == room:
            head = 0
        waiting -= 1
        residual = state[u, 0]
        state[u, 0] = 0.0
        if mass[u] == 0.0:
            pushed[n_pushed] = u
            n_pushed += 1
        mass[u] += residual
        first, last = indptr[u], indptr[u + 1]
        dangling = last == first  # its walker starts again
        share = (1.0 - alpha) * residual
        if dangling:
            last = first + 1
        else:
            share /= last - first
        for e in range(first, last):
            v = seed if dangling else neighbours[e]
            before = state[v, 0]
            if before < 0.0:
                reached[n_reached] = v
                n_reached += 1
                before = 0.0
            after = before + share
            state[v, 0] = after
            threshold = state[v, 1]
            if after >= threshold > before:
                tail = head + waiting
                if tail >= room:
                    tail -= room
                queue[tail] = v
                waiting += 1
    return n_reached, n_pushed


@kernel
def clear(reached: Any, count: Any, state: Any, mass: Any) -> None:
    """Forget a seed, at the cost of what it reached."""
    for i in range(count):
        state[reached[i], 0] = UNREACHED
        mass[reached[i]] = 0.0


@kernel
def _worse(score: Any, node: Any, other_score: Any, other_node: Any) -> Any:
    """Lower score; of equal ones the higher id, so that the choice never depends on the order of the walk."""
    return score < other_score or (score == other_score and node > other_node)


@kernel
def _sift_down(scores: Any, nodes: Any, size: Any) -> None:
    """Restore the heap, worst on top, after its top was replaced."""
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            return
        if child + 1 < size and _worse(scores[child + 1], nodes[child + 1], scores[child], nodes[child]):
            child += 1
        if not _worse(scores[child], nodes[child], scores[i], nodes[i]):
            return
        scores[i], scores[child] = scores[child], scores[i]
        nodes[i], nodes[child] = nodes[child], nodes[i]
        i = child


@kernel
def offer(scores: Any, nodes: Any, size: Any, room: Any, score: Any, node: Any) -> Any:
    """Offer a candidate to a heap of the best `room`; returns its size."""
    if size < room:
        i = size
        scores[i], nodes[i] = score, node
        while i > 0:
            parent = (i - 1) >> 1
            if not _worse(scores[i], nodes[i], scores[parent], nodes[parent]):
                break
            scores[i], scores[parent] = scores[parent], scores[i]
            nodes[i], nodes[parent] = nodes[parent], nodes[i]
            i = parent
        return size + 1
    if room > 0 and _worse(scores[0], nodes[0], score, node):
        scores[0], nodes[0] = score, node
        _sift_down(scores, nodes, size)
    return size


@kernel
def ranked(scores: Any, nodes: Any, size: Any) -> None:
    """Turn a heap into a list, best first."""
    for last in range(size - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        nodes[0], nodes[last] = nodes[last], nodes[0]
        _sift_down(scores, nodes, last)


@kernel
def push_all(
    indptr: Any,
    neighbours: Any,
    seeds: Any,
    alpha: Any,
    state: Any,
    mass: Any,
    queue: Any,
    reached: Any,
    pushed: Any,
    best_scores: Any,
    best_nodes: Any,
    out_nodes: Any,
    out_scores: Any,
    out_self: Any,
) -> None:
    """The best neighbours of each seed, best first; unused places hold node -1. A seed is never its own neighbour.

    By p; where fewer than k nodes were pushed, those that were only reached follow by p + r (their p is 0), with scores
    no higher than the last one before them.
    """
    k = out_nodes.shape[1]
    for i in range(seeds.size):
        seed = seeds[i]
        out_nodes[i, :] = -1
        out_scores[i, :] = 0.0
        out_self[i] = 1.0
        if indptr[seed] == indptr[seed + 1]:
            continue
        n_reached, n_pushed = push(indptr, neighbours, seed, alpha, state, mass, queue, reached, pushed)
        out_self[i] = mass[seed]
        size = 0
        for j in range(n_pushed):
            if pushed[j] != seed:
                size = offer(best_scores, best_nodes, size, k, mass[pushed[j]], pushed[j])
        ranked(best_scores, best_nodes, size)
        for j in range(size):
            out_nodes[i, j] = best_nodes[j]
            out_scores[i, j] = best_scores[j]
        if size < k:
            most = best_scores[size - 1] if size > 0 else np.inf
            more = 0
            for j in range(n_reached):
                v = reached[j]
                if mass[v] == 0.0:
                    more = offer(best_scores, best_nodes, more, k - size, state[v, 0], v)
            ranked(best_scores, best_nodes, more)
            for j in range(more):
                out_nodes[i, size + j] = best_nodes[j]
                out_scores[i, size + j] = min(best_scores[j], most)
        clear(reached, n_reached, state, mass)
