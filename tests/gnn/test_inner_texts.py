"""The text encoder inside the GNN: frozen it changes nothing but the cost, trained along it learns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from star_platform.errors import TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.inference import embed
from star_platform.gnn.inner_texts import InnerTexts, as_read
from star_platform.gnn.model_io import TEXT_FOLDER, WEIGHTS, space_fingerprint
from star_platform.gnn.trainer import HISTORY, Trainer, train
from star_platform.gnn.trees import TreeReader
from star_platform.graph.storage import Graph
from star_platform.text.config import TextConfig
from star_platform.text.encoder import encode, open_encoder
from star_platform.text.inner import InnerText, LearningTexts, inner_text
from tests.gnn.graphs import GraphWriter
from tests.gnn.planted import DAY, START, views
from tests.gnn.test_training import KillAfter, Killed
from tests.text.tiny import WORDS, save_tiny_bert

JOBS, MEMBERS, VIEWS, TOPICS = 120, 120, 2000, 4
SHORT = TrainingConfig(
    dim=16, fan_outs=(4,), heads=2, batch_size=128, max_epochs=2, lr=1e-2, negatives=32, validate_every=0.5, threads=1
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))


def opened(bert: Path, mode: str, **given: object) -> InnerText:
    config = TextConfig.model_validate({"encoder": str(bert), "mode": mode, "max_tokens": 24, **given})
    found = inner_text(config, open_encoder(config, Path("/")))
    assert found is not None
    return found


def sentences(topics: np.ndarray, rng: np.random.Generator) -> list[str]:
    """One word of the topic among four of no meaning."""
    return [" ".join(rng.permutation([WORDS[topic], *rng.choice(WORDS[8:], 4)])) for topic in topics]


def write_text(writer: GraphWriter, name: str, texts: Sequence[str], text: InnerText, absent: np.ndarray) -> None:
    ids, offsets = text.encoder.tokenise(texts)
    tokens = np.full((len(texts), int(np.diff(offsets).max())), -1, np.int32)
    tokens[np.arange(tokens.shape[1]) < np.diff(offsets)[:, None]] = ids
    tokens[absent] = -1
    vectors = encode(text.encoder, texts)
    vectors[absent] = 0
    writer.feature(name, "text", vectors, present=~absent)
    np.save(writer.path / "features" / name / "tokens.npy", tokens)
    writer.features[name]["tokens_kept"] = True


@pytest.fixture(scope="module")
def graph(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Members view jobs of their topic, which nothing but a word in both texts tells."""
    rng = np.random.default_rng(0)
    writer = GraphWriter(tmp_path_factory.mktemp("inner") / "graph")
    topic, likes = np.arange(JOBS) % TOPICS, np.arange(MEMBERS) % TOPICS
    writer.node("job", [f"j{i:03}" for i in range(JOBS)])
    writer.node("member", list(range(MEMBERS)))
    src = rng.integers(MEMBERS, size=VIEWS)
    dst = likes[src] + TOPICS * rng.integers(JOBS // TOPICS, size=VIEWS)
    writer.edge("member-views-job", "member", "job", (src, dst), START + np.sort(rng.integers(30 * DAY, size=VIEWS)))
    text = opened(bert, "frozen")
    write_text(writer, "job.text", sentences(topic, rng), text, np.arange(JOBS) == 7)
    write_text(writer, "member.profile", sentences(likes, rng), text, np.zeros(MEMBERS, bool))
    return writer.finish("inner")


def run(graph: Graph, folder: Path, text: InnerText | None, config: TrainingConfig = SHORT) -> dict[str, object]:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    return train(graph, {"views": views()}, config, folder / "work", folder / "model", text=text)


def history(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "model" / HISTORY).read_text())["validations"]
    return found


def batch_texts(graph: Graph, text: InnerText) -> tuple[Trainer, InnerTexts]:
    trainer = Trainer(graph, {"views": views()}, SHORT, text=text)
    assert trainer.texts is not None
    return trainer, trainer.texts


