from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from star_platform.gnn import _attention_kernels as kernels
from star_platform.gnn import runtime
from star_platform.gnn.attention import Layer
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.linear import TypedLinear, alike, project
from star_platform.gnn.neighbours import (
    attend_by_segments,
    mean_by_segments,
    neighbour_attention,
    neighbour_mean,
    own_rows,
)
from star_platform.gnn.trees import BlockTensors

PLAIN = TrainingConfig(dim=8, heads=2, dropout=0.0, norm="none")


def block(lists: list[list[tuple[int, int]]], sources: int, *, weights: bool = True, seed: int = 3) -> BlockTensors:
    """From lists of (source, relation) per destination; destination i is item i of the sources."""
    flat = [pair for each in lists for pair in each]
    rng = np.random.default_rng(seed)
    assert all(u < sources for u, _ in flat)
    assert len(lists) <= sources
    return BlockTensors(
        indptr=torch.tensor([0, *np.cumsum([len(each) for each in lists])]),
        neighbours=torch.tensor([u for u, _ in flat], dtype=torch.int32),
        relations=torch.tensor([r for _, r in flat], dtype=torch.int16),
        ages=torch.from_numpy(rng.random(len(flat)).astype(np.float32)),
        weights=torch.from_numpy(rng.random(len(flat)).astype(np.float32)) if weights else None,
        self_positions=torch.arange(len(lists)),
    )


def random_block(seed: int, n: int, m: int, edges: int, relations: int, *, weights: bool = True) -> BlockTensors:
    rng = np.random.default_rng(seed)
    lists: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for v in rng.integers(n, size=edges):
        lists[v].append((int(rng.integers(m)), int(rng.integers(relations))))
    return block(lists, m, weights=weights, seed=seed)


