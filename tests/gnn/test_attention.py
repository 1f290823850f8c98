from __future__ import annotations

import numpy as np
import torch

from star_platform.gnn import kernels
from star_platform.gnn.attention import AttentionLayer, segment_matmul
from star_platform.gnn.trees import BlockTensors


def block(neighbours: list[list[int]], relations: list[list[int]], sources: int, num_relations: int) -> BlockTensors:
    near, kinds = np.array(neighbours, dtype=np.int32), np.array(relations, dtype=np.int16)
    pairs, slices, index = kernels.unique_pairs(near, kinds, num_relations, sources)
    rng = np.random.default_rng(3)
    return BlockTensors(
        pair_sources=torch.from_numpy(pairs),
        pair_slices=tuple(int(x) for x in slices),
        index=torch.from_numpy(index),
        relations=torch.from_numpy(np.maximum(kinds, 0).astype(np.int64)),
        ages=torch.from_numpy(rng.random(near.shape).astype(np.float32)),
        weights=torch.from_numpy(rng.random(near.shape).astype(np.float32)),
        self_positions=torch.arange(len(near)),
    )


def test_unique_pairs_are_sorted_by_relation_and_cover_every_slot() -> None:
    near = np.array([[3, 1, -1], [3, 3, 0], [-1, -1, -1]], dtype=np.int32)
    kinds = np.array([[0, 1, -1], [0, 1, 1], [-1, -1, -1]], dtype=np.int16)
    pairs, slices, index = kernels.unique_pairs(near, kinds, 2, 4)
    assert pairs.tolist() == [3, 0, 1, 3]
    assert slices.tolist() == [0, 1, 4]
    assert index.tolist() == [[0, 2, 4], [0, 3, 1], [4, 4, 4]]


def test_a_hand_worked_vector() -> None:
    # One node, x = (1, 0), two neighbours (1, 0) and (0, 2) of one relation, identity projections, one head, no
    # activation (last layer). Scores q.k / sqrt(2) = (0.7071, 0); shares e^0.7071 : 1 = (0.66976, 0.33024);
    # output x + 0.66976 (1, 0) + 0.33024 (0, 2) = (1.66976, 0.66048).
    layer = AttentionLayer(2, 1, 1, 1, ages=False, weights=False, last=True, dropout=0.0)
    with torch.no_grad():
        for typed in (layer.own, layer.query, layer.output):
            typed.weight.copy_(torch.eye(2)[None])
        layer.key_value.copy_(torch.cat([torch.eye(2), torch.eye(2)], dim=1)[None])
    hidden = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    out = layer(hidden, block([[1, 2]], [[0, 0]], 3, 1), (0, 1))
    assert torch.allclose(out, torch.tensor([[1.66976, 0.66048]]), atol=1e-5)


def dense_reference(
    layer: AttentionLayer, hidden: torch.Tensor, b: BlockTensors, slices: tuple[int, ...]
) -> list[float]:
    """The formula of the module's docstring, one scalar loop at a time, in float64."""
    heads, dim = layer.heads, hidden.shape[1]
    width = dim // heads
    h = hidden.double().numpy()
    p = {name: parameter.detach().double().numpy() for name, parameter in layer.named_parameters()}
    rows = []
    for i in range(len(b.index)):
        t = next(t for t in range(len(slices) - 1) if slices[t] <= i < slices[t + 1])
        x = h[int(b.self_positions[i])]
        mixed = np.zeros(dim)
        slots = [k for k in range(b.index.shape[1]) if int(b.index[i, k]) < len(b.pair_sources)]
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            q = (x @ p["query.weight"][t])[part]
            scores, values = [], []
            for k in slots:
                r, pair = int(b.relations[i, k]), int(b.index[i, k])
                u = h[int(b.pair_sources[pair])] @ p["key_value"][r]
                score = q @ u[:dim][part] / np.sqrt(width) + p["relation_bias"][r, head]
                score += p["age"][r, head] * float(b.ages[i, k])
                assert b.weights is not None
                scores.append(score + p["weight"][r, head] * float(b.weights[i, k]))
                values.append(u[dim:][part])
            if slots:
                shares = np.exp(scores) / np.exp(scores).sum()
                mixed[part] = shares @ np.array(values)
        out = x @ p["own.weight"][t] + p["bias"][t] + mixed @ p["output.weight"][t]
        out = (out - out.mean()) / np.sqrt(out.var() + 1e-5) * p["norm.weight"] + p["norm.bias"]
        rows.append(np.where(out > 0, out, 0.2 * out))
    return np.array(rows).tolist()


def test_layer_equals_a_dense_reference() -> None:
    torch.manual_seed(0)
    layer = AttentionLayer(8, 2, 2, 3, ages=True, weights=True, last=False, dropout=0.0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    hidden = torch.randn(6, 8)
    b = block(
        [[0, 5, 2], [4, -1, -1], [-1, -1, -1], [1, 1, 3]], [[0, 2, 0], [1, -1, -1], [-1, -1, -1], [0, 2, 1]], 6, 3
    )
    out = layer(hidden, b, (0, 1, 4))
    assert np.allclose(out.detach().numpy(), dense_reference(layer, hidden, b, (0, 1, 4)), atol=1e-5)


def test_gradients_are_right_and_an_item_without_neighbours_is_finite() -> None:
    torch.manual_seed(1)
    layer = AttentionLayer(4, 2, 1, 2, ages=True, weights=True, last=True, dropout=0.0).double()
    b = block([[0, 2], [-1, -1], [1, -1]], [[0, 1], [-1, -1], [1, -1]], 3, 2)
    hidden = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(x, b, (0, 3)), (hidden,))
    layer(hidden, b, (0, 3)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


def test_segment_matmul_with_empty_segments() -> None:
    rows, weights = torch.randn(5, 3), torch.randn(4, 3, 2)
    out = segment_matmul(rows, weights, (0, 0, 2, 2, 5))
    assert torch.allclose(out, torch.cat([rows[:2] @ weights[1], rows[2:] @ weights[3]]))
    assert segment_matmul(rows[:0], weights, (0, 0, 0, 0, 0)).shape == (0, 2)
