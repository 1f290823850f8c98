from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from star_platform.errors import TrainingError
from star_platform.gnn import sequence as module
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.features import InputReader, TypeEncoder
from star_platform.gnn.sequence import SequenceReader, SequenceTensors
from star_platform.gnn.temporal import SequenceEncoder, prefix_causal_mask
from star_platform.graph.storage import EdgeType, Graph
from tests.gnn.graphs import GraphWriter

HOUR = 3_600 * 10**6
MEMBERS, JOBS = 4, 5


def settings_of(activities: int = 3, **changes: object) -> TrainingConfig:
    sequence = {"activities": activities, "tokens": 2, "heads": 2, **changes}
    plain = {"dim": 12, "heads": 2, "threads": 1, "dropout": 0.0, "sequence": sequence}
    if "budget" in changes:
        plain["budget"] = sequence.pop("budget")
    for name in ("window", "precision"):
        if name in changes:
            plain[name] = sequence.pop(name)
    return TrainingConfig.model_validate(plain)


def market(path: Path, events: list[tuple[int, int, int, int]]) -> Graph:
    """`events`: (relation 0 or 1, member, job, time)."""
    writer = GraphWriter(path)
    writer.node("job", [f"j{i}" for i in range(JOBS)])
    writer.node("member", list(range(MEMBERS)))
    writer.node("topic", ["t"], "attribute")
    for number, name in enumerate(("applies", "views")):
        own = [event for event in events if event[0] == number]
        pairs = ([event[1] for event in own], [event[2] for event in own])
        writer.edge(name, "member", "job", pairs, [event[3] for event in own])
    writer.edge("topic-of", "job", "topic", (np.arange(JOBS), np.zeros(JOBS)))
    writer.edge("similar_member", "member", "member", ([0, 1], [1, 0]), [4, 4])
    for name in ("similar_member", "rev_similar_member"):
        writer.edges[name]["kind"] = "derived"
    writer.feature("job.text", "text", np.random.default_rng(0).standard_normal((JOBS, 6)))
    writer.feature("member.profile", "numeric", np.random.default_rng(1).standard_normal((MEMBERS, 3)))
    return writer.finish()


def reader_of(graph: Graph, config: TrainingConfig) -> SequenceReader:
    return SequenceReader(graph, InputReader(graph, config), config)


def encoder_of(reader: SequenceReader, config: TrainingConfig, seed: int = 0) -> SequenceEncoder:
    torch.manual_seed(seed)
    specs = reader.inputs.specs
    inputs = nn.ModuleList(TypeEncoder(specs[node], config.dim, 0.0, config.precision) for node in sorted(specs))
    made = SequenceEncoder(config, len(reader.adjacency.relation_names), inputs)
    nn.init.normal_(made.output, std=0.3)  # at its start the encoder passes vectors through
    return made


EVENTS = [
    (0, 0, 0, 1 * HOUR),
    (1, 0, 1, 2 * HOUR),
    (1, 0, 2, 3 * HOUR),
    (0, 0, 3, 4 * HOUR),
    (1, 1, 0, 2 * HOUR),
    (0, 2, 4, 4 * HOUR),
]  # member 3 does nothing


# --- reading ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, MEMBERS - 1), st.integers(0, JOBS - 1), st.integers(0, 8)),
        min_size=1,
        max_size=40,
    ),
    asked=st.lists(st.tuples(st.integers(0, MEMBERS + JOBS - 1), st.integers(0, 9), st.integers(-1, 8)), min_size=1),
    most=st.integers(1, 6),
    budget=st.sampled_from(["joint", "per-relation"]),
)
def test_activities_are_the_latest_strictly_before_the_moment(
    events: list[tuple[int, int, int, int]], asked: list[tuple[int, int, int]], most: int, budget: str
) -> None:
    with TemporaryDirectory() as folder:
        reader = reader_of(market(Path(folder), events), settings_of(most, budget=budget))
        gids, times, partners = (np.array(column, dtype=np.int64) for column in zip(*asked, strict=True))
        found = reader.read(gids, times, 0, partners)
    names = reader.adjacency.relation_names
    for i, (gid, time, partner) in enumerate(asked):
        expected = []
        for relation, member, job, at in events:
            name = ("applies", "views")[relation]
            if gid == job:
                expected.append((at, names.index(EdgeType("member", name, "job")), JOBS + member))
            if gid == JOBS + member:
                expected.append((at, names.index(EdgeType("job", "rev_" + name, "member")), job))
        expected = sorted(edge for edge in expected if edge[0] < time and edge[2] != partner)[-most:]
        count = int(found.counts[i])
        got = zip(found.relations[i, :count].tolist(), found.nodes[i, :count].tolist(), strict=True)
        assert [(relation, node) for _, relation, node in expected] == list(got)
        assert np.allclose(found.ages[i, :count], [np.log1p((time - at) / HOUR) for at, _, _ in expected])
        assert (found.nodes[i, count:] == -1).all()
    assert found.nodes.shape[1] == int(found.counts.max())