def leaves(seed: int, n: int, m: int, width: int, relations: int, heads: int) -> list[Tensor]:
    """kv, q, rho and terms; `width` is that of a head."""
    make, inner = torch.Generator().manual_seed(seed), heads * width
    shapes = (m, 2 * inner), (n, inner), (relations, 2 * inner), (4, relations, heads)
    return [torch.randn(shape, generator=make).requires_grad_() for shape in shapes]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 20),
    edges=st.integers(0, 80),
    relations=st.integers(1, 4),
    heads=st.integers(1, 5),
    width=st.sampled_from([1, 7, 16, 40]),
    weights=st.booleans(),
)
def test_the_kernels_agree_with_torch_in_values_and_gradients(
    seed: int, n: int, edges: int, relations: int, heads: int, width: int, weights: bool
) -> None:
    m = n + 5
    b = random_block(seed, n, m, edges, relations, weights=weights)
    inputs = leaves(seed, n, m, width, relations, heads)
    kv, q, rho, terms = inputs
    make = torch.Generator().manual_seed(seed + 1)
    ds, down = torch.randn(q.shape, generator=make), torch.randn(n, kv.shape[1], generator=make)

    own, rest = own_rows(kv, b.self_positions)
    ours = neighbour_attention(rest, q, rho, terms, b, 0.3)
    mine = torch.autograd.grad((ours * ds).sum() + (own * down).sum(), inputs)
    theirs = attend_by_segments(kv, q, rho, terms, b, 0.3)
    reference = torch.autograd.grad((theirs * ds).sum() + (kv[b.self_positions] * down).sum(), inputs)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for one, other in zip(mine, reference, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)

    gates = terms.detach()[0, :, 0].clone().requires_grad_()
    ours, theirs = neighbour_mean(kv, rho, gates, b), mean_by_segments(kv, rho, gates, b)
    assert torch.allclose(ours, theirs, atol=1e-5)
    pulled = [torch.autograd.grad((each * down).sum(), [kv, rho, gates]) for each in (ours, theirs)]
    for one, other in zip(*pulled, strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def test_bfloat16_rounds_what_float32_gives() -> None:
    b = random_block(1, 30, 40, 150, 3)
    kv, q, rho, terms = leaves(1, 30, 40, 24, 3, 4)
    low = [each.detach().bfloat16().requires_grad_() for each in (kv, q)]
    high = [each.detach().float().requires_grad_() for each in low]
    made = [neighbour_attention(*pair, rho, terms, b, 0.3) for pair in (low, high)]
    assert torch.equal(made[0], made[1].bfloat16())
    ds = torch.randn(30, 96).bfloat16()
    pulled = [
        torch.autograd.grad((each * ds).sum(), [*pair, rho]) for each, pair in zip(made, (low, high), strict=True)
    ]
    for one, other in zip(*pulled, strict=True):
        assert torch.allclose(one.float(), other.float(), rtol=0.02, atol=0.02 * float(other.abs().max()))


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    b = random_block(5, 300, 400, 3000, 4)
    results = []
    for threads in (1, 2, 3):
        inputs = leaves(2, 300, 400, 96, 4, 4)
        with runtime.torch_threads(threads):
            out = neighbour_attention(*inputs, b, 0.1)
            results.append([out, *torch.autograd.grad((out * out.detach()).sum(), inputs)])
    assert all(torch.equal(a, c) for other in results[1:] for a, c in zip(results[0], other, strict=True))


def test_a_hand_worked_vector() -> None:
    # One node, x = (1, 0), two neighbours (1, 0) and (0, 2) of one relation, identity projections, one head, no
    # activation (last layer). Scores q.k / sqrt(2) = (0.7071, 0); shares e^0.7071 : 1 = (0.66976, 0.33024);
    # output x + 0.66976 (1, 0) + 0.33024 (0, 2) = (1.66976, 0.66048).
    config = TrainingConfig(dim=4, heads=1).model_copy(update={"dim": 2, "age_encoding": False})
    layer = Layer(config, 1, 1, weighted=False, last=True)
    with torch.no_grad():
        for typed in (layer.own, layer.query, layer.output):
            typed.weight.copy_(torch.eye(2)[None])
        layer.key_value.copy_(torch.cat([torch.eye(2), torch.eye(2)], dim=1))
    hidden = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    b = block([[(1, 0), (2, 0)]], 3, weights=False)
    assert torch.allclose(layer(hidden, b, (0, 1)), torch.tensor([[1.66976, 0.66048]]), atol=1e-5)


def dense_reference(layer: Layer, hidden: Tensor, b: BlockTensors, slices: tuple[int, ...]) -> list[list[float]]:
    """The formula of the module's docstring, one node, neighbour and head at a time, in float64."""
    x = hidden.double().numpy()
    p = {name: parameter.detach().double().numpy() for name, parameter in layer.named_parameters()}
    rows = []
    for i in range(len(b.self_positions)):
        t = next(t for t in range(len(slices) - 1) if slices[t] <= i < slices[t + 1])
        own = x[int(b.self_positions[i])]
        edges = range(int(b.indptr[i]), int(b.indptr[i + 1]))
        heads = []
        for h in range(layer.heads):
            inner = p["key_value"].shape[1] // 2
            width = inner // layer.heads
            here = slice(h * width, (h + 1) * width)
            keys, weights_of_values = p["key_value"][:, here], p["key_value"][:, inner:][:, here]
            query = (own @ p["query.weight"][t])[here]
            scores, values = [], []
            for e in edges:
                r = int(b.relations[e])
                message = x[int(b.neighbours[e])] + p["rho"][r]
                score = query @ (message @ keys) / np.sqrt(width) + p["terms"][1, r, h]
                score += p["terms"][2, r, h] * float(b.ages[e])
                if b.weights is not None:
                    score += p["terms"][3, r, h] * float(b.weights[e])
                scores.append(score)
                values.append(p["terms"][0, r, h] * message @ weights_of_values)
            if not len(edges):
                heads.append(np.zeros(width))
                continue
            shares = np.exp(np.array(scores) - max(scores))
            heads.append((shares / shares.sum()) @ np.array(values))
        out = own @ p["own.weight"][t] + p["bias"][t] + np.concatenate(heads) @ p["output.weight"][t]
        rows.append(np.where(out > 0, out, 0.2 * out).tolist())
    return rows


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_layer_is_the_formula_of_its_docstring(multiplier: int) -> None:
    torch.manual_seed(4)
    config = PLAIN.model_copy(update={"multiplier": multiplier})
    layer = Layer(config, 2, 3, weighted=True, last=False)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    b = random_block(2, 6, 9, 20, 3)
    hidden = torch.randn(9, 8)
    expected = torch.tensor(dense_reference(layer, hidden, b, (0, 2, 6)), dtype=torch.float32)
    assert torch.allclose(layer(hidden, b, (0, 2, 6)), expected, atol=1e-4)


def test_terms_without_use_are_not_learned() -> None:
    layer = Layer(PLAIN.model_copy(update={"age_encoding": False}), 1, 2, weighted=False, last=True)
    out = layer(torch.randn(6, 8), random_block(1, 4, 6, 12, 2, weights=False), (0, 4))
    out.sum().backward()
    assert layer.terms.grad is not None
    assert layer.terms.grad[:2].abs().sum() > 0
    assert layer.terms.grad[2:].abs().sum() == 0


def test_an_item_without_neighbours_is_its_own_projection() -> None:
    layer = Layer(PLAIN, 1, 1, weighted=False, last=True)
    hidden = torch.randn(3, 8)
    out = layer(hidden, block([[], [(2, 0)]], 3, weights=False), (0, 2))
    assert torch.allclose(out[0], hidden[0] @ layer.own.weight[0], atol=1e-6)
    assert torch.isfinite(out).all()


def test_target_in_attention_adds_an_edge_from_each_item_to_itself() -> None:
    found = kernels.edge_terms(
        np.array([0, 2, 2]),
        np.array([4, 3], np.int32),
        np.array([1, 0], np.int16),
        np.array([3_600_000_000, -1]),
        np.array([np.e - 1, 0.0], np.float32),
        np.array([2, 5], np.int32),
        7,
    )
    indptr, neighbours, relations, ages, weights = (each.tolist() for each in found)
    assert indptr == [0, 3, 4]
    assert neighbours == [4, 3, 2, 5]
    assert relations == [1, 0, 7, 7]
    assert ages == pytest.approx([np.log(2), 0, 0, 0])
    assert weights == pytest.approx([1, 0, 0, 0])


@pytest.mark.parametrize(("width", "out"), [(4, 4), (4, 8), (8, 4), (6, 4)])
def test_projections_start_near_the_identity_of_their_shape(width: int, out: int) -> None:
    torch.manual_seed(0)
    start = alike(300, width, out).mean(0)
    expected = torch.eye(min(width, out))
    if out > width:
        expected = torch.cat([torch.eye(width)] * (out // width), dim=1)
    elif width > out:
        copies = -(-width // out)
        expected = torch.cat([torch.eye(out)] * copies)[:width] / copies
    assert torch.allclose(start, expected, atol=0.05)


def test_projections_by_type_are_products_of_each_segment_in_values_and_gradients() -> None:
    linears = [TypedLinear(4, 3, 2), TypedLinear(4, 5, 2)]
    rows = [torch.randn(6, width, requires_grad=True) for width in (3, 5)]
    bias, slices = torch.randn(4, 2, requires_grad=True), (0, 0, 2, 2, 6)  # two types without rows
    one, other = (linear.weight for linear in linears)
    out = project(rows, linears, slices, bias)
    kinds = torch.tensor([1, 1, 3, 3, 3, 3])
    expected = torch.einsum("ni,nio->no", rows[0], one[kinds]) + torch.einsum("ni,nio->no", rows[1], other[kinds])
    expected = expected + bias[kinds]
    assert torch.allclose(out, expected, atol=1e-6)
    down, inputs = torch.randn(6, 2), [*rows, one, other, bias]
    pulled = [torch.autograd.grad((each * down).sum(), inputs) for each in (out, expected)]
    assert all(torch.allclose(mine, theirs, atol=1e-6) for mine, theirs in zip(*pulled, strict=True))
    assert project([rows[0][:0]], linears[:1], (0, 0, 0, 0, 0)).shape == (0, 2)


def test_a_layer_in_bfloat16_stays_there() -> None:
    torch.manual_seed(1)
    layer = Layer(PLAIN.model_copy(update={"norm": "layer"}), 1, 2, weighted=True, last=False)
    b, hidden = random_block(3, 10, 14, 40, 2), torch.randn(14, 8)
    low = layer(hidden.bfloat16(), b, (0, 10))
    assert low.dtype == torch.bfloat16
    assert torch.allclose(low.float(), layer(hidden, b, (0, 10)), atol=0.05, rtol=0.05)
