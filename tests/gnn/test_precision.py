from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from star_platform.gnn import dense, kernels
from star_platform.gnn.buffers import BufferPool, as_array, at_once, over_rows, row_ranges
from star_platform.gnn.dense import DenseRows
from star_platform.gnn.precision import layer_norm, matmul
from star_platform.gnn.runtime import torch_threads


@pytest.mark.parametrize("columns", [6, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gathered_rows_are_scaled_flagged_and_padded(dtype: torch.dtype, columns: int) -> None:
    torch.manual_seed(0)
    values, rows = torch.randn(50, 5), torch.tensor([3, -1, 49, 3, -1, 0])
    out = torch.full((6, columns), torch.nan, dtype=dtype)
    kernels.gather_rows(0, 6, values.numpy(), rows.numpy(), np.float32(0.3), as_array(out))
    expected = torch.zeros(6, columns)
    expected[rows >= 0, :5] = values[rows[rows >= 0]] * np.float32(0.3)
    expected[rows < 0, 5] = 1.0
    assert torch.equal(out, expected.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_copies_are_what_would_be_gathered(dtype: torch.dtype) -> None:
    values = np.random.default_rng(0).standard_normal((50, 33)).astype(np.float32)
    rows, key = np.array([3, -1, 49, 3, -1, 0]), ("job", "text")
    read, kept = DenseRows(dtype, 2, BufferPool()), DenseRows(dtype, 2, BufferPool())
    kept.keep([(key, values, 0.3)])
    expected = read.gather(key, values, rows, 0.3)
    assert torch.equal(kept.gather(key, values, rows, 0.3), expected)
    assert torch.equal(kept.gather(("job", "other"), values, rows, 0.3), expected)
    values[:] = 0  # only copies do not see it
    unchanged = torch.equal(kept.gather(key, values, rows, 0.3), expected)
    assert unchanged == (dtype == torch.bfloat16)


def test_copies_are_made_only_where_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    values, rows, key = np.ones((50, 33), dtype=np.float32), np.arange(50), ("job", "text")
    monkeypatch.setattr(dense, "MOST_OF_MEMORY", 0.0)
    kept = DenseRows(torch.bfloat16, 1, BufferPool())
    kept.keep([(key, values, 1.0)])
    values[:] = 2
    assert (kept.gather(key, values, rows, 1.0)[:, :33] == 2).all()


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_rounding_to_bfloat16_is_that_of_torch(numbers: list[float]) -> None:
    values = np.array([numbers], dtype=np.float32)
    out = torch.empty(1, len(numbers) + 1, dtype=torch.bfloat16)
    kernels.gather_rows(0, 1, values, np.zeros(1, dtype=np.int64), np.float32(1.0), as_array(out))
    assert torch.equal(out[0, :-1], torch.from_numpy(values[0]).bfloat16())


def test_ranges_of_rows_cover_all_rows_once() -> None:
    for count, threads in ((0, 4), (1, 4), (9_000, 2), (100_001, 7)):
        ranges = row_ranges(count, threads)
        assert [i for first, last in ranges for i in range(first, last)] == list(range(count))
    parts: list[tuple[int, int]] = []
    over_rows(lambda first, last: parts.append((first, last)), 20_000, 3)
    assert sorted(parts) == row_ranges(20_000, 3)


def test_an_error_on_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        at_once([lambda: None, lambda: 1 // 0], 2)


def test_tasks_are_taken_by_whoever_is_free() -> None:
    others, all_done, seen = iter(range(6)), threading.Event(), []

    def quick() -> None:
        if next(others) == 5:
            all_done.set()

    def slow() -> None:
        seen.append(all_done.wait(timeout=30))

    at_once([quick, slow, *[quick] * 5], 2)
    assert seen == [True]


def test_a_block_goes_round_only_when_nothing_reads_its_storage() -> None:
    pool = BufferPool()
    first = pool.take(1000, 100, torch.float32).fill_(2.0)
    address, view = first.data_ptr(), first.view(100, 1000)[3:]
    assert address % 64 == 0
    weight = torch.ones(100, 2, requires_grad=True)
    product = first @ weight  # whose graph holds the values
    del first
    assert pool.take(1000, 100, torch.float32).data_ptr() != address
    del view
    assert pool.take(1000, 100, torch.float32).data_ptr() != address
    product.sum().backward()
    del product
    taken = [pool.take(1000, 100, torch.float32) for _ in range(3)]
    assert address in {tensor.data_ptr() for tensor in taken}
    assert len({tensor.data_ptr() for tensor in taken}) == 3
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.full((100, 2), 2000.0))


def test_a_pool_serves_threads_without_giving_a_block_twice() -> None:
    pool, wrong = BufferPool(), []

    def work(number: int) -> None:
        for turn in range(200):
            tensor = pool.take(64 + turn, 32, torch.bfloat16).fill_(number)
            if not bool((tensor == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_small_tensor_does_not_hold_a_large_block() -> None:
    pool = BufferPool()
    large = pool.take(100_000, 100, torch.float32)
    address = large.data_ptr()
    del large
    assert pool.take(10, 10, torch.float32).data_ptr() != address
    assert pool.take(99_000, 100, torch.float32).data_ptr() == address


def test_products_in_bfloat16_have_gradients_in_float32() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(3, 40, 24, requires_grad=True), torch.randn(24, 16, requires_grad=True)
    out = matmul(x, weight, "bf16")
    assert out.dtype == torch.bfloat16
    exact = x.detach().bfloat16().double() @ weight.detach().bfloat16().double()
    assert torch.allclose(out.double(), exact, rtol=2**-8, atol=1e-2)
    grad = torch.randn(3, 40, 16)
    out.backward(grad.bfloat16())
    assert weight.grad is not None
    assert x.grad is not None
    assert weight.grad.dtype == x.grad.dtype == torch.float32
    expected = torch.einsum("abk,abd->kd", x.detach().bfloat16().double(), grad.bfloat16().double())
    assert torch.allclose(weight.grad.double(), expected, rtol=2**-8, atol=1e-2)
    assert torch.allclose(x.grad, grad @ weight.detach().T, rtol=0.05, atol=0.2)


def test_products_in_float32_are_exact() -> None:
    x, weight = torch.randn(5, 4), torch.randn(4, 3)
    assert torch.equal(matmul(x, weight, "float32"), x @ weight)
    assert torch.equal(matmul(x.bfloat16(), weight, "float32"), x.bfloat16().float() @ weight)


@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(1, 5), (3, 40, 16), (1001, 200), (0, 8)])
def test_norms_and_their_gradients_are_those_of_torch(shape: tuple[int, ...], threads: int, slope: float) -> None:
    torch.manual_seed(0)
    norm = torch.nn.LayerNorm(shape[-1])
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x, grad = (3 * torch.randn(shape) + 1).requires_grad_(), torch.randn(shape)
    wanted = [x, norm.weight, norm.bias]
    with torch_threads(threads):
        out = layer_norm(x, norm, slope)
        found = torch.autograd.grad(out, wanted, grad)
    expected = torch.nn.functional.leaky_relu(norm(x), slope)
    assert torch.allclose(out, expected, atol=1e-5)
    for ours, theirs in zip(found, torch.autograd.grad(expected, wanted, grad), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_norms_do_not_depend_on_threads(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm, x, grad = torch.nn.LayerNorm(64), torch.randn(5000, 64, dtype=dtype), torch.randn(5000, 64, dtype=dtype)
    found = []
    for threads in (1, 2):
        with torch_threads(threads):
            own = x.clone().requires_grad_()
            found.append(torch.autograd.grad(layer_norm(own, norm), [own, norm.weight, norm.bias], grad))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_norms_of_bfloat16_have_float32_statistics() -> None:
    torch.manual_seed(0)
    norm = torch.nn.LayerNorm(64)
    x = (torch.randn(10, 64) + 100.0).bfloat16()  # a mean that bfloat16 could not hold beside the deviation
    out = layer_norm(x, norm)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), norm(x.float()), atol=0.02)
