from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from hypothesis import given
from hypothesis import strategies as st

from star_platform.gnn import kernels
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputReader, InputSpec, TypeEncoder, id_codes, read_activity
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
    gradient = encode.tables["0"].grad
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
