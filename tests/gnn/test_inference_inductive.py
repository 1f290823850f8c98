"""A trained model over another compile of the same branches: who is known stays, who is new gets a vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_platform.errors import TrainingError
from star_platform.gnn.config import SequenceConfig, TrainingConfig
from star_platform.gnn.inductive import load_inductive
from star_platform.gnn.inference import Embedder
from star_platform.gnn.model_io import Model, ModelSpec, load_model, new_model, save_model
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import Graph
from tests.gnn.graphs import GraphWriter
from tests.gnn.planted import FAST, START

SETTINGS = FAST.model_copy(update={"fan_outs": (1000, 1000)})
LEVELS = {"j1": "senior", "j3": "junior", "j5": "expert", "j7": "senior", "j9": "junior"}
SALARY = {"j1": 10.0, "j3": 20.0, "j5": None, "j7": 45.0, "j9": 31.0, "j2": 70.0, "j8": 5.0}
VIEWS = [("m1", "j1", 1), ("m1", "j5", 2), ("m4", "j3", 3), ("m4", "j9", 3), ("m6", "j7", 5), ("m6", "j1", 6)]
SKILLS = [("j1", "a"), ("j3", "c"), ("j5", "a"), ("j7", "e"), ("j9", "c"), ("j9", "a")]


def compiled(
    path: Path,
    *,
    views: Sequence[tuple[str, str, int]] = tuple(VIEWS),
    skills: Sequence[tuple[str, str]] = tuple(SKILLS),
    levels: dict[str, str] | None = None,
    more: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Graph:
    """A compile as graph/features.py does it: sorted ids, codes by sorted vocabulary, numbers standardised over all."""
    levels = LEVELS if levels is None else levels
    writer = GraphWriter(path)
    ids = {
        "job": sorted({job for _, job, _ in views} | set(levels)),
        "member": sorted({member for member, _, _ in views}),
        "skill": sorted({skill for _, skill in skills}),
    }
    for node, names in ids.items():
        writer.node(node, names, "attribute" if node == "skill" else "entity")
    index = {node: {name: place for place, name in enumerate(names)} for node, names in ids.items()}
    pairs = [index["member"][m] for m, _, _ in views], [index["job"][j] for _, j, _ in views]
    writer.edge("member-views-job", "member", "job", pairs, START + np.array([time for _, _, time in views]) * 10**9)
    if "job-skill" not in without:
        pairs = [index["job"][j] for j, _ in skills], [index["skill"][s] for _, s in skills]
        writer.edge("job-skill", "job", "skill", pairs)
    for name in more:
        writer.edge(name, "job", "skill", ([0], [0]))
    writer.feature("skill.vector", "id", dim=6)
    vocabulary = sorted(set(levels.values()))
    codes = [1 + vocabulary.index(levels[job]) if job in levels else 0 for job in ids["job"]]
    writer.feature("job.level", "categorical", codes, dim=len(vocabulary) + 1)
    pq.write_table(pa.table({"value": vocabulary}), path / "features" / "job.level" / "vocabulary.parquet")
    writer.features["job.level"]["vocabulary"] = "vocabulary.parquet"
    raw = np.array([np.nan if SALARY[job] is None else SALARY[job] for job in ids["job"]])
    mean, std = np.nanmean(raw), np.nanstd(raw)
    missing = np.isnan(raw)
    writer.feature("job.salary", "numeric", np.stack([np.where(missing, 0, (raw - mean) / std), missing], axis=1))
    writer.features["job.salary"] |= {"columns": ["salary"], "mean": [float(mean)], "std": [float(std)]}
    return writer.finish(path.name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Path]:
    """A model of the first compile, in a folder, that has met every skill but e."""
    root = tmp_path_factory.mktemp("inductive")
    graph = compiled(root / "first")
    model = random_model(graph)
    skills = model.encoder.inputs[2]
    skills.seen_0[:] = True
    skills.seen_0[2] = False
    folder = root / "model"
    folder.mkdir()
    save_model(folder, model, model.state_dict())
    return graph, folder


def random_model(graph: Graph, settings: TrainingConfig = SETTINGS) -> Model:
    import torch

    reader = TreeReader(graph, settings)
    spec = ModelSpec(
        graph.content_hash, reader.inputs.specs, reader.relations, reader.weighted, {}, activities=reader.activities
    )
    model = new_model(spec, settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def vectors(embedder: Embedder, node: str) -> dict[Any, np.ndarray]:
    ids = embedder.graph.ids(node).to_pylist()
    found = embedder.vectors(node, np.arange(len(ids)), np.full(len(ids), START + 10**13))
    return dict(zip(ids, found, strict=True))


NEWCOMERS = [*VIEWS, ("m0", "j3", 4), ("m5", "j2", 4), ("m5", "j8", 7)]
"""Ids before, between and after the known ones, so that every index moves."""
MORE_SKILLS = [*SKILLS, ("j2", "b"), ("j8", "c")]


def test_the_known_keep_their_vectors_where_nothing_happened_to_them(
    trained: tuple[Graph, Path], tmp_path: Path
) -> None:
    """j7 and m6's own jobs are untouched; their indices, codes, means and ids have all moved."""
    graph, folder = trained
    levels = {**LEVELS, "j2": "apprentice", "j8": "junior"}
    other = compiled(tmp_path / "second", views=NEWCOMERS, skills=MORE_SKILLS, levels=levels)
    model, seen = load_inductive(folder, graph, other)
    before, after = vectors(Embedder(graph, load_model(folder, graph)), "job"), vectors(Embedder(seen, model), "job")
    assert set(after) - set(before) == {"j2", "j8"}
    assert np.abs(before["j7"]).max() > 0.1
    np.testing.assert_allclose(after["j7"], before["j7"], rtol=1e-5, atol=1e-5)
    assert not np.allclose(after["j3"], before["j3"], atol=1e-3), "it was viewed by somebody new"
    assert np.isfinite(after["j2"]).all()
    assert not np.allclose(after["j2"], after["j8"], atol=1e-3)