def test_frozen_is_what_stored_vectors_give(graph: Graph, bert: Path, tmp_path: Path) -> None:
    careful = SHORT.model_copy(update={"lr": 1e-4})  # the first steps of Adam turn the last bits into signs
    run(graph, tmp_path / "embedding", None, careful)
    run(graph, tmp_path / "frozen", opened(bert, "frozen"), careful)
    one, two = (load_file(tmp_path / name / "model" / WEIGHTS) for name in ("embedding", "frozen"))
    assert {name: found.shape for name, found in one.items()} == {name: found.shape for name, found in two.items()}
    stored, inside = (history(tmp_path / name) for name in ("embedding", "frozen"))
    assert [entry["auc"] for entry in stored] == pytest.approx([entry["auc"] for entry in inside], abs=1e-3)
    losses = [[entry["train_loss"]["views"] for entry in found] for found in (stored, inside)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert not (tmp_path / "frozen" / "model" / TEXT_FOLDER).exists()


@pytest.mark.parametrize("mode", ["frozen", "co-train"])
def test_columns_are_those_of_stored_vectors(graph: Graph, bert: Path, mode: str) -> None:
    """A new adapter changes nothing yet, so both modes start where `embedding` is."""
    trainer, texts = batch_texts(graph, opened(bert, mode))
    gids = np.arange(0, JOBS + MEMBERS, 3)
    times = np.full(len(gids), START + 31 * DAY)
    inside = trainer.reader.read(gids, times, 0)
    stored = TreeReader(graph, SHORT, trainer.reader.inputs.specs).read(gids, times, 0)
    with torch.no_grad():
        filled = texts(inside)
    for node, a, b in zip(graph.node_types, filled.inputs, stored.inputs, strict=True):
        for spec, x, y in zip(trainer.reader.inputs.specs[node], a.values, b.values, strict=True):
            assert x.shape == y.shape, spec
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
    flags = torch.cat([filled.inputs[0].values[place][:, -1] for place in (0,)])
    assert int(flags.sum()) == 1  # job 7 says nothing


def test_chunks_leave_the_gradient_of_the_whole(graph: Graph, bert: Path) -> None:
    """Activations are recomputed chunk by chunk; the gradient is that of all texts at once, kept in memory."""
    tokens = np.asarray(graph.features("job")[0].tokens)[8:40]
    wanted = torch.randn(len(tokens), 24, generator=torch.Generator().manual_seed(1))
    found = []
    for budget in (64, 1 << 20):
        text = opened(bert, "co-train", cotrain={"lora": {"dropout": 0.0}}, token_budget=budget)
        learning = text.open(torch.device("cpu"), seed=5)
        assert isinstance(learning, LearningTexts)
        for parameter in learning.parameters().values():  # the second factor starts at 0, and its gradient with it
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(2))
        (learning(tokens) * wanted).sum().backward()
        found.append({name: parameter.grad for name, parameter in learning.parameters().items()})
    plain = opened(bert, "co-train", cotrain={"lora": {"dropout": 0.0}}).open(torch.device("cpu"), seed=5)
    assert isinstance(plain, LearningTexts)
    for parameter in plain.parameters().values():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(2))
    rows = [row[row >= 0] for row in tokens]
    (plain._tuned.encode(rows) * wanted).sum().backward()
    for name, parameter in plain.parameters().items():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
        for chunked in found:
            torch.testing.assert_close(chunked[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_the_encoder_learns_what_the_graph_tells(graph: Graph, bert: Path, tmp_path: Path) -> None:
    """Without neighbours the texts are all there is, and a random encoder hardly shows their topic."""
    alone = SHORT.model_copy(update={"fan_outs": (), "max_epochs": 6, "lr": 3e-3, "activity": False, "dropout": 0.0})
    quick = {"lr": 3e-3, "lora": {"dropout": 0.0}}
    frozen = run(graph, tmp_path / "frozen", opened(bert, "frozen"), alone)
    learned = run(graph, tmp_path / "learned", opened(bert, "co-train", cotrain=quick), alone)
    assert float(learned["validation_auc"]) > float(frozen["validation_auc"]) + 0.15  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cotrained(graph: Graph, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cotrained")
    run(graph, folder, opened(bert, "co-train", cotrain={"lr": 1e-3}))
    return folder / "model"


def test_vectors_beside_the_model_are_those_that_its_adapter_gives(graph: Graph, bert: Path, cotrained: Path) -> None:
    read = as_read(graph, cotrained)
    assert read.content_hash == graph.content_hash
    before, after = graph.features("job")[0], read.features("job")[0]
    assert before.values is not None
    assert after.values is not None
    assert np.abs(before.values - after.values).max() > 1e-3
    assert not after.values[7].any()
    served = open_encoder(TextConfig(encoder=str(bert), adapter=str(cotrained / TEXT_FOLDER), max_tokens=24), Path("/"))
    tokens = [row[row >= 0] for row in np.asarray(after.tokens)]
    for batch in served.encoded(tokens[8:20]):  # type: ignore[attr-defined]
        np.testing.assert_allclose(batch.vectors, after.values[8 + batch.positions], atol=1e-5)


def test_another_adapter_is_another_space(cotrained: Path, tmp_path: Path) -> None:
    """The weights of the GNN alone do not say where texts are put."""
    shutil.copytree(cotrained, tmp_path / "model")
    before = space_fingerprint(tmp_path / "model")
    assert before == space_fingerprint(cotrained)
    adapter = tmp_path / "model" / TEXT_FOLDER / "adapter_model.safetensors"
    save_file({name: tensor + 1e-3 for name, tensor in load_file(adapter).items()}, adapter)
    assert space_fingerprint(tmp_path / "model") != before


def test_whoever_embeds_needs_no_encoder_and_reads_the_learned_vectors(
    graph: Graph, cotrained: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    embed(graph, cotrained, tmp_path / "one")
    stored = cotrained / TEXT_FOLDER / "vectors"
    away = stored.rename(stored.with_name("away"))
    embed(graph, cotrained, tmp_path / "two")  # with the vectors of the encoder as it was
    away.rename(stored)
    one, two = (np.load(tmp_path / name / "job.npy") for name in ("one", "two"))
    assert np.abs(one - two).max() > 1e-4


def test_a_killed_run_ends_with_the_same_bytes(graph: Graph, bert: Path, cotrained: Path, tmp_path: Path) -> None:
    text = opened(bert, "co-train", cotrain={"lr": 1e-3})
    (tmp_path / "model").mkdir()
    with pytest.raises(Killed):
        train(graph, {"views": views()}, SHORT, tmp_path / "work", tmp_path / "model", KillAfter(3), text=text)
    run(graph, tmp_path, text)
    names = [path.relative_to(cotrained) for path in sorted(cotrained.rglob("*")) if path.is_file()]
    assert Path(TEXT_FOLDER) / "adapter_model.safetensors" in names
    assert [(cotrained / name).read_bytes() for name in names] == [
        (tmp_path / "model" / name).read_bytes() for name in names
    ]


def test_training_goes_on_from_the_adapter_of_star_yaml(graph: Graph, bert: Path, cotrained: Path) -> None:
    text = opened(bert, "co-train", adapter=str(cotrained / TEXT_FOLDER))
    learning = text.open(torch.device("cpu"), seed=0)
    tokens = np.asarray(graph.features("job")[0].tokens)[8:20]
    with torch.no_grad():
        found = learning(tokens).numpy()
    values = as_read(graph, cotrained).features("job")[0].values
    assert values is not None
    np.testing.assert_allclose(found, values[8:20], atol=1e-5)


def test_a_step_of_which_nobody_says_anything(graph: Graph, bert: Path) -> None:
    trainer, texts = batch_texts(graph, opened(bert, "frozen"))
    feature, spec = graph.features("job")[0], trainer.reader.inputs.specs["job"][0]
    columns = texts._columns(feature, spec, torch.tensor([-1, -1]))
    assert columns.tolist() == [[0.0] * 24 + [1.0]] * 2


def test_what_cannot_be() -> None:
    with pytest.raises(ValidationError, match="needs an encoder with weights"):
        TextConfig(mode="frozen")
    with pytest.raises(ValidationError, match="has no gradient"):
        TextConfig(encoder="minilm", mode="co-train", precision="int8")
    assert TextConfig(encoder="minilm").inner == {}
    assert TextConfig(encoder="minilm", mode="frozen").inner == {"mode": "frozen"}


def test_an_ltgnn_has_no_place_for_texts(graph: Graph, bert: Path, tmp_path: Path) -> None:
    config = SHORT.model_copy(update={"encoder": "ltgnn"})
    with pytest.raises(TrainingError, match="M037"):
        run(graph, tmp_path, replace(opened(bert, "frozen")), config)
