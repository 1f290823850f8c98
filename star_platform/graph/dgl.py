"""The compiled graph as a DGL heterograph; the only file here that imports dgl."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from star_platform.errors import DependencyMissing
from star_platform.graph.storage import Graph

if TYPE_CHECKING:
    import dgl


def to_dgl(graph: Graph, *, features: bool = False) -> dgl.DGLHeteroGraph:
    """A DGL heterograph with the same node and edge order, int64 ids, in CSC form.

    Edge data: `time` int64 microseconds, `weight` float32, `label.<column>` int8, where the edge type has them. With
    `features`, node data `<feature>`: the newest value of every feature that has an array, zeros where there is none.

    Raises:
        DependencyMissing: D001 when dgl is not installed.
    """
    try:
        import dgl
        import torch
    except (ImportError, FileNotFoundError) as error:  # dgl looks for its own native library
        raise DependencyMissing(
            "D001", f"dgl cannot be imported: {error}", hint='install the extra: pip install "star-platform[dgl]"'
        ) from error

    def tensor(array: Any) -> Any:
        return torch.from_numpy(np.array(array))  # a copy: memory maps are read-only and tensors are not

    data: dict[tuple[str, str, str], Any] = {}
    arrays = {edge_type: graph.edges(edge_type) for edge_type in graph.edge_types}
    for edge_type, edges in arrays.items():
        data[edge_type.src, edge_type.relation, edge_type.dst] = (
            tensor(edges.indices.astype(np.int64)),
            tensor(edges.destinations().astype(np.int64)),
        )
    numbers = {node: graph.num_nodes(node) for node in graph.node_types}
    made = dgl.heterograph(data, numbers, idtype=torch.int64)
    for edge_type, edges in arrays.items():
        target = made.edges[tuple(edge_type)].data
        if edges.timestamps is not None:
            target["time"] = tensor(edges.timestamps)
        if edges.weights is not None:
            target["weight"] = tensor(edges.weights)
        for column, labels in edges.labels.items():
            target[f"label.{column}"] = tensor(labels)
    for node in graph.node_types if features else ():
        for feature in graph.features(node):
            if feature.values is not None:
                rows = feature.rows(np.arange(numbers[node]))
                values = np.zeros((len(rows), *feature.values.shape[1:]), feature.values.dtype)
                values[rows >= 0] = feature.values[rows[rows >= 0]]
                made.nodes[node].data[feature.name] = torch.from_numpy(values)
    return made
