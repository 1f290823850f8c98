"""Gradients of several mini-batches are those of one large batch, and move the weights once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from star_platform.gnn.batches import StepKey
from star_platform.gnn.trainer import Trainer
from star_platform.graph.storage import Graph
from star_platform.progress import SILENT
from tests.gnn.planted import FAST, applied, planted_graph

N, SIZE = 4, 32
EVERYTHING = FAST.model_copy(
    update={
        "fan_outs": (1000, 1000),  # every neighbour: nothing is left to chance
        "dropout": 0.0,
        "id_dropout": 0.0,
        "norm": "layer",
        "batch_size": SIZE,
        "gradient_batches": N,
        "threads": 1,
    }
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return planted_graph(tmp_path_factory.mktemp("graph"))


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    found = {name: each.grad for name, each in trainer.model.named_parameters()}
    return {name: grad.clone() for name, grad in found.items() if grad is not None}


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in trainer.model.named_parameters()}


def aggregated(trainer: Trainer, parts: list[np.ndarray], last: bool) -> None:
    for number, part in enumerate(parts):
        batch = trainer.training.make(StepKey("applied", part, number))
        trainer._step(batch, share=1 / len(parts), first=number == 0, last=last and number + 1 == len(parts))


def test_n_mini_batches_are_one_large_batch(graph: Graph) -> None:
    small, large = (Trainer(graph, {"applied": applied()}, EVERYTHING) for _ in range(2))
    chosen = np.sort(np.random.default_rng(0).permutation(800)[: N * SIZE])
    parts = [chosen[place::N] for place in range(N)]
    aggregated(small, parts, last=False)
    aggregated(large, [chosen], last=False)
    one, other = gradients(small), gradients(large)
    assert one.keys() == other.keys()
    assert max(float(grad.abs().max()) for grad in other.values()) > 1e-3
    scale = max(1.0, max(float(grad.abs().max()) for grad in other.values()))
    for name, grad in other.items():
        assert torch.allclose(one[name], grad, rtol=0, atol=1e-6 * scale), name


def test_the_weights_move_once_and_alike(graph: Graph) -> None:
    small, large = (Trainer(graph, {"applied": applied()}, EVERYTHING) for _ in range(2))
    before, chosen = weights(small), np.arange(N * SIZE)
    aggregated(small, [chosen[place::N] for place in range(N)], last=True)
    aggregated(large, [chosen], last=True)
    grads, moved, same = gradients(large), weights(small), weights(large)
    for name, grad in grads.items():
        clear = grad.abs() > 1e-4  # where Adam's quotient is not that of two roundings
        assert torch.allclose(moved[name][clear], same[name][clear], rtol=0, atol=1e-6), name
    assert any(not torch.equal(before[name], moved[name]) for name in before)


def test_an_epoch_moves_the_weights_once_per_group(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(graph, {"applied": applied()}, EVERYTHING)
    calls: list[tuple[float, bool, bool]] = []
    step = trainer._step

    def recorded(*args: Any, share: float, first: bool, last: bool) -> dict[str, float]:
        calls.append((share, first, last))
        return step(*args, share=share, first=first, last=last)

    monkeypatch.setattr(trainer, "_step", recorded)
    keys = trainer.training.epoch(0)[: 2 * N + 3]
    with SILENT.task("train", total=1, unit="examples") as task:
        trainer._stretch(keys, task)
    assert [first for _, first, _ in calls] == [number % N == 0 for number in range(len(keys))]
    ends = {*range(N - 1, len(keys), N), len(keys) - 1}
    assert [last for _, _, last in calls] == [number in ends for number in range(len(keys))]
    assert [share for share, _, _ in calls] == pytest.approx([1 / N] * 2 * N + [1 / 3] * 3)


def test_aggregation_trains_and_repeats_itself(graph: Graph, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        config = EVERYTHING.model_copy(update={"max_epochs": 2, "fan_outs": (4,)})
        details = Trainer(graph, {"applied": applied()}, config).run(tmp_path / f"work-{name}", out, SILENT)
        details.pop("timing")
        found.append((details, (out / "model.safetensors").read_bytes()))
    assert found[0] == found[1]