def test_the_same_data_gives_the_same_vectors(trained: tuple[Graph, Path], tmp_path: Path) -> None:
    graph, folder = trained
    model, seen = load_inductive(folder, graph, compiled(tmp_path / "again"))
    for node in graph.node_types:
        before, after = vectors(Embedder(graph, load_model(folder, graph)), node), vectors(Embedder(seen, model), node)
        assert all(np.array_equal(after[name], before[name]) for name in before)


def test_what_each_input_means_stays(trained: tuple[Graph, Path], tmp_path: Path) -> None:
    """First layer by first layer: a known level, an unknown one, a number, a null, a learned id, one not met."""
    graph, folder = trained
    levels = {**LEVELS, "j2": "apprentice"}
    other = compiled(tmp_path / "second", views=NEWCOMERS, skills=MORE_SKILLS, levels=levels)
    model, seen = load_inductive(folder, graph, other)
    reader = Embedder(seen, model).reader.inputs
    jobs, skills = seen.ids("job").to_pylist(), seen.ids("skill").to_pylist()
    times = np.zeros(len(jobs), dtype=np.int64)
    read = reader.read("job", np.arange(len(jobs)), times).values
    first = TreeReader(graph, SETTINGS, model.spec.inputs).inputs
    known = graph.ids("job").to_pylist()
    wanted = first.read("job", np.arange(len(known)), times[: len(known)]).values
    places = {spec.name: place for place, spec in enumerate(model.spec.inputs["job"])}
    level, salary = read[places["level"]].numpy(), read[places["salary"]].numpy()
    for at, name in enumerate(known):
        assert level[jobs.index(name)] == wanted[places["level"]].numpy()[at]
        np.testing.assert_allclose(salary[jobs.index(name)], wanted[places["salary"]].numpy()[at], rtol=1e-6, atol=1e-6)
    assert level[jobs.index("j2")] == 0, "a level that the model has never met"
    raw = np.array([value for name, value in SALARY.items() if name in known and value is not None])
    scale = next(spec.scale for spec in model.spec.inputs["job"] if spec.name == "salary")
    assert salary[jobs.index("j2"), 0] == pytest.approx(scale * (70 - raw.mean()) / raw.std(), rel=1e-5)

    encoder = model.encoder.inputs[2]
    rows = encoder._id_rows(0, encoder.specs[0], reader.read("skill", np.arange(len(skills)), times).values[0])
    shared = len(graph.ids("skill"))
    assert dict(zip(skills, rows.tolist(), strict=True)) == {"a": 0, "b": shared, "c": 1, "e": shared}