def test_a_window_bounds_how_far_back_an_activity_lies(tmp_path: Path) -> None:
    day = 24 * HOUR
    graph = market(tmp_path, [(0, 0, 0, 1 * day), (0, 0, 1, 2 * day), (0, 0, 2, 3 * day)])
    reader = reader_of(graph, settings_of(5, window="2d"))
    found = reader.read(np.array([JOBS, JOBS]), np.array([4 * day, 4 * day + 1]), 0)
    assert found.nodes.tolist() == [[1, 2], [2, -1]]


def test_inputs_are_read_once_per_node_and_moment_at_that_moment(tmp_path: Path) -> None:
    reader = reader_of(market(tmp_path, EVENTS), settings_of(4))
    found = reader.read(np.array([JOBS, JOBS, 0, 0]), np.array([5, 5, 5, 3]) * HOUR, 0)
    jobs, members, topics = found.inputs
    assert (len(jobs.inverse), len(members.inverse), len(topics.inverse)) == (4, 4, 0)
    items = {}
    for i, time in enumerate((5, 5, 5, 3)):
        for j in range(int(found.counts[i])):
            items.setdefault(int(found.items[i, j]), set()).add((int(found.nodes[i, j]), time))
    assert all(len(of) == 1 for of in items.values())
    assert sorted(items) == list(range(8))
    job_items = {next(iter(of))[0]: item for item, of in items.items() if next(iter(of))[0] < JOBS}
    assert sorted(job_items.values()) == [0, 1, 2, 3]  # numbered by node type
    # activity inputs of job 1: viewed once, 3 hours before
    activity = jobs.values[1][job_items[1]]
    assert torch.isclose(activity, torch.tensor(np.log(4.0), dtype=torch.float32)).any()


def test_a_graph_without_interactions_is_refused(tmp_path: Path) -> None:
    writer = GraphWriter(tmp_path)
    writer.node("job", ["a"])
    writer.node("topic", ["t"], "attribute")
    writer.edge("topic-of", "job", "topic", ([0], [0]))
    with pytest.raises(TrainingError, match="M026"):
        reader_of(writer.finish(), settings_of())


def test_activities_predict_the_ones_after_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = reader_of(market(tmp_path, EVENTS), settings_of(4, long_term=2))
    found = reader.read(np.array([JOBS, JOBS + 1, JOBS + 3]), np.array([5, 5, 5]) * HOUR, 0)
    asked = found.long_term
    assert asked is not None
    pairs = list(zip(asked.rows.tolist(), asked.columns.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (0, 2)]  # the newest has none after it, the others' sequences are too short
    nodes = {int(found.items[i, j]): int(found.nodes[i, j]) for i in range(3) for j in range(int(found.counts[i]))}
    named = [[nodes[int(asked.candidates[t])] if t >= 0 else -1 for t in row] for row in asked.targets.tolist()]
    assert named == [[1, 2], [2, 3], [3, -1]]
    assert len(asked.candidates) == 4
    monkeypatch.setattr(module, "MAX_QUERIES", 2)
    fewer = reader.read(np.array([JOBS]), np.array([5]) * HOUR, 1).long_term
    assert fewer is not None
    assert len(fewer.rows) == 2


# --- encoding ---------------------------------------------------------------------------------------------------------


def test_the_mask_is_causal_behind_a_prefix() -> None:
    assert prefix_causal_mask(2, 3).int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_vectors_have_the_width_of_the_graph_encoder_and_are_finite_without_activities(
    tmp_path: Path, precision: str
) -> None:
    config = settings_of(4, tokens=5, precision=precision)  # 5 pieces of 12 numbers
    reader = reader_of(market(tmp_path, EVENTS), config)
    encoder = encoder_of(reader, config)
    gids = np.array([JOBS, JOBS + 3, 4])
    vectors, loss = encoder(torch.randn(3, 12), reader.read(gids, np.full(3, 5 * HOUR), 0))
    assert (vectors.shape, vectors.dtype, loss) == ((3, 12), torch.float32, None)
    assert vectors.isfinite().all()
    vectors.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    alone, _ = encoder(torch.randn(1, 12), reader.read(np.array([JOBS + 3]), np.array([5 * HOUR]), 0))
    assert alone.isfinite().all()


def test_the_encoder_begins_as_the_graph_encoder(tmp_path: Path) -> None:
    config = settings_of(4)
    reader = reader_of(market(tmp_path, EVENTS), config)
    encoder = encoder_of(reader, config)
    nn.init.zeros_(encoder.output)
    graph_vectors = torch.randn(1, 12)
    vectors, _ = encoder(graph_vectors, reader.read(np.array([JOBS]), np.array([5 * HOUR]), 0))
    assert torch.equal(vectors, graph_vectors)
    fresh = SequenceEncoder(config, 3, nn.ModuleList())
    assert not fresh.output.any()


def padded(given: SequenceTensors, extra: int) -> SequenceTensors:
    def wider(tensor: Tensor, value: float) -> Tensor:
        return nn.functional.pad(tensor, (0, extra), value=value)

    return SequenceTensors(
        given.inputs,
        wider(given.items, 1),  # an item that must not be seen
        wider(given.nodes, -1),
        wider(given.relations, 0),
        wider(given.ages, 9.0),
        given.counts,
        given.long_term,
    )


def test_padding_and_company_change_nothing(tmp_path: Path) -> None:
    config = settings_of(6)
    reader = reader_of(market(tmp_path, EVENTS), config)
    encoder = encoder_of(reader, config).eval()
    gids, times = np.array([JOBS, JOBS + 1, JOBS + 3, 0]), np.full(4, 5 * HOUR)
    graph_vectors = torch.randn(4, 12)
    together = reader.read(gids, times, 0)
    vectors, _ = encoder(graph_vectors, together)
    assert torch.allclose(encoder(graph_vectors, padded(together, 3))[0], vectors, atol=1e-6)
    for i in range(4):
        alone, _ = encoder(graph_vectors[i : i + 1], reader.read(gids[i : i + 1], times[i : i + 1], 0))
        assert torch.allclose(alone[0], vectors[i], atol=1e-6)


def test_a_later_event_changes_nothing_and_an_earlier_one_does(tmp_path: Path) -> None:
    config = settings_of(6)
    gid, moment, graph_vectors = np.array([JOBS]), np.array([4 * HOUR]), torch.randn(1, 12)
    vectors = []
    for number, extra in enumerate(([], [(1, 0, 4, 4 * HOUR)], [(1, 0, 4, 4 * HOUR - 1)])):
        graph = market(tmp_path / str(number), EVENTS + extra)
        reader = reader_of(graph, config)
        vectors.append(encoder_of(reader, config).eval()(graph_vectors, reader.read(gid, moment, 0))[0])
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2], atol=1e-3)


