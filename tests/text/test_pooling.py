from __future__ import annotations

import math

import pytest
import torch

from star_platform.errors import TextError
from star_platform.text.pooling import pool

# Three layers (embeddings first) of one text with two tokens and two paddings, on either side.
LAYERS = [
    [[9.0, 9.0], [9.0, 9.0]],
    [[2.0, 0.0], [0.0, 4.0]],
    [[0.0, 2.0], [4.0, 0.0]],
    [[4.0, 1.0], [8.0, 2.0]],
]


def _padded(side: str) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    junk = [[77.0, -55.0]] * 2
    layers = tuple(torch.tensor([tokens + junk if side == "right" else junk + tokens]) for tokens in LAYERS)
    mask = torch.tensor([[1, 1, 0, 0] if side == "right" else [0, 0, 1, 1]])
    return layers, mask


def _unit(x: float, y: float) -> list[float]:
    return [x / math.hypot(x, y), y / math.hypot(x, y)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("how", "decoder", "expected"),
    [
        ("mean", False, _unit(6, 1.5)),
        ("cls", False, _unit(4, 1)),
        ("last", True, _unit(8, 2)),
        ("layer_mean_cls", False, _unit(2, 1)),  # means over layers 1..3 of the first token
        ("layer_mean_cls", True, _unit(4, 2)),  # and of the last one
    ],
)
def test_known_states(side: str, how: str, decoder: bool, expected: list[float]) -> None:
    layers, mask = _padded(side)
    found = pool(layers[-1], layers, mask, how, decoder=decoder)  # type: ignore[arg-type]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_the_embedding_layer_is_left_out() -> None:
    layers, mask = _padded("right")
    changed = (layers[0] * -3, *layers[1:])
    one = pool(layers[-1], layers, mask, "layer_mean_cls", decoder=False)
    other = pool(layers[-1], changed, mask, "layer_mean_cls", decoder=False)
    assert torch.equal(one, other)


def test_a_row_without_tokens_is_an_error() -> None:
    layers, mask = _padded("right")
    with pytest.raises(TextError) as caught:
        pool(layers[-1], layers, mask * 0, "mean", decoder=False)
    assert caught.value.code == "T006"


def test_a_vector_that_is_not_finite_is_an_error() -> None:
    layers, mask = _padded("right")
    with pytest.raises(TextError) as caught:
        pool(layers[-1] * float("nan"), layers, mask, "mean", decoder=False)
    assert caught.value.code == "T006"