def test_a_relation_that_is_gone_has_no_edges(trained: tuple[Graph, Path], tmp_path: Path) -> None:
    graph, folder = trained
    other = compiled(tmp_path / "without", without=["job-skill"])
    model, seen = load_inductive(folder, graph, other)
    assert seen.edge_types == graph.edge_types
    after = vectors(Embedder(seen, model), "skill")
    assert all(np.isfinite(row).all() for row in after.values())
    before = vectors(Embedder(graph, load_model(folder, graph)), "skill")
    assert not np.allclose(after["a"], before["a"], atol=1e-3), "its jobs are not seen any more"


@pytest.mark.parametrize(
    ("change", "code"),
    [({"more": ["job-wants-skill"]}, "M020"), ({"skills": ()}, None)],
)
def test_what_the_model_does_not_know_is_refused(
    trained: tuple[Graph, Path], tmp_path: Path, change: dict[str, Any], code: str | None
) -> None:
    graph, folder = trained
    other = compiled(tmp_path / "other", **change)
    if code is None:
        load_inductive(folder, graph, other)
        return
    with pytest.raises(TrainingError, match="job-wants-skill") as refused:
        load_inductive(folder, graph, other)
    assert refused.value.code == code


@pytest.mark.parametrize(("entry", "value"), [("kind", "text"), ("columns", ["wage"])])
def test_an_input_that_became_another_is_refused(
    trained: tuple[Graph, Path], tmp_path: Path, entry: str, value: Any
) -> None:
    graph, folder = trained
    other = compiled(tmp_path / "other")
    other.manifest["features"]["job.salary"][entry] = value
    with pytest.raises(TrainingError, match=r"job\.salary") as refused:
        load_inductive(folder, graph, other)
    assert refused.value.code == "M021"


def test_texts_of_another_encoder_are_refused(tmp_path: Path) -> None:
    def texts(name: str, encoder: str) -> Graph:
        writer = GraphWriter(tmp_path / name)
        writer.node("job", ["a", "b"])
        writer.edge("follows", "job", "job", ([0], [1]), [START])
        writer.feature("job.text", "text", np.eye(2))
        writer.features["job.text"]["encoder"] = {"encoder": encoder}
        return writer.finish(name)

    graph = texts("first", "minilm")
    folder = tmp_path / "model"
    folder.mkdir()
    model = random_model(graph)
    save_model(folder, model, model.state_dict())
    load_inductive(folder, graph, texts("same", "minilm"))
    with pytest.raises(TrainingError, match=r"job\.text") as refused:
        load_inductive(folder, graph, texts("other", "tfidf"))
    assert refused.value.code == "M022"


def test_a_model_of_ltgnn_is_refused(
    trained: tuple[Graph, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from star_platform.gnn import inductive

    graph, folder = trained
    model = load_model(folder, graph)
    model.config = SETTINGS.model_copy(update={"encoder": "ltgnn"})
    monkeypatch.setattr(inductive, "load_model", lambda *_: model)
    with pytest.raises(TrainingError) as refused:
        load_inductive(folder, graph, compiled(tmp_path / "again"))
    assert refused.value.code == "M023"


@pytest.mark.parametrize(
    "more", [{"id_buckets": 4}, {"sequence": SequenceConfig(activities=4, heads=2)}, {"id_optimizer": "sparse"}]
)
def test_other_encoders(tmp_path: Path, more: dict[str, Any]) -> None:
    """Hashed ids go by external id: whoever comes has rows. Activities are read as the other inputs are."""
    settings = SETTINGS.model_copy(update=more)
    graph = compiled(tmp_path / "first")
    model = random_model(graph, settings)
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", model, model.state_dict())
    other = compiled(tmp_path / "second", views=NEWCOMERS, skills=MORE_SKILLS)
    model, seen = load_inductive(tmp_path / "model", graph, other)
    before = vectors(Embedder(graph, load_model(tmp_path / "model", graph)), "job")
    after = vectors(Embedder(seen, model), "job")
    np.testing.assert_allclose(after["j7"], before["j7"], rtol=1e-5, atol=1e-5)
    assert np.isfinite(after["j2"]).all()
