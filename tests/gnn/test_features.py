from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from star_platform.gnn import kernels
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import (
    InputReader,
    InputSpec,
    TypeEncoder,
    TypeInputs,
    expanded,
    id_codes,
    read_activity,
)
from star_platform.gnn.runtime import torch_threads
from star_platform.graph.storage import EdgeType
from tests.gnn.graphs import GraphWriter

PLAIN = TrainingConfig(dim=8, heads=1, activity=False)


def test_each_input_is_one_bias_free_projection() -> None:
    # STAR table 4: LLM vectors of 4096 columns into dim 200 add 819,200 parameters; the missing flag adds one column.
    def parameters(*specs: InputSpec) -> int:
        return sum(p.numel() for p in TypeEncoder(specs, 200, 0.0).parameters())

    nothing = parameters()
    assert parameters(InputSpec("llm", "dense", 4096 + 1)) - nothing == 819_200 + 200
    assert parameters(InputSpec("legacy", "dense", 200 + 1)) - nothing == 40_000 + 200
    assert parameters(InputSpec("title", "id", 32, rows=1001)) - nothing == 1001 * 32 + 32 * 200
    assert parameters(InputSpec("seniority", "categorical", 0, rows=7)) - nothing == 7 * 200


def test_versions_are_strictly_earlier_and_missing_is_flagged(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("job", ["a", "b", "c"])
    writer.versions("job.text", "text", [0, 2, 3, 3], [10, 20, 10], [[3.0, 3.0], [6.0, 6.0], [1.0, 1.0]])
    reader = InputReader(writer.finish(), PLAIN)
    (spec,) = reader.specs["job"]
    assert spec.per_item
    times = np.array([10, 11, 20, 21, 11, 99])
    inputs = reader.read("job", np.array([0, 0, 0, 0, 1, 2]), times)
    values = inputs.values[0].numpy()
    assert np.allclose(values[:, 0] / spec.scale, [0, 3, 3, 6, 1, 0])
    assert values[:, 2].tolist() == [1, 0, 0, 0, 0, 1]


def test_a_missing_value_gets_the_learned_null(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("job", ["a", "b"])
    writer.feature("job.text", "text", [[1.0, 2.0], [0.0, 0.0]], present=[True, False])
    reader = InputReader(writer.finish(), PLAIN)
    encode = TypeEncoder(reader.specs["job"], 8, 0.0)
    out = encode(reader.read("job", np.array([1]), np.array([5])))
    assert torch.allclose(out, encode.norm(encode.projections[0][2:3]))


def test_unseen_ids_share_one_row(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("topic", ["a", "b", "c", "d"])
    writer.feature("topic.id_embedding", "id", dim=4)
    reader = InputReader(writer.finish(), PLAIN)
    encode = TypeEncoder(reader.specs["topic"], 8, 0.0)
    everyone = reader.read("topic", np.arange(4), np.zeros(4, dtype=np.int64))
    encode.train()(reader.read("topic", np.array([0, 2]), np.zeros(2, dtype=np.int64)))
    out = encode.eval()(everyone)
    assert torch.equal(out[1], out[3])
    assert not torch.equal(out[0], out[1])
    assert not torch.equal(out[0], out[2])


def test_the_shared_id_row_is_trained(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("topic", [str(i) for i in range(200)])
    writer.feature("topic.id_embedding", "id", dim=4)
    reader = InputReader(writer.finish(), PLAIN)
    encode = TypeEncoder(reader.specs["topic"], 8, 0.2)
    torch.manual_seed(0)
    encode.train()(reader.read("topic", np.arange(200), np.zeros(200, dtype=np.int64))).square().sum().backward()
    gradient = encode.tables["0"].weight.grad
    assert gradient is not None
    touched = (gradient != 0).any(dim=1)
    assert touched[200]
    assert 130 < int(touched[:200].sum()) < 190


def test_activity_counts_strictly_earlier_edges(tmp_path: Path) -> None:
    hour = 3_600 * 10**6
    writer = GraphWriter(tmp_path)
    writer.node("a", [1, 2])
    writer.node("b", [1, 2])
    writer.edge("dated", "a", "b", ([0, 1, 0], [0, 0, 0]), [0, 1 * hour, 2 * hour])
    writer.edge("undated", "a", "b", ([0, 1], [0, 1]))
    graph = writer.finish()
    incoming = [graph.edges(EdgeType("a", "dated", "b")), graph.edges(EdgeType("a", "undated", "b"))]
    out = np.empty((4, 6), dtype=np.float32)
    read_activity(incoming, np.array([0, 0, 0, 1]), np.array([2 * hour, 2 * hour + 1, 0, 5 * hour]), out)
    assert np.allclose(out[0], [np.log(3), 1, np.log(2), np.log(2), 1, 0])
    assert np.allclose(out[1], [np.log(4), 1, 0, np.log(2), 1, 0], atol=1e-6)
    assert np.allclose(out[2], [0, 0, 0, np.log(2), 1, 0])
    assert np.allclose(out[3], [0, 0, 0, np.log(2), 1, 0])


def test_derived_edges_are_no_activity(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("a", [1, 2])
    writer.edge("likes", "a", "a", ([0, 1], [1, 0]), [5, 6])
    writer.edge("similar_a", "a", "a", ([0, 1], [1, 0]), [5, 6])
    for name in ("similar_a", "rev_similar_a"):
        writer.edges[name]["kind"] = "derived"
    (spec,) = InputReader(writer.finish(), TrainingConfig(dim=8)).specs["a"]
    assert (spec.kind, spec.columns) == ("activity", 3 * 2)  # likes and its reverse


def test_bfloat16_inputs_are_encoded_like_float32_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    writer = GraphWriter(tmp_path)
    writer.node("job", [str(i) for i in range(40)])
    writer.node("member", ["x"])
    writer.feature("job.text", "text", rng.standard_normal((40, 33)), present=rng.random(40) < 0.8)
    writer.feature("job.level", "categorical", rng.integers(5, size=40), dim=5)
    writer.feature("job.id_embedding", "id", dim=4)
    writer.edge("views", "member", "job", (np.zeros(40), np.arange(40)), np.arange(40))
    graph, nodes = writer.finish(), np.array([*range(40), 3, 3, 7])
    times = np.full(len(nodes), 20)
    vectors = {}
    for precision in ("float32", "bf16"):
        config = TrainingConfig(dim=64, precision=precision)
        reader = InputReader(graph, config)
        torch.manual_seed(0)
        encode = TypeEncoder(reader.specs["job"], 64, 0.0, config.precision)
        vectors[precision] = encode(reader.read("job", nodes, times))
        vectors[precision].sum().backward()
        gradients = [p.grad for p in encode.parameters()]
        assert all(g is not None and g.dtype == torch.float32 and torch.isfinite(g).all() for g in gradients)
    assert vectors["bf16"].dtype == torch.bfloat16
    assert torch.allclose(vectors["bf16"].float(), vectors["float32"], atol=0.06)


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("dim", [32, 40])
def test_rows_from_a_rounded_copy_are_the_same_and_have_a_flag_only_where_one_is_missing(
    tmp_path: Path, missing: bool, dim: int
) -> None:
    rng = np.random.default_rng(0)
    writer = GraphWriter(tmp_path)
    writer.node("job", [str(i) for i in range(50)])
    writer.feature("job.text", "text", rng.standard_normal((50, dim)), present=np.arange(50) > 4)
    graph, config = writer.finish(), TrainingConfig(dim=32, precision="bf16")
    nodes = np.array([7, 49, 7, 30, 2 if missing else 12])
    plain, rounded = InputReader(graph, config), InputReader(graph, config)
    rounded.keep_rounded()
    encode = TypeEncoder(plain.specs["job"], 32, 0.0, config.precision)
    found = []
    for reader in (plain, rounded):
        encode.zero_grad()
        inputs = reader.read("job", nodes, np.full(5, 20))
        vectors = encode(inputs)
        vectors.float().pow(3).sum().backward()
        gradient = encode.projections[0].grad
        assert gradient is not None
        found.append((inputs.values[0], vectors.detach(), gradient))
    (values, vectors, gradient), (fewer, *same) = found
    assert fewer.shape[1] == (values.shape[1] if missing else -(-dim // 32) * 32)
    assert torch.equal(values[:, : fewer.shape[1]], fewer)
    assert not values[:, fewer.shape[1] :].any()
    assert torch.equal(same[0], vectors)
    assert torch.equal(same[1], gradient)
    assert bool(gradient[dim].any()) == missing


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_expanded_and_their_gradients_summed_in_float32(dtype: torch.dtype, threads: int) -> None:
    torch.manual_seed(0)
    rows = torch.randn(7, 96, dtype=dtype, requires_grad=True)
    inverse, grad = torch.arange(7000) % 7, torch.rand(7000, 96).to(dtype)
    with torch_threads(threads):
        out = expanded(rows, TypeInputs(7, inverse, ()))
        out.backward(grad)
    assert torch.equal(out.detach(), rows.detach()[inverse])
    assert rows.grad is not None
    expected = torch.zeros(7, 96).index_add(0, inverse, grad.float())
    assert torch.allclose(rows.grad.float(), expected, rtol=2**-8 if dtype == torch.bfloat16 else 1e-5)


def test_distinct_rows_are_not_copied() -> None:
    rows = torch.randn(3, 2)
    assert expanded(rows, TypeInputs(3, torch.arange(3), ())) is rows


def test_identity_codes_depend_on_the_id_alone() -> None:
    codes = id_codes(pa.array(["x", "Zürich", "y" * 300, ""]), 96)
    assert set(np.unique(codes)) == {-1.0, 1.0}
    assert np.array_equal(codes[1:3], id_codes(pa.array(["skip", "Zürich", "y" * 300]).slice(1), 96))
    assert np.abs(codes @ codes.T - 96 * np.eye(4)).max() < 45
    assert np.array_equal(id_codes(pa.array([7, 8]), 8), id_codes(pa.array(["7", "8"]), 8))


@given(st.lists(st.integers(0, 2**40), max_size=200) | st.lists(st.integers(0, 5), max_size=50))
def test_unique_rows(values: list[int]) -> None:
    nodes = np.array(values, dtype=np.int64)
    distinct, inverse = kernels.unique_rows(nodes)
    assert np.array_equal(np.sort(distinct), np.unique(nodes))
    assert np.array_equal(distinct[inverse], nodes)
