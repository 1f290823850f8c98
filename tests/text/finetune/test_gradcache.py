"""Cached gradients are those of the whole batch; accumulated ones are not."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from star_platform.text.finetune.config import HeadConfig, LossConfig
from star_platform.text.finetune.distributed import TorchGroup
from star_platform.text.finetune.gradcache import accumulated, cached, replayed
from star_platform.text.finetune.heads import Head, Vectors
from star_platform.text.finetune.losses import Facts, objective

ROWS, WIDTH, DIM = 19, 6, 8


class Toy(nn.Module):
    """Documents and requests, put one after another, through the same layers."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layers = nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, DIM)).double()
        self.head = Head(HeadConfig(hidden=4), DIM, frozenset({"document", "profile"}), seed=2).double()
        self.inputs = torch.randn(2 * ROWS, WIDTH, dtype=torch.float64)
        self.facts = Facts((torch.rand(ROWS) > 0.4).double(), torch.arange(ROWS), torch.arange(ROWS) % 7)
        self.config = LossConfig(temperature=0.2)

    @property
    def encoder(self) -> list[nn.Parameter]:
        return list(self.layers.parameters())

    def encode(self, chunk: Tensor) -> Tensor:
        return torch.nn.functional.normalize(self.layers(chunk), dim=1)

    def loss(self, vectors: Tensor, rows: Tensor | None = None) -> Tensor:
        rows = torch.arange(ROWS) if rows is None else rows
        size = len(rows)
        yes = torch.ones(size, dtype=torch.bool)
        facts = Facts(self.facts.labels[rows], self.facts.members[rows], self.facts.documents[rows])
        return objective(Vectors(vectors[:size], vectors[size:], None, yes, ~yes), facts, self.head, self.config).total

    def gradient(self) -> Tensor:
        every = [*self.encoder, *self.head.parameters()]
        found = torch.cat([value.grad.reshape(-1) for value in every if value.grad is not None])
        for value in every:
            value.grad = None
        return found

    def whole(self, sizes: tuple[int, ...]) -> Tensor:
        """One graph over everything, dropout drawn chunk by chunk."""
        pieces = []
        for k, chunk in enumerate(self.inputs.split(list(sizes))):
            with replayed(0, k):
                pieces.append(self.encode(chunk))
        self.loss(torch.cat(pieces)).backward()
        return self.gradient()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("sizes", [(38,), (16, 16, 6), (1,) * 38, (20, 1, 17)])
def test_cached_gradients_are_those_of_the_whole_batch(dropout: float, sizes: tuple[int, ...]) -> None:
    toy = Toy(dropout)
    full = toy.whole(sizes)
    value = cached(toy.encode, toy.inputs.split(list(sizes)), toy.loss, toy.encoder)
    assert not value.requires_grad
    assert (toy.gradient() - full).abs().max() < 1e-10
    assert full.abs().max() > 1e-3


def test_dropout_that_is_not_replayed_would_be_seen() -> None:
    toy = Toy(0.3)
    one, other = (cached(toy.encode, toy.inputs.split(16), toy.loss, toy.encoder, key=(k,)) for k in (1, 2))
    assert one != other
    toy.gradient()
    state = torch.get_rng_state()
    cached(toy.encode, toy.inputs.split(16), toy.loss, toy.encoder)
    assert torch.equal(torch.get_rng_state(), state)


def test_accumulation_is_another_gradient() -> None:
    toy = Toy()
    full = toy.whole((2 * ROWS,))

    def loss_of(rows: Tensor) -> Tensor:
        return toy.loss(toy.encode(torch.cat([toy.inputs[rows], toy.inputs[rows + ROWS]])), rows)

    parts = torch.arange(ROWS).split(5)
    every = [*toy.encoder, *toy.head.parameters()]
    accumulated(loss_of, parts, [len(part) / ROWS for part in parts], every)
    small = toy.gradient()
    cosine = torch.nn.functional.cosine_similarity(small, full, dim=0)
    assert (small - full).norm() / full.norm() > 0.1
    assert cosine < 0.999
    accumulated(loss_of, [torch.arange(ROWS)], [1.0], every)  # one chunk is the plain step
    assert (toy.gradient() - full).abs().max() < 1e-10


def test_accumulated_cross_entropy_is_that_of_the_batch() -> None:
    """What no row compares with another one is weighted by rows, the ragged last part too."""
    toy = Toy()
    toy.config = LossConfig.model_validate({"weights": {"profile": 0, "resume": 0}})
    full = toy.whole((2 * ROWS,))

    def loss_of(rows: Tensor) -> Tensor:
        return toy.loss(toy.encode(torch.cat([toy.inputs[rows], toy.inputs[rows + ROWS]])), rows)

    parts = torch.arange(ROWS).split(8)
    shares = [len(part) / ROWS for part in parts]
    accumulated(loss_of, parts, shares, [*toy.encoder, *toy.head.parameters()])
    assert (toy.gradient() - full).abs().max() < 1e-10


def _process(rank: int, port: int, size: int, sizes: tuple[int, ...], target: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    toy = Toy(0.3)
    value = cached(toy.encode, toy.inputs.split(list(sizes)), toy.loss, toy.encoder, group=TorchGroup())
    torch.save((value, toy.gradient()), f"{target}.{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("sizes", [(16, 16, 6), (38,)])  # with one chunk, the second process has none
def test_two_processes_are_one(sizes: tuple[int, ...], tmp_path: Path) -> None:
    toy = Toy(0.3)
    value = cached(toy.encode, toy.inputs.split(list(sizes)), toy.loss, toy.encoder)
    alone = toy.gradient()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments: Any = (port, 2, sizes, str(tmp_path / "found"))
    torch.multiprocessing.spawn(_process, arguments, nprocs=2)
    for rank in (0, 1):
        other, gradient = torch.load(tmp_path / f"found.{rank}")
        assert float(other) == pytest.approx(float(value), abs=1e-12)
        assert (gradient - alone).abs().max() < 1e-10
