from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.gnn import products
from star_platform.gnn.products import STRIP, weight_gradient
from star_platform.gnn.runtime import torch_threads


def operands(seed: int, n: int, k: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    return torch.randn(n, k, generator=make).bfloat16(), torch.randn(n, d, generator=make).bfloat16()


@settings(max_examples=40, deadline=None)
@given(
    n=st.sampled_from([1, 31, STRIP - 1, STRIP, STRIP + 1, STRIP + 33, 3 * STRIP + 62]),
    k=st.integers(1, 70),
    d=st.integers(1, 70),
    seed=st.integers(0, 100),
)
def test_it_is_the_product_of_the_transposed_matrix(n: int, k: int, d: int, seed: int) -> None:
    x, grad = operands(seed, n, k, d)
    found, expected = weight_gradient(x, grad), x.double().T @ grad.double()
    assert found.dtype == torch.float32
    assert found.shape == (k, d)
    # Few rows go through the library, whose result is rounded to bfloat16.
    error = 2**-8 if n < STRIP or not products.has_tiles() else 1e-6
    assert (found - expected).abs().max() <= error * x.double().abs().T.matmul(grad.double().abs()).max()


@pytest.mark.parametrize(("k", "d"), [(40, 72), (72, 40)])
def test_bytes_do_not_depend_on_the_number_of_threads(k: int, d: int) -> None:
    x, grad = operands(5, 40_001, k, d)
    found = []
    for threads in (1, 2, 3):
        with torch_threads(threads):
            found.append(weight_gradient(x, grad))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_parts_of_larger_matrices_and_turned_ones_are_operands_too() -> None:
    x, grad = operands(6, 3 * STRIP, 40, 33)
    rows = slice(7, 7 + 2 * STRIP)
    assert torch.equal(weight_gradient(x[rows], grad[rows]), weight_gradient(x[rows].clone(), grad[rows].clone()))
    turned = x.T.contiguous().T
    assert torch.equal(weight_gradient(turned, grad), weight_gradient(x, grad))


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    x, grad = operands(7, 2 * STRIP, 20, 24)
    x[3, 5] = torch.inf
    found = weight_gradient(x, grad)
    assert not torch.isfinite(found[5]).any()
    assert torch.isfinite(found[torch.arange(20) != 5]).all()


def test_without_matrix_units_the_library_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    x, grad = operands(8, 2 * STRIP, 20, 24)
    monkeypatch.setattr(products, "has_tiles", lambda: False)
    assert torch.equal(weight_gradient(x, grad), (x.T @ grad).float())


@pytest.mark.parametrize("limit", ["AVX512_CORE_BF16", "avx2"])
def test_matrix_units_that_are_kept_from_torch_are_not_used_here_either(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    free = products.has_tiles.__wrapped__()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX")
    assert products.has_tiles.__wrapped__() == free
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert not products.has_tiles.__wrapped__()
