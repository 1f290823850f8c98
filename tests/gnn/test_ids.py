from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from star_platform.errors import TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputReader, TypeEncoder
from star_platform.gnn.ids import IdTable, Moments, RowAdam, _move, hashed_rows, move_by_index, split_parameters
from star_platform.gnn.runtime import torch_threads
from tests.gnn.graphs import GraphWriter


def table(rows: int = 50, dim: int = 8, seed: int = 0, *, sparse: bool = True) -> IdTable:
    torch.manual_seed(seed)
    return IdTable(rows, dim, sparse=sparse)


def loss_of(found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return ((found - target) * torch.arange(1.0, len(found) + 1).unsqueeze(1)).square().mean()


def steps(made: IdTable, adam: RowAdam, batches: list[torch.Tensor]) -> None:
    for number, rows in enumerate(batches):
        adam.zero_grad()
        loss_of(made(rows), torch.full((len(rows), made.weight.shape[1]), float(number))).backward()
        adam.step()


# --- hashing ----------------------------------------------------------------------------------------------------------


def test_rows_of_a_hashed_id_depend_on_the_id_alone() -> None:
    rows = hashed_rows(pa.array(["x", "Zürich", "y" * 300, ""]), 1000)
    assert np.array_equal(rows[1:3], hashed_rows(pa.array(["skip", "Zürich", "y" * 300]).slice(1), 1000))
    assert np.array_equal(hashed_rows(pa.array([7, 8]), 50), hashed_rows(pa.array(["7", "8"]), 50))
    assert rows.tolist() == hashed_rows(pa.array(["x", "Zürich", "y" * 300, ""]), 1000).tolist()


def test_hashed_ids_spread_evenly_and_rarely_share_both_rows() -> None:
    buckets = 500
    rows = hashed_rows(pa.array([f"member-{i}" for i in range(100_000)]), buckets)
    assert rows[:, 0].min() >= 0
    assert rows[:, 0].max() < buckets <= rows[:, 1].min()
    assert rows[:, 1].max() < 2 * buckets
    for half in (rows[:, 0], rows[:, 1] - buckets):
        counts = np.bincount(half, minlength=buckets)
        chi = float(((counts - 200) ** 2 / 200).sum())
        assert abs(chi - buckets) < 6 * (2 * buckets) ** 0.5
    pairs = len(np.unique(rows[:, 0] * 2 * buckets + rows[:, 1]))
    expected = buckets**2 * (1 - np.exp(-100_000 / buckets**2))  # distinct cells that so many throws hit
    assert abs(pairs - expected) < 1500


def test_hashed_ids_have_no_unknown_and_mean_the_same_in_every_graph(tmp_path: Path) -> None:
    config = TrainingConfig(dim=8, heads=1, id_buckets=16, activity=False)
    vectors = []
    for name, ids in (("one", ["a", "b", "c"]), ("two", ["b", "c", "new"])):
        writer = GraphWriter(tmp_path / name)
        writer.node("topic", ids)
        writer.feature("topic.id_embedding", "id", dim=4)
        reader = InputReader(writer.finish(), config)
        (spec,) = reader.specs["topic"]
        assert (spec.kind, spec.rows, spec.columns) == ("hashed", 32, 4)
        torch.manual_seed(0)
        encode = TypeEncoder(reader.specs["topic"], 8, 0.5)
        vectors.append(encode(reader.read("topic", np.arange(3), np.zeros(3, dtype=np.int64))))
    assert torch.equal(vectors[0][1:], vectors[1][:2])
    assert not torch.equal(vectors[1][2], vectors[1][1])
    rows = hashed_rows(pa.array(["a"]), 16)[0]
    weight, projection = encode.tables["0"].weight, encode.projections[0]
    assert torch.allclose(vectors[0][0], encode.norm((weight[rows[0]] + weight[rows[1]]) @ projection), atol=1e-6)


# --- row-wise Adam ----------------------------------------------------------------------------------------------------


def test_rows_read_in_every_step_move_as_with_adamw() -> None:
    ours, theirs = table(), table(sparse=False)
    adam, dense = RowAdam({"t": ours}, 0.01, 0.1), torch.optim.AdamW(theirs.parameters(), 0.01, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    batches = [torch.cat([torch.randperm(50, generator=generator), torch.arange(20)]) for _ in range(12)]
    steps(ours, adam, batches)
    for number, rows in enumerate(batches):
        dense.zero_grad()
        loss_of(theirs(rows), torch.full((len(rows), 8), float(number))).backward()
        dense.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-5)


def test_only_rows_of_the_step_are_touched() -> None:
    made = table(1000)
    adam = RowAdam({"t": made}, 0.01, 0.1)
    steps(made, adam, [torch.arange(0, 1000, 3)])
    before, state = made.weight.clone(), {name: tensor.clone() for name, tensor in adam.state_dict().items()}
    rows = torch.tensor([5, 17, 5, 600])
    steps(made, adam, [rows])
    others = torch.ones(1000, dtype=torch.bool)
    others[rows] = False
    assert torch.equal(made.weight[others], before[others])
    assert (made.weight[~others] != before[~others]).any(dim=1).all()
    for name, tensor in adam.state_dict().items():
        if name != "steps":
            assert torch.equal(tensor[others], state[name][others]), name
            assert (tensor[~others] != state[name][~others]).reshape(3, -1).any(dim=1).all(), name
    assert made.weight.grad is None  # nothing of the table's size is made


def test_the_gradient_of_a_step_is_as_long_as_its_distinct_rows() -> None:
    made = table(1_000_000, 4)
    made(torch.tensor([7, 7, 999_999])).sum().backward()
    assert [leaf.shape for leaf in made.leaves] == [(2, 4)]
    found = made.gradient()
    assert found is not None
    assert found[0].tolist() == [7, 999_999]
    assert found[1].tolist() == [[2.0] * 4, [1.0] * 4]


def test_batches_before_a_step_add_up() -> None:
    ours, theirs = table(), table(sparse=False)
    for rows in (torch.tensor([1, 2, 2, 9]), torch.tensor([9, 4]), torch.tensor([2, 49])):
        for made in (ours, theirs):
            loss_of(made(rows), torch.zeros(len(rows), 8)).backward()
    found = ours.gradient()
    assert found is not None
    assert theirs.weight.grad is not None
    dense = torch.zeros(50, 8)
    dense[found[0]] = found[1]
    assert torch.allclose(dense, theirs.weight.grad, atol=1e-6)


def test_a_row_read_for_the_first_time_moves_by_lr_however_late() -> None:
    made = table()
    adam = RowAdam({"t": made}, 0.01, 0.0)
    steps(made, adam, [torch.arange(10)] * 500)
    before = made.weight[20].clone()
    steps(made, adam, [torch.tensor([20])])
    assert torch.allclose((made.weight[20] - before).abs(), torch.tensor(0.01), rtol=1e-3)


def test_the_kernel_does_what_the_formula_says() -> None:
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(30, 20, generator=generator)
    weights = [start, start.clone()]
    states = [Moments.of(weight) for weight in weights]
    for step in (1, 2, 5, 6, 90):
        rows = torch.randperm(30, generator=generator)[:11]
        grads = torch.randn(11, 20, generator=generator)
        for move, weight, state in zip((_move, move_by_index), weights, states, strict=True):
            move(weight, rows, grads, state, step, 0.05, 0.2)
        assert torch.allclose(*weights, atol=1e-5)
    for a, b in zip(vars(states[0]).values(), vars(states[1]).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_moments_decay_while_a_row_is_not_read() -> None:
    weight, state = torch.zeros(1, 1), Moments.of(torch.zeros(1, 1))
    for step in (1, 11):
        move_by_index(weight, torch.tensor([0]), torch.tensor([[2.0]]), state, step, 0.1, 0.0)
    assert state.means[0, 0].item() == pytest.approx(0.9**10 * 0.1 * 2 + 0.1 * 2)
    assert state.means[0, 1].item() == pytest.approx(0.999**10 * 0.001 * 4 + 0.001 * 4)
    assert state.last.item() == 11


def test_a_restored_optimiser_goes_on_with_the_same_bytes() -> None:
    generator = torch.Generator().manual_seed(3)
    batches = [torch.randint(50, (30,), generator=generator) for _ in range(8)]
    whole = table()
    steps(whole, RowAdam({"t": whole}, 0.01, 0.1), batches)
    half = table()
    adam = RowAdam({"t": half}, 0.01, 0.1)
    steps(half, adam, batches[:4])
    state = {name: tensor.clone() for name, tensor in adam.state_dict().items()}
    rest = table(seed=9)
    rest.load_state_dict(half.state_dict())
    restored = RowAdam({"t": rest}, 0.01, 0.1)
    restored.load_state_dict(state)
    # as `steps` does, with the numbers that the later batches have
    for number, rows in enumerate(batches[4:], 4):
        restored.zero_grad()
        loss_of(rest(rows), torch.full((30, 8), float(number))).backward()
        restored.step()
    assert torch.equal(rest.weight, whole.weight)


def test_the_state_of_other_tables_is_refused() -> None:
    state = RowAdam({"t": table(10)}, 0.01, 0.1).state_dict()
    with pytest.raises(TrainingError, match="M025"):
        RowAdam({"t": table(11)}, 0.01, 0.1).load_state_dict(state)


def test_bytes_do_not_depend_on_threads() -> None:
    found = []
    for threads in (1, 2):
        made = table(20_000, 64)
        with torch_threads(threads):
            generator = torch.Generator().manual_seed(4)
            steps(
                made,
                RowAdam({"t": made}, 0.01, 0.1),
                [torch.randint(20_000, (40_000,), generator=generator) for _ in range(3)],
            )
        found.append(made.weight.clone())
    assert torch.equal(*found)


def test_parameters_are_split_into_dense_and_sparse(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("topic", ["a", "b", "c"])
    writer.feature("topic.id_embedding", "id", dim=4)
    reader = InputReader(writer.finish(), TrainingConfig(dim=8, heads=1, activity=False))
    for sparse in (False, True):
        model = nn.ModuleDict({"topic": TypeEncoder(reader.specs["topic"], 8, 0.0, sparse=sparse)})
        dense, tables = split_parameters(model)
        assert list(tables) == (["topic.tables.0"] if sparse else [])
        assert len(dense) + len(tables) == len(list(model.parameters()))
        assert all(parameter.requires_grad for parameter in dense)


def test_a_sparse_table_learns_and_evaluation_reads_nothing_into_a_step(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("topic", [str(i) for i in range(40)])
    writer.feature("topic.id_embedding", "id", dim=8)
    reader = InputReader(writer.finish(), TrainingConfig(dim=8, heads=1, activity=False))
    torch.manual_seed(0)
    encode = TypeEncoder(reader.specs["topic"], 8, 0.0, sparse=True)
    dense, tables = split_parameters(encode)
    adam, others = RowAdam(tables, 0.05, 0.0), torch.optim.AdamW(dense, 0.01)
    inputs = reader.read("topic", np.arange(40), np.zeros(40, dtype=np.int64))
    target = torch.nn.functional.normalize(torch.randn(40, 8), dim=1)
    losses = []
    for _ in range(60):
        with torch.inference_mode():
            encode(inputs)
        adam.zero_grad()
        others.zero_grad()
        loss = (torch.nn.functional.normalize(encode.train()(inputs), dim=1) - target).square().sum(1).mean()
        loss.backward()
        assert len(adam.leaves) == 1
        adam.step()
        others.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
