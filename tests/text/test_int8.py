"""Linear maps in 8-bit integers: rounding by hand, independence of companions, and how far real vectors move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from star_platform.errors import TextError
from star_platform.text import int8
from star_platform.text.config import TextConfig
from star_platform.text.encoder import TextEncoder, encode, open_encoder
from star_platform.text.int8 import Int8Linear, quantise_rows

from .tiny import WORDS


def _open(encoder: str, precision: str) -> TextEncoder:
    return open_encoder(TextConfig.model_validate({"encoder": encoder, "precision": precision}), Path("/"))


def _sentences(count: int) -> list[str]:
    rng = np.random.default_rng(5)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 60))) for _ in range(count)]


def test_levels_by_hand() -> None:
    """A row from -1 to 4.1 has steps of 0.02; a constant row is its low with no levels."""
    levels, steps, low = quantise_rows(np.array([[-1.0, 4.1, 0.0, 0.031], [2.5] * 4], np.float32))
    assert levels.tolist() == [[0, 255, 50, 52], [0, 0, 0, 0]]
    np.testing.assert_allclose(steps[0], 0.02, rtol=1e-6)
    assert low.tolist() == [-1.0, 2.5]


def test_every_number_is_within_half_a_step() -> None:
    rows = (np.random.default_rng(0).normal(size=(50, 77)) * np.logspace(-6, 6, 50)[:, None]).astype(np.float32)
    levels, steps, low = quantise_rows(rows)
    assert (np.abs(levels * steps[:, None] + low[:, None] - rows) <= 0.501 * steps[:, None]).all()


def test_a_product_of_whole_numbers_is_exact() -> None:
    rng = torch.Generator().manual_seed(1)
    linear = torch.nn.Linear(512, 40)
    linear.weight.data = torch.randint(-127, 128, (40, 512), generator=rng).float()
    linear.weight.data[:, 0] = 127.0
    linear.bias.data = torch.randint(-9, 9, (40,), generator=rng).float()
    rows = torch.randint(0, 256, (70, 512), generator=rng).float()
    rows[:, 1], rows[:, 2] = 0.0, 255.0
    with torch.no_grad():
        assert torch.equal(Int8Linear.of(linear)(rows), linear(rows))


def test_side_by_side_is_each_by_itself() -> None:
    torch.manual_seed(2)
    maps = [Int8Linear.of(torch.nn.Linear(24, width)) for width in (24, 8)]
    rows = torch.randn(20, 24)
    with torch.no_grad():
        assert torch.equal(Int8Linear.side_by_side(maps)(rows), torch.cat([each(rows) for each in maps], 1))


def test_gelu_in_the_same_pass() -> None:
    """Whole numbers from -30 to 30 in steps of 1/4, and beyond the edge on either side."""
    linear = torch.nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor([[127.0, 0.0], [0.0, 127.0]]) / 127.0
    values = torch.cat([torch.arange(-120, 121) / 4, torch.tensor([-1e4, 1e4])])
    rows = torch.stack([values, torch.zeros_like(values)], 1)
    mapped = Int8Linear.of(linear)
    with torch.no_grad():
        plain, passed = mapped(rows), mapped.with_gelu()(rows)
    expected = torch.nn.functional.gelu(plain)
    assert (passed - expected).abs()[:-2].max() < 1.2e-4  # 30 times the error of Phi
    near = plain.abs() < 4.5
    assert (passed - expected).abs()[near].max() < 2e-5
    assert passed[-1, 0] == pytest.approx(1e4, rel=1e-5)
    assert abs(float(passed[-2, 0])) < 0.05


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_decoder"])
def test_companions_change_no_bit(model: str, request: pytest.FixtureRequest) -> None:
    """With one scale per tensor, as dynamic quantisation usually has it, they would."""
    encoder = _open(str(request.getfixturevalue(model)), "int8")
    texts = _sentences(30)
    whole = encode(encoder, texts)
    np.testing.assert_array_equal(np.concatenate([encode(encoder, [text]) for text in texts]), whole)


def test_minilm_keeps_its_meaning() -> None:
    texts = [text + "." for text in _sentences(40)]
    cosine = (encode(_open("minilm", "float32"), texts) * encode(_open("minilm", "int8"), texts)).sum(1)
    assert cosine.min() > 0.996
    assert cosine.mean() > 0.998


def test_it_is_another_encoder(tiny_bert: Path) -> None:
    exact, rounded = _open(str(tiny_bert), "float32"), _open(str(tiny_bert), "int8")
    assert exact.fingerprint != rounded.fingerprint
    assert rounded.describe()["precision"] == "int8"
    assert not np.array_equal(encode(exact, ["nurse"]), encode(rounded, ["nurse"]))


def test_a_machine_without_exact_products_is_told(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    """As on a CPU that adds pairs of products in 16 bits: sums saturate."""
    plain = Int8Linear.forward
    monkeypatch.setattr(Int8Linear, "forward", lambda self, rows: plain(self, rows).clamp(max=32767.0))
    with pytest.raises(TextError, match="overflow") as caught:
        int8.check_kernel()
    assert caught.value.code == "T012"
    with pytest.raises(TextError):
        encode(_open(str(tiny_bert), "int8"), ["nurse"])
