"""LTGNN over users and items: gradients, ranking, planted structure, resume."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from star_platform.errors import TrainingError
from star_platform.gnn.ltgnn import losses
from star_platform.gnn.ltgnn.interactions import Interactions, read_pairs
from star_platform.gnn.ltgnn.ranking import ranked, top_items
from star_platform.gnn.ltgnn.recommender import Recommender, RecommenderConfig
from star_platform.gnn.ltgnn.snapshots import FILE

SMALL = RecommenderConfig(
    dim=16, batch_size=300, epochs=12, lr=0.02, negatives=40, loss="softmax", temperature=0.2, l2=0.0, threads=1
)


def planted(users: int = 120, items: int = 90, groups: int = 6, seed: int = 0) -> tuple[Interactions, Interactions]:
    """Users like the items of their own group: pairs to learn from, and others of the same kind to find."""
    rng = np.random.default_rng(seed)
    likes = (np.arange(users)[:, None] % groups == np.arange(items) % groups) & (rng.random((users, items)) < 0.8)
    u, i = np.nonzero(likes | (rng.random((users, items)) < 0.01))
    hidden = rng.random(len(u)) < 0.25
    return Interactions.of(u[~hidden], i[~hidden], users, items), Interactions.of(u[hidden], i[hidden], users, items)


def test_pairs_are_read_sorted_and_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("1 5 3 3\n0\n\n2 0\n", encoding="ascii")
    pairs = Interactions.of(*read_pairs(path), num_users=3, num_items=6)
    assert pairs.users.tolist() == [1, 1, 2]
    assert pairs.items.tolist() == [3, 5, 0]
    assert len(pairs.joined(Interactions.of(np.array([0, 1]), np.array([1, 5]), 3, 6))) == 4
    assert pairs.first_users(2).users.tolist() == [1, 1]


@pytest.mark.parametrize("content", ["", "3\n", "0 x\n"])
def test_unreadable_pairs_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(content, encoding="ascii")
    with pytest.raises(TrainingError) as error:
        Interactions.of(*read_pairs(path), num_users=3, num_items=6)
    assert error.value.code == "M031"


def test_ids_outside_the_graph_are_refused() -> None:
    with pytest.raises(TrainingError) as error:
        Interactions.of(np.array([0]), np.array([6]), 3, 6)
    assert error.value.code == "M031"


def test_drawn_items_are_unknown_to_their_user_and_uniform() -> None:
    pairs = Interactions.of(np.array([0, 0, 0, 1]), np.array([0, 2, 4, 1]), 3, 5)
    drawn = pairs.others(np.zeros(6000, np.int64), key=3)
    assert sorted(set(drawn.tolist())) == [1, 3]
    assert abs((drawn == 1).mean() - 0.5) < 0.03
    full = Interactions.of(np.zeros(4, np.int64), np.arange(4), 1, 4)
    assert set(full.others(np.zeros(50, np.int64), key=1).tolist()) <= {0, 1, 2, 3}  # ends, although all are known


def test_bpr_and_its_gradient_equal_autograd() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((9, 6)).astype(np.float32)
    u, i, j = (rng.integers(9, size=20) for _ in range(3))
    loss, gradient = losses.bpr(vectors, u, i, j)
    table = torch.from_numpy(vectors).double().requires_grad_()
    expected = torch.nn.functional.softplus((table[u] * (table[j] - table[i])).sum(dim=1)).mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-6)
    assert table.grad is not None
    np.testing.assert_allclose(gradient, table.grad.numpy(), atol=1e-6)


def masked_columns(masked: losses.Masked) -> list[list[int]]:
    """Of each row, ascending."""
    found = []
    for link in masked.first:
        columns = []
        while link >= 0:
            columns.append(int(masked.columns[link]))
            link = masked.following[link]
        found.append(sorted(columns))
    return found


@pytest.mark.parametrize("cosine", [True, False])
def test_softmax_and_its_gradient_equal_autograd(cosine: bool) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((12, 6)).astype(np.float32)
    u, i, c = rng.integers(12, size=20), rng.integers(12, size=20), rng.integers(12, size=7)
    known = planted(20, 12, groups=2)[0]
    masked = losses.KnownItems(known).among(np.arange(20), c)
    allowed = np.ones((20, 7), bool)
    for row, columns in enumerate(masked_columns(masked)):
        allowed[row, columns] = False
    assert 0 < (~allowed).sum() < 100
    loss, gradient = losses.softmax(vectors, u, i, c, masked, temperature=0.3, cosine=cosine)
    table = torch.from_numpy(vectors).double().requires_grad_()
    shown = torch.nn.functional.normalize(table, dim=1) if cosine else table
    rivals = (shown[u] @ shown[c].T / 0.3).masked_fill(torch.from_numpy(~allowed), -1e9)
    own = (shown[u] * shown[i]).sum(dim=1, keepdim=True) / 0.3
    logits = torch.cat([own, rivals], dim=1)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(20, dtype=torch.long))
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    assert table.grad is not None
    np.testing.assert_allclose(gradient, table.grad.numpy(), atol=1e-5)


@pytest.mark.parametrize("bf16", [True, False])
def test_softmax_of_large_logits_neither_overflows_nor_vanishes(bf16: bool) -> None:
    """Logits from -300 to 300, with rows where the own item is far ahead, far behind, and where nothing else counts."""
    rng = np.random.default_rng(0)
    vectors = rng.integers(-4, 5, size=(40, 8)).astype(np.float32)  # products are exact in bfloat16 too
    vectors[:, 0] *= 4
    u, i, c = rng.integers(40, size=300), rng.integers(40, size=300), rng.integers(40, size=90)
    masked = losses.Masked(np.full(300, -1, np.int32), np.full(90, -1, np.int32), np.arange(90, dtype=np.int32))
    masked.first[7], masked.following[:89] = 0, np.arange(1, 90)
    loss, gradient = losses.softmax(vectors, u, i, c, masked, temperature=1.0, cosine=False, bf16=bf16)
    table = torch.from_numpy(vectors).double().requires_grad_()
    rivals = table[u] @ table[c].T
    assert rivals.min() < -200
    assert rivals.max() > 200
    allowed = torch.ones(300, 90, dtype=torch.bool)
    allowed[7] = False
    logits = torch.cat([(table[u] * table[i]).sum(dim=1, keepdim=True), rivals.masked_fill(~allowed, -1e9)], dim=1)
    expected = torch.nn.functional.cross_entropy(logits, torch.zeros(300, dtype=torch.long))
    expected.backward()
    assert table.grad is not None
    close = {"rtol": 0.02, "atol": 0.01} if bf16 else {"rtol": 1e-5, "atol": 1e-5}
    assert loss == pytest.approx(expected.item(), rel=close["rtol"])
    np.testing.assert_allclose(gradient, table.grad.numpy(), **close)


def test_a_candidate_that_stands_for_many_counts_as_so_many() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((12, 6)).astype(np.float32)
    u, i, c = rng.integers(12, size=20), rng.integers(12, size=20), rng.integers(12, size=7)
    found, gradient = losses.softmax(vectors, u, i, c, temperature=0.9, cosine=False, stands_for=3.0)
    loss, wanted = losses.softmax(vectors, u, i, np.tile(c, 3), temperature=0.9, cosine=False)
    assert found == pytest.approx(loss, abs=1e-5)
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)
    assert loss > losses.softmax(vectors, u, i, c, temperature=0.9, cosine=False)[0] + 0.1


def test_softmax_in_bfloat16_is_close() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 32)).astype(np.float32)
    u, i, c = rng.integers(600, size=500), rng.integers(600, size=500), rng.integers(600, size=100)
    exact, wanted = losses.softmax(vectors, u, i, c, temperature=0.2, cosine=True)
    loss, found = losses.softmax(vectors, u, i, c, temperature=0.2, cosine=True, bf16=True)
    assert loss == pytest.approx(exact, abs=0.01)
    assert 1e-6 < np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_known_pairs_are_masked_however_often_they_are_drawn() -> None:
    pairs = Interactions.of(np.array([0, 0, 1]), np.array([2, 3, 0]), 3, 5)
    known = losses.KnownItems(pairs)
    for _ in range(2):  # the second time shows that it cleans up
        found = known.among(np.array([1, 0, 2, 0]), np.array([3, 0, 3, 4, 2]))
        assert masked_columns(found) == [[1], [0, 2, 4], [], [0, 2, 4]]


def test_ranking_equals_a_plain_computation() -> None:
    rng = np.random.default_rng(0)
    known, wanted = planted()
    users, items = rng.standard_normal((120, 5)).astype(np.float32), rng.standard_normal((90, 5)).astype(np.float32)
    found = ranked(users, items, known, wanted, k=10)
    recalls, gains = [], []
    for user in range(120):
        mine = set(wanted.items[wanted.indptr[user] : wanted.indptr[user + 1]].tolist())
        if not mine:
            continue
        scores = users[user] @ items.T
        scores[known.items[known.indptr[user] : known.indptr[user + 1]]] = -np.inf
        best = np.argsort(-scores)[:10]
        hits = np.array([item in mine for item in best])
        recalls.append(hits.sum() / len(mine))
        ideal = sum(1 / np.log2(place + 2) for place in range(min(10, len(mine))))
        gains.append((hits / np.log2(np.arange(2, 12))).sum() / ideal)
    assert found.users == len(recalls)
    assert found.recall == pytest.approx(np.mean(recalls), abs=1e-9)
    assert found.ndcg == pytest.approx(np.mean(gains), abs=1e-9)


def test_ranking_of_few_items_ends_in_nothing_and_ties_go_to_the_lower() -> None:
    known = Interactions.of(np.array([0, 0]), np.array([0, 3]), 1, 4)
    best = top_items(np.ones((1, 2), np.float32), np.ones((4, 2), np.float32), np.array([0]), known, k=4)
    assert best.tolist() == [[1, 2, -1, -1]]


@pytest.mark.parametrize(
    "changes",
    [{"loss": "bpr"}, {"loss": "softmax"}, {"cosine": False, "temperature": 1.0, "among_all": True, "l2": 0.03}],
    ids=["bpr", "cosine", "among all"],
)
def test_planted_groups_are_found(changes: dict[str, Any]) -> None:
    known, wanted = planted()
    run = Recommender(known, dataclasses.replace(SMALL, **{"epochs": 25, **changes}))
    before = run.judged(wanted, k=10).recall
    run.run()
    after = run.judged(wanted, k=10).recall
    assert after > 0.85 > before + 0.2


def test_gradient_of_a_full_batch_with_all_neighbours_is_the_implicit_one() -> None:
    """What reaches the optimiser after many sweeps equals autograd through the closed form, own share included."""
    known, _ = planted(30, 12, groups=2)
    config = dataclasses.replace(SMALL, loss="bpr", neighbours=64, own_share=0.2, l2=1e-2, dim=4, batch_size=10_000)
    run = Recommender(known, config)
    users, items = known.users, known.items.astype(np.int64)
    others = known.others(users, key=1)
    caught: list[tuple[np.ndarray, np.ndarray]] = []
    run.optimizer.step = lambda rows, gradients, lr: caught.append((rows.copy(), gradients.copy()))  # type: ignore[method-assign]
    for key in range(80):
        run.step(users, items, others, key, lr=0.1)

    nodes = known.num_users + known.num_items
    dense = np.zeros((nodes, nodes))
    csr = run.matrix.forward
    dense[np.repeat(np.arange(nodes), np.diff(csr.indptr)), csr.indices] = csr.values
    table = torch.from_numpy(run.table).double().requires_grad_()
    z = config.alpha * torch.linalg.solve(
        torch.eye(nodes).double() - (1 - config.alpha) * torch.from_numpy(dense), table
    )
    out = (z - config.own_share * table) / (1 - config.own_share)
    u, i, j = users, items + known.num_users, others + known.num_users
    scored = torch.nn.functional.softplus((out[u] * (out[j] - out[i])).sum(dim=1)).mean()
    decay = sum(table[rows].square().sum() for rows in (u, i, j)) * config.l2 * 0.5 / len(u)
    (scored + decay).backward()
    rows, gradients = caught[-1]
    assert table.grad is not None
    assert len(rows) == nodes
    np.testing.assert_allclose(gradients, table.grad.numpy()[rows], atol=2e-6)


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_killed_and_resumed_run_ends_with_the_same_bytes_whatever_the_threads(tmp_path: Path, loss: str) -> None:
    known, _ = planted()
    config = dataclasses.replace(SMALL, loss=loss, epochs=5, decay_from=0.4, neighbours=6)
    straight = Recommender(known, config).run()
    Recommender(known, config).run(tmp_path, until=3, every=2)
    resumed = Recommender(known, config).run(tmp_path)
    assert resumed.epochs_done == 5
    assert straight.table.tobytes() == resumed.table.tobytes()
    other = Recommender(known, dataclasses.replace(config, seed=1)).run()
    assert other.table.tobytes() != straight.table.tobytes()
    threaded = Recommender(known, dataclasses.replace(config, threads=3)).run()
    assert threaded.table.tobytes() == straight.table.tobytes()


def test_checkpoint_of_another_run_or_damaged_is_refused(tmp_path: Path) -> None:
    known, _ = planted()
    Recommender(known, SMALL).run(tmp_path, until=1)
    with pytest.raises(TrainingError) as error:
        Recommender(known, dataclasses.replace(SMALL, alpha=0.3)).run(tmp_path)
    assert error.value.code == "M033"
    (tmp_path / FILE).write_bytes(b"short")
    with pytest.raises(TrainingError) as error:
        Recommender(known, SMALL).run(tmp_path)
    assert error.value.code == "M033"


@pytest.mark.parametrize("wrong", [{"alpha": 1.0}, {"own_share": 1.0}, {"neighbours": 0}, {"lr": 0.0}])
def test_settings_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError) as error:
        dataclasses.replace(SMALL, **wrong)
    assert error.value.code == "M032"


def test_users_and_items_without_pairs_have_finite_vectors() -> None:
    pairs = Interactions.of(np.array([0, 1]), np.array([0, 1]), 4, 5)
    users, items = Recommender(pairs, dataclasses.replace(SMALL, epochs=2, cosine_out=True)).run().vectors()
    assert np.isfinite(users).all()
    assert np.isfinite(items).all()
    assert np.abs(users[3]).max() > 0
