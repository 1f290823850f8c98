"""The implicit layer against closed forms, dense linear algebra and autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from star_platform.errors import TrainingError
from star_platform.gnn.ltgnn.adam import RowAdam
from star_platform.gnn.ltgnn.fixed_point import Memory, appnp, draw, read_out
from star_platform.gnn.ltgnn.matrix import Csr, Propagation, Workers, multiply, propagation

ALPHA = 0.45
STAR = propagation(3, np.array([0, 0]), np.array([1, 2]))


def dense(matrix: Csr) -> np.ndarray:
    out = np.zeros((matrix.num_rows, matrix.num_rows))
    rows = np.repeat(np.arange(matrix.num_rows), np.diff(matrix.indptr))
    out[rows, matrix.indices] = matrix.values
    return out


def random_graph(nodes: int = 60, edges: int = 400, seed: int = 1, symmetric: bool = True) -> Propagation:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(nodes, size=(2, edges))
    weights = rng.gamma(1.0, size=edges).astype(np.float32)
    return propagation(nodes, pairs[0], pairs[1], weights, symmetric=symmetric)


def fixed_point(matrix: Csr, inputs: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    return alpha * np.linalg.solve(np.eye(matrix.num_rows) - (1 - alpha) * dense(matrix), inputs.astype(np.float64))


def test_star_has_the_published_fixed_point_and_steps() -> None:
    inputs = np.eye(3, dtype=np.float32)
    star = [[0.664122, 0.205682, 0.205682], [0.205682, 0.684391, 0.063701], [0.205682, 0.063701, 0.684391]]
    np.testing.assert_allclose(appnp(STAR.forward, inputs, ALPHA, 60), star, atol=1e-6)
    three = appnp(STAR.forward, inputs, ALPHA, 3)
    np.testing.assert_allclose(np.diag(three), [0.663863, 0.688238, 0.688238], atol=1e-6)
    np.testing.assert_allclose([three[0, 1], three[1, 2]], [0.205841, 0.05966], atol=1e-6)
    less = read_out(STAR.forward, inputs, ALPHA, 3, 0.2)
    np.testing.assert_allclose(
        [less[0, 0], less[1, 1], less[0, 1], less[1, 2]], [0.579829, 0.610297, 0.257301, 0.074575], atol=1e-6
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_normalised_adjacency_equals_the_dense_formula_and_is_a_contraction(symmetric: bool) -> None:
    rng = np.random.default_rng(3)
    sources, targets = rng.integers(20, size=(2, 90))
    weights = rng.gamma(1.0, size=90).astype(np.float32)
    found = propagation(20, sources, targets, weights, symmetric=symmetric)
    plain = np.zeros((20, 20))
    np.add.at(plain, (targets, sources), weights.astype(np.float64))
    plain = (plain + plain.T if symmetric else plain) + np.eye(20)
    expected = plain / np.sqrt(np.outer(plain.sum(1), plain.sum(0)))
    np.testing.assert_allclose(dense(found.forward), expected, atol=1e-6)
    np.testing.assert_allclose(dense(found.backward), expected.T, atol=1e-6)
    assert np.linalg.norm(dense(found.forward), 2) <= 1 + 1e-6
    assert (found.backward is found.forward) == symmetric


def test_without_self_loops_an_isolated_node_receives_nothing() -> None:
    found = propagation(3, np.array([0]), np.array([1]), self_loops=False)
    np.testing.assert_allclose(dense(found.forward), [[0, 1, 0], [1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("sources", "targets", "weights"),
    [([0], [3], [1.0]), ([-1], [0], [1.0]), ([0], [1], [-1.0]), ([0], [1], [np.nan])],
)
def test_graphs_that_cannot_be_normalised_are_refused(sources: list[int], targets: list[int], weights: list) -> None:
    with pytest.raises(TrainingError) as error:
        propagation(3, np.array(sources), np.array(targets), np.array(weights, np.float32))
    assert error.value.code == "M030"


def test_multiply_is_the_same_whatever_the_threads() -> None:
    graph = random_graph(500, 6000)
    vectors = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    one, three = np.empty_like(vectors), np.empty_like(vectors)
    multiply(graph.forward, vectors, one)
    multiply(graph.forward, vectors, three, Workers(3))
    assert one.tobytes() == three.tobytes()
    np.testing.assert_allclose(one, dense(graph.forward) @ vectors, atol=1e-4)


def test_draws_are_distinct_uniform_and_independent_of_the_batch() -> None:
    graph = random_graph(40, 300).forward
    rows = np.arange(40)
    degrees = np.diff(graph.indptr)
    hits = np.zeros(graph.nnz)
    for key in range(3000):
        found = draw(graph, rows, 5, key)
        assert (found.counts == np.minimum(degrees, 5)).all()
        for row in (0, 7):
            places = found.places[row, : found.counts[row]]
            assert len(set(places)) == len(places)
            assert ((places >= graph.indptr[row]) & (places < graph.indptr[row + 1])).all()
            hits[places] += 1
    for row in (0, 7):
        seen = hits[graph.indptr[row] : graph.indptr[row + 1]]
        expected = 3000 * 5 / degrees[row]
        assert degrees[row] > 5
        # variance of a draw without replacement is p (1 - p); sum over dependent entries scales by (d - 1) / d
        statistic = ((seen - expected) ** 2 / (expected * (1 - 5 / degrees[row]))).sum() * (degrees[row] - 1)
        assert statistic / degrees[row] < degrees[row] + 4 * np.sqrt(2 * degrees[row])
    some = np.array([31, 7, 2])
    whole, part = draw(graph, rows, 5, 9), draw(graph, some, 5, 9, Workers(2))
    for place, row in enumerate(some):
        count = whole.counts[row]
        np.testing.assert_array_equal(part.places[place, :count], whole.places[row, :count])


def test_sampled_aggregation_is_unbiased_over_draws() -> None:
    graph = random_graph()
    rng = np.random.default_rng(2)
    inputs = rng.standard_normal((60, 4)).astype(np.float32)
    rows = np.arange(0, 60, 3)
    drift = 0.3 * rng.standard_normal((60, 4)).astype(np.float32)
    found = np.zeros((4000, len(rows), 4))
    memory = Memory(graph, inputs, ALPHA)
    for key in range(len(found)):
        memory.drift[:] = drift
        found[key] = memory.read(rows, inputs, draw(graph.forward, rows, 4, key))[1]
    expected = (1 - ALPHA) * dense(graph.forward) @ (memory.snapshot + drift) + ALPHA * inputs
    error = (found.mean(axis=0) - expected[rows]) / (found.std(axis=0) / np.sqrt(len(found)) + 1e-9)
    assert np.abs(error).max() < 4.5
    assert found.std(axis=0).max() > 1e-3  # the draws did differ


def test_step_is_exact_when_nothing_moved_since_the_refresh() -> None:
    graph = random_graph()
    inputs = np.random.default_rng(2).standard_normal((60, 4)).astype(np.float32)
    memory = Memory(graph, inputs, ALPHA)
    rows = np.arange(60)
    expected = (1 - ALPHA) * dense(graph.forward) @ memory.vectors + ALPHA * inputs
    _, found, received = memory.read(rows, inputs, draw(graph.forward, rows, 1, 5))
    memory.settle(rows, found, np.zeros_like(found), received)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(memory.vectors, expected, atol=1e-5)


def test_full_sweeps_reach_the_fixed_point_and_the_implicit_gradient() -> None:
    """Row by batch of rows, refreshed now and then, with all neighbours: Z* and dL/dE of a nonlinear loss."""
    graph = random_graph()
    rng = np.random.default_rng(4)
    inputs = rng.standard_normal((60, 3)).astype(np.float32)
    wanted = torch.from_numpy(rng.standard_normal((60, 3)))

    source = torch.from_numpy(inputs.astype(np.float64)).requires_grad_()
    operator = torch.eye(60, dtype=torch.float64) - (1 - ALPHA) * torch.from_numpy(dense(graph.forward))
    exact = ALPHA * torch.linalg.solve(operator, source)
    exact.retain_grad()
    ((exact - wanted) ** 2).sum().backward()

    memory = Memory(graph, np.zeros_like(inputs), ALPHA)  # far from the answer
    assert exact.grad is not None
    upstream = exact.grad.numpy().astype(np.float32)
    for sweep in range(60):
        if sweep % 7 == 0:
            memory.refresh()
        for batch in np.array_split(rng.permutation(60), 4):
            _, vectors, received = memory.read(batch, inputs, draw(graph.forward, batch, 100, sweep))
            memory.settle(batch, vectors, upstream[batch], received)
    np.testing.assert_allclose(memory.vectors, exact.detach().numpy(), atol=1e-5)
    assert source.grad is not None
    np.testing.assert_allclose(memory.gradient, source.grad.numpy(), atol=1e-4)


def test_a_step_is_what_its_formula_says_of_the_neighbours_that_were_drawn() -> None:
    graph = random_graph()
    rng = np.random.default_rng(6)
    inputs = rng.standard_normal((60, 5)).astype(np.float32)
    memory = Memory(graph, inputs, ALPHA, Workers(2))
    memory.moving[:] = rng.standard_normal(memory.moving.shape)
    rows, upstream = rng.permutation(60)[:33], rng.standard_normal((33, 5)).astype(np.float32)
    drawn = draw(graph.forward, rows, 3, 8)
    sampled = np.zeros((33, 60))
    for b, count in enumerate(drawn.counts):
        np.add.at(sampled[b], drawn.neighbours[b, :count], drawn.weights[b, :count])
    ahead = (1 - ALPHA) * (sampled @ memory.drift + memory.aggregate[rows]) + ALPHA * inputs[rows]
    back = (1 - ALPHA) * (sampled @ memory.gradient)

    own, vectors, received = memory.read(rows, inputs, drawn)
    np.testing.assert_array_equal(own, inputs[rows])
    np.testing.assert_allclose(vectors, ahead, atol=1e-5)
    np.testing.assert_allclose(received, back, atol=1e-5)
    elsewhere = memory.read(rows, inputs[rows], drawn, np.arange(33))
    for one, other in zip(elsewhere, (own, vectors, received), strict=True):
        np.testing.assert_array_equal(one, other)

    before = memory.moving.copy()
    found = memory.settle(rows, vectors, upstream, received)
    np.testing.assert_allclose(found, back + ALPHA * upstream, atol=1e-5)
    np.testing.assert_array_equal(memory.gradient[rows], found)
    np.testing.assert_allclose(memory.vectors[rows], vectors, atol=1e-6)
    others = np.setdiff1d(np.arange(60), rows)
    np.testing.assert_array_equal(memory.moving[others], before[others])


def test_memory_in_bfloat16_holds_what_it_was_given_to_eight_bits() -> None:
    graph = random_graph()
    rng = np.random.default_rng(6)
    inputs = rng.standard_normal((60, 5)).astype(np.float32)
    exact, rounded = Memory(graph, inputs, ALPHA), Memory(graph, inputs, ALPHA, bf16=True)
    rows, upstream = rng.permutation(60)[:33], rng.standard_normal((33, 5)).astype(np.float32)
    for key in range(4):
        drawn = draw(graph.forward, rows, 3, key)
        found = []
        for memory in (exact, rounded):
            _, vectors, received = memory.read(rows, 2 * inputs, drawn)
            found += [vectors, memory.settle(rows, vectors, upstream, received)]
        np.testing.assert_allclose(found[2], found[0], atol=0.02)
        np.testing.assert_allclose(found[3], found[1], atol=0.02)
    difference = np.abs(rounded.vectors - exact.vectors)
    assert 1e-6 < difference.max() < 0.02 * np.abs(exact.drift).max()
    rounded.refresh()
    assert not rounded.drift.any()
    np.testing.assert_allclose(rounded.vectors, exact.vectors, atol=0.02)


def test_adam_on_rows_equals_torchs_sparse_adam() -> None:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((30, 8)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(table.copy()))
    ours, other = RowAdam(table, workers=Workers(2)), torch.optim.SparseAdam([theirs], lr=0.01)
    for _ in range(12):
        rows = rng.choice(30, size=9, replace=False)
        gradients = rng.standard_normal((9, 8)).astype(np.float32)
        ours.step(rows, gradients, lr=0.01)
        theirs.grad = torch.sparse_coo_tensor(torch.from_numpy(rows)[None], torch.from_numpy(gradients), (30, 8))
        other.step()
    np.testing.assert_allclose(table, theirs.detach().numpy(), atol=2e-5)
