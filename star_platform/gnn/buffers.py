"""Memory for what is gathered batch after batch, and the threads that gather it.

A block beyond 64 MiB that a thread other than the main one asks for is mapped anew each time, whatever `mallopt` says
(glibc's secondary arenas hold no more), and faulted in page by page. Such blocks are kept here instead.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNED = 64
"""Bytes. Operands that lie differently from run to run may make matrix products differ in the last bit."""
_SPARE = 12
"""Blocks kept for the next batches: of those made ahead and the one in use, times a few node types."""
_LARGE = 1 << 20
"""Bytes from which the memory of a temporary is kept for the next step."""
_SMALL = 65_536
"""Bytes that no block is worth being told apart by."""
PIECES = 16
"""Sums are made in so many pieces whatever the number of threads, so that they are always the same."""
_ROWS = 4096
"""Fewest rows that are worth a thread."""


class BufferPool:
    """Blocks of memory that go round: taken for a tensor, and back as soon as nothing reads the tensor's storage.

    Safe across threads: a block returns when the storage itself is freed, on whichever thread that happens, and so
    never while an autograd graph, a queue or a view still holds it.
    """

    def __init__(self, spare: int = _SPARE) -> None:
        """`spare`: blocks that are kept although nobody has use for them."""
        self._most = spare
        self._returned: deque[NDArray[np.uint8]] = deque()
        self._spare: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """`[rows, columns]` of float32 or bfloat16, contiguous, of arbitrary content."""
        itemsize = 2 if dtype == torch.bfloat16 else 4
        size = rows * columns * itemsize
        block = self._block(size)
        start = -block.ctypes.data % _ALIGNED
        kind = np.uint16 if itemsize == 2 else np.float32
        view = block[start : start + size].view(kind).reshape(rows, columns)
        # torch holds `view` for as long as the storage lives.
        weakref.finalize(view, self._returned.append, block).atexit = False  # without the lock: it may run anywhere
        found = torch.from_numpy(view)
        return found.view(dtype) if itemsize == 2 else found

    def _block(self, size: int) -> NDArray[np.uint8]:
        """The smallest spare block that fits and is not far too large, else a new one."""
        with self._lock:
            while self._returned:
                self._spare.append(self._returned.popleft())
            least, most = size + _ALIGNED, 4 * size + _SMALL
            fitting = [(len(block), place) for place, block in enumerate(self._spare) if least <= len(block) <= most]
            if fitting:
                return self._spare.pop(min(fitting)[1])
            del self._spare[: max(0, len(self._spare) - self._most)]  # those that waited longest
        return np.empty(size + size // 8 + _SMALL, dtype=np.uint8)


_TEMPORARIES = BufferPool(spare=64)


def fresh(shape: Sequence[int], like: Tensor) -> Tensor:
    """`[rows, columns]` of arbitrary content, with the dtype, float32 or bfloat16, and on the device of `like`.

    For what every step makes: sizes differ a little from step to step, so that the heap would not find a place for them
    among what was freed and grow, page by page, for many steps.
    """
    rows, columns = shape
    if like.device.type != "cpu" or rows * columns * like.element_size() < _LARGE:
        return like.new_empty(rows, columns)
    return _TEMPORARIES.take(rows, columns, like.dtype)


def row_ranges(count: int, threads: int) -> list[tuple[int, int]]:
    """Ranges of about as many rows each, one per thread, fewer where there are few rows."""
    pieces = max(1, min(threads, count // _ROWS))
    cuts = np.linspace(0, count, pieces + 1).astype(np.int64).tolist()
    return list(pairwise(cuts))


def over_rows(work: Callable[[int, int], object], count: int, threads: int) -> None:
    """`work(first, last)` on ranges of rows at once; `work` must release the GIL, and ranges must not share output."""
    at_once([partial(work, first, last) for first, last in row_ranges(count, threads)], threads)


def in_pieces(count: int, work: Callable[[int, int, int], object]) -> None:
    """`work(first, last, piece)` on `PIECES` ranges of rows, on torch's threads."""
    cuts = np.linspace(0, count, PIECES + 1).astype(np.int64).tolist()
    tasks = [partial(work, first, last, piece) for piece, (first, last) in enumerate(pairwise(cuts))]
    at_once(tasks, torch.get_num_threads() if count >= 4 * PIECES else 1)


def at_once(tasks: Sequence[Callable[[], object]], threads: int) -> None:
    """Run all on up to `threads` threads, the caller's among them; an error is raised once none is running any more.

    Whoever is free takes the next task: a thread that shares its core with another does fewer of them.
    """
    if threads <= 1 or len(tasks) <= 1:
        for task in tasks:
            task()
        return
    left = iter(tasks)  # of a list: `next` is one step for all threads

    def work() -> None:
        for task in left:
            task()

    helpers = [_pool(threads - 1).submit(work) for _ in range(min(threads, len(tasks)) - 1)]
    try:
        work()
    finally:
        pending = [helper for helper in helpers if not helper.cancel()]  # not begun: nothing is left for it
        wait(pending)
    for helper in pending:
        helper.result()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="rows")


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The memory of a CPU tensor as an array; bfloat16 as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
