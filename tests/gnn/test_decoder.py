from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from star_platform.gnn import decoder as module
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.decoder import Decoder, HadamardDecoder, MlpDecoder, PairDecoder, decoder_for
from star_platform.gnn.scoring import _all_logits, _pair_logits

KINDS = ("dot", "cosine", "hadamard", "mlp")


def made(kind: str, dim: int = 8) -> PairDecoder:
    torch.manual_seed(1)
    decoder = decoder_for(TrainingConfig.model_validate({"decoder": kind, "dim": dim}))
    with torch.no_grad():
        for parameter in decoder.parameters():  # nothing at a value that hides a term
            parameter += 0.3 * torch.randn_like(parameter)
    return decoder


def by_hand(decoder: PairDecoder, src: torch.Tensor, dst: torch.Tensor) -> torch.Tensor:
    """The logit of one pair, straight from the formula."""
    if isinstance(decoder, HadamardDecoder):
        return (decoder.weight * src * dst).sum() + decoder.bias
    if isinstance(decoder, MlpDecoder):
        weight = torch.cat([decoder.source, decoder.target, decoder.product])
        hidden = functional.leaky_relu(torch.cat([src, dst, src * dst]) @ weight + decoder.shift, 0.2)
        return decoder.output @ hidden + decoder.bias
    assert isinstance(decoder, Decoder)
    return decoder.log_scale.exp() * (src @ dst) + decoder.bias


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_score_gives_the_logits_of_the_formula(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, src, dst = made(kind), torch.randn(5, 8), torch.randn(7, 8)
    expected = torch.stack([torch.stack([by_hand(decoder, s, d) for d in dst]) for s in src]).detach()
    assert torch.allclose(decoder.all_pairs(src, dst), expected, atol=1e-5)
    assert torch.allclose(decoder.pairs(src, dst[:5]), expected.diagonal(), atol=1e-5)
    assert np.allclose(_all_logits(decoder, src.numpy(), dst.numpy()), expected, atol=1e-5)
    assert np.allclose(_pair_logits(decoder, src.numpy(), dst[:5].numpy()), expected.diagonal(), atol=1e-5)
    monkeypatch.setattr(module, "CHUNK", 2 * 5 * 8)  # two destinations at a time, the last one alone
    assert torch.allclose(decoder.all_pairs(src, dst), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_do_not_depend_on_the_chunk(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = made(kind)
    src, dst = torch.randn(5, 8, requires_grad=True), torch.randn(7, 8, requires_grad=True)
    wanted = [src, dst, *decoder.parameters()]
    target = torch.randn(5, 7)
    one = torch.autograd.grad((by_pairs(decoder, src, dst) * target).sum(), wanted)
    monkeypatch.setattr(module, "CHUNK", 3 * 5 * 8)
    some = torch.autograd.grad((decoder.all_pairs(src, dst) * target).sum(), wanted)
    for a, b in zip(one, some, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def by_pairs(decoder: PairDecoder, src: torch.Tensor, dst: torch.Tensor) -> torch.Tensor:
    n, m = len(src), len(dst)
    return decoder.pairs(src.repeat_interleave(m, 0), dst.repeat(n, 1)).view(n, m)


def test_the_hidden_layer_of_all_pairs_is_never_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 16 * 32 * 4)  # four destinations at a time
    decoder, src, dst = made("mlp", 32), torch.randn(16, 32, requires_grad=True), torch.randn(64, 32)
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        decoder.all_pairs(src, dst)
    assert kept
    assert max(kept) < 16 * 64 * 32 / 4


def test_dot_and_cosine_keep_the_order_of_dot_products() -> None:
    for kind in ("dot", "cosine"):
        decoder, src, dst = made(kind), torch.randn(1, 8), torch.randn(100, 8)
        assert torch.equal(decoder.all_pairs(src, dst)[0].argsort(), (src @ dst.T)[0].argsort())


def test_hadamard_begins_as_dot() -> None:
    src, dst = torch.randn(3, 16), torch.randn(4, 16)
    assert torch.allclose(HadamardDecoder(16).all_pairs(src, dst), Decoder(16, cosine=False).all_pairs(src, dst))


def test_mlp_begins_by_liking_what_dot_likes() -> None:
    torch.manual_seed(0)
    src, dst = torch.randn(50, 32), torch.randn(60, 32)
    logits, products = MlpDecoder(32).all_pairs(src, dst), src @ dst.T
    assert float(torch.corrcoef(torch.stack([logits.flatten(), products.flatten()]))[0, 1].detach()) > 0.8


def test_no_destination_is_no_error() -> None:
    for kind in KINDS:
        assert made(kind).all_pairs(torch.randn(3, 8), torch.randn(0, 8)).shape == (3, 0)
