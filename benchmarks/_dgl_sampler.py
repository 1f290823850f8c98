"""DGL's neighbour sampler on the graph of a benchmark."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("DGLBACKEND", "pytorch")

import numpy as np
from threadpoolctl import threadpool_limits

from star_platform.graph.storage import EdgeArrays


class Dgl:
    """DGL on the same graph, driven as its guide says. Fan-outs are given seed side first, and DGL takes them last."""

    def __init__(self, counts: dict[str, int], edges: list[EdgeArrays], seeds: int) -> None:
        import dgl
        import torch

        self.dgl, self.torch, self.batch = dgl, torch, seeds
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
        sampler = self.dgl.dataloading.NeighborSampler(list(reversed(fan_outs)))
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
                    np.resize(members - self.offsets[self.node_types.index("member")], self.batch * (count + 9))
                )
            },
            self.dgl.dataloading.NeighborSampler(list(reversed(fan_outs))),
            batch_size=self.batch,
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
