from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from star_platform.errors import TrainingError
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.encoder import Encoder
from star_platform.gnn.mlp_init import features_only, warm_start
from star_platform.gnn.trees import TreeReader, Trees
from star_platform.graph.storage import Graph
from tests.gnn.planted import DAY, JOBS, START, planted_graph

CONFIG = TrainingConfig(dim=16, heads=2, fan_outs=(8, 4), mlp_init=3, threads=1, dropout=0.0, id_dropout=0.0)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return planted_graph(tmp_path_factory.mktemp("mlp-init") / "graph")


def encoder_of(reader: TreeReader, config: TrainingConfig, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(reader.inputs.specs, len(reader.relations), config, weighted=reader.weighted)


def jobs(reader: TreeReader, step: int = 0) -> Trees:
    return reader.read(reader.gids("job", np.arange(JOBS)), np.full(JOBS, START + 20 * DAY), step)


def test_the_model_that_comes_first_has_no_edges() -> None:
    assert features_only(CONFIG).hops == 0
    assert features_only(CONFIG).max_epochs == 3


def test_a_graph_encoder_runs_without_edges_and_only_what_both_need_has_gradients(graph: Graph) -> None:
    reader = TreeReader(graph, CONFIG)
    encoder = encoder_of(reader, CONFIG)
    reader.set_fan_outs(())
    trees = jobs(reader)
    assert not trees.blocks
    assert sum(len(given.inverse) for given in trees.inputs) == JOBS
    out = encoder(trees)
    assert out.shape == (JOBS, 16)
    out.square().sum().backward()
    learned = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert any("own" in name for name in learned)
    assert not any(part in name for name in learned for part in ("query", "key", "rho", "terms", "output"))
    reader.set_fan_outs(CONFIG.fan_outs)
    assert len(jobs(reader).blocks) == 2


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_layers_are_matched_from_the_last_one_back(graph: Graph, hops: int) -> None:
    config = CONFIG.model_copy(update={"fan_outs": (4,) * hops})
    reader, plain = TreeReader(graph, config), features_only(config)
    model, start = encoder_of(reader, config, 1), encoder_of(reader, plain, 2).state_dict()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loaded = warm_start(model, start)
    assert loaded == sorted(loaded)
    after = model.state_dict()
    for back in range(1, min(hops, 2) + 1):
        name = f"towers.0.{hops - back}.own.weight"
        assert name in loaded
        assert torch.equal(after[name], start[f"towers.0.{2 - back}.own.weight"])
    assert all(name in loaded for name in after if name.startswith("inputs."))
    for name in set(after) - set(loaded):
        assert torch.equal(after[name], before[name])
    assert "towers.0.0.query.weight" not in loaded


def test_the_same_model_gives_all_of_its_weights(graph: Graph) -> None:
    reader = TreeReader(graph, CONFIG)
    model, other = encoder_of(reader, CONFIG, 1), encoder_of(reader, CONFIG, 2)
    assert warm_start(model, other.state_dict()) == sorted(model.state_dict())
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_other_shapes_are_left_alone_and_nothing_that_fits_is_an_error() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2)})
    state = {"a.weight": torch.ones(3, 2), "b.weight": torch.ones(5, 5), "c": torch.ones(1)}
    assert warm_start(model, state) == ["a.weight"]
    with pytest.raises(TrainingError, match="M028"):
        warm_start(model, {"b.weight": torch.ones(5, 5)})


def test_training_with_edges_starts_better_after_epochs_without_them(graph: Graph) -> None:
    """The texts of jobs are random, but tell them apart: features alone can learn by heart which topic each has."""
    reader = TreeReader(graph, CONFIG)
    topics = torch.arange(JOBS) % 5

    def loss(encoder: Encoder, head: nn.Linear, step: int) -> Tensor:
        trees = jobs(reader, step)
        return functional.cross_entropy(head(functional.embedding(trees.seeds, encoder(trees))), topics)

    def train(encoder: Encoder, head: nn.Linear, steps: int) -> None:
        optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], 0.01)
        for step in range(steps):
            optimizer.zero_grad()
            loss(encoder, head, step).backward()
            optimizer.step()

    def made(seed: int) -> tuple[Encoder, nn.Linear]:
        encoder = encoder_of(reader, CONFIG, seed)
        return encoder, nn.Linear(16, 5)

    first = made(0)
    reader.set_fan_outs(())
    train(*first, 60)
    reader.set_fan_outs(CONFIG.fan_outs)
    cold, warm = made(1), made(1)
    assert float(loss(*cold, 0).detach()) == float(loss(*warm, 0).detach())
    warm_start(nn.ModuleList(warm), nn.ModuleList(first).state_dict())
    for pair in (cold, warm):
        train(*pair, 5)
    assert float(loss(*warm, 99).detach()) < float(loss(*cold, 99).detach()) - 0.1