def test_no_state_depends_on_a_later_activity(tmp_path: Path) -> None:
    config = settings_of(6)
    reader = reader_of(market(tmp_path, EVENTS), config)
    encoder = encoder_of(reader, config).eval()
    found = reader.read(np.array([JOBS]), np.array([5 * HOUR]), 0)
    states: list[Tensor] = []
    encoder.blocks[-1].register_forward_hook(lambda *given: states.append(given[2]))
    embedded: list[Tensor] = []
    encoder.dropout.register_forward_hook(lambda *given: embedded.append(given[2]))
    graph_vectors = torch.randn(1, 12, requires_grad=True)
    encoder(graph_vectors, found)
    total = 2 + int(found.counts[0])
    for position in range(total):
        reach = torch.autograd.grad(states[0][0, position].sum(), embedded[0], retain_graph=True)[0][0]
        seen = reach.abs().sum(dim=1) > 0
        assert seen.tolist() == prefix_causal_mask(2, total - 2)[position].tolist()


def test_the_long_term_loss_teaches_what_comes_next(tmp_path: Path) -> None:
    """Jobs follow one another in a circle: after job j comes j + 1."""
    events = [(0, m, (m + k) % JOBS, (k + 1) * HOUR) for m in range(MEMBERS) for k in range(8)]
    config = settings_of(8, long_term=1, long_term_weight=0.5)
    reader = reader_of(market(tmp_path, events), config)
    encoder = encoder_of(reader, config)
    optimizer = torch.optim.Adam([*encoder.parameters(), *encoder._inputs[0].parameters()], 0.01)
    found = reader.read(np.arange(JOBS, JOBS + MEMBERS), np.full(MEMBERS, 10 * HOUR), 0)
    losses = []
    for _ in range(60):
        _, loss = encoder(torch.zeros(MEMBERS, 12), found)
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(0.5 * np.log(JOBS), rel=0.25)
    assert losses[-1] < 0.3 * losses[0]
    assert encoder.eval()(torch.zeros(MEMBERS, 12), found)[1] is None


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(TrainingError, match="M027"):
        SequenceEncoder(settings_of(3, heads=5), 2, nn.ModuleList())


def test_weights_of_the_node_encoder_are_not_stored_twice(tmp_path: Path) -> None:
    config = settings_of(3)
    reader = reader_of(market(tmp_path, EVENTS), config)
    assert not any("projections" in name for name in encoder_of(reader, config).state_dict())
