"""A marketplace of some 200,000 nodes with a signal that many neighbours tell better than few.

The structure is that of `benchmarks.sampling`: members, jobs, recruiters, skills, titles and companies of power-law
popularity, six months of dated interactions. Planted on top: every member has an interest out of 64, which changes once
at a random moment; a third of the members *read* jobs, mostly of the interest of that time, some 200 each, and *save* a
few of it. A member's own text tells nothing of its interest, those of the jobs that it read do together. What is
learned is who saves what.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._market import MemoryGraph
from benchmarks.sampling import END, _csc, generate
from star_platform.graph.storage import EdgeArrays, EdgeType, FeatureArray

INTERESTS, WIDTH = 64, 32
ACTIVE = 0.3
"""Share of the members that read and save."""
OWN = {"reads": 0.75, "saves": 0.95}
"""Share of the jobs of a member's own interest; the rest is any."""
NOISE = 1.5
"""Of a job's text, in units of what tells its interest; members' texts are noise alone."""


class Market(MemoryGraph):
    """Edges with reverses, and a text of 32 numbers per node; in memory, with the interface of a compiled graph."""

    def __init__(self, nodes: int, edges: int, reads: int, saves: int, seed: int) -> None:
        rng = np.random.default_rng((seed, 1))
        self.counts, made = generate(nodes, edges, seed)
        self.manifest: dict[str, Any] = {}
        members, jobs = self.counts["member"], self.counts["job"]
        interest = rng.integers(INTERESTS, size=(members, 2))
        changes = rng.integers(END // 4, 3 * END // 4, members)
        of_job = rng.integers(INTERESTS, size=jobs)
        by_interest = np.argsort(of_job, kind="stable")
        starts = np.searchsorted(of_job[by_interest], np.arange(INTERESTS + 1))
        for name, count in (("reads", reads), ("saves", saves)):
            src = rng.integers(int(ACTIVE * members), size=count)
            times = rng.integers(0, END, count)
            wanted = interest[src, (times > changes[src]).astype(np.int64)]
            first, last = starts[wanted], starts[wanted + 1]
            own = by_interest[(first + (rng.random(count) * (last - first)).astype(np.int64)).clip(max=jobs - 1)]
            dst = np.where(rng.random(count) < OWN[name], own, rng.integers(jobs, size=count))
            made += both(name, members, jobs, src.astype(np.int32), dst.astype(np.int32), times)
        self._edges = {each.type: each for each in made}
        self._texts = {node: rng.standard_normal((n, WIDTH), dtype=np.float32) for node, n in self.counts.items()}
        centres = rng.standard_normal((INTERESTS, WIDTH), dtype=np.float32)
        self._texts["job"] = centres[of_job] + np.float32(NOISE) * self._texts["job"]

    def features(self, node: str) -> tuple[FeatureArray, ...]:
        return (FeatureArray(node, "text", "text", WIDTH, self._texts[node]),)


def both(
    name: str, members: int, jobs: int, src: NDArray[np.int32], dst: NDArray[np.int32], times: NDArray[np.int64]
) -> list[EdgeArrays]:
    """Edges from members to jobs, and their reverses."""
    return [
        _csc(EdgeType("member", name, "job"), jobs, src, dst, times),
        _csc(EdgeType("job", f"rev_{name}", "member"), members, dst, src, times),
    ]
