"""The process around training: allocator, threads, and work done ahead on a thread."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch

HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER, _KEEP = -1, 1 << 30

Key = TypeVar("Key")
Made = TypeVar("Made")


def keep_freed_memory() -> None:
    """Tell glibc not to return freed memory to the system, and torch to ask for huge pages.

    With glibc's defaults every large temporary of a step is unmapped and faulted in again, which was measured to cost
    half of the step (reference/training_speed, lesson 1). Temporaries of a large step are more than any threshold, so
    the heap is never trimmed. Rows that are met at random miss the TLB less in huge pages.
    Does nothing on other C libraries, and torch listens only before its first tensor.
    """
    os.environ.setdefault(HUGE_PAGES, "1")
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run with `count` torch threads and deterministic kernels, and restore both.

    The number of threads decides the order of floating-point sums, so it is part of what makes bytes equal. New memory
    is not filled: nothing here reads what it has not written, and filling costs a pass over every temporary.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    fill, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())  # the promise is for the CPU
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        memory.fill_uninitialized_memory = fill


def device_of(wanted: str) -> torch.device:
    """`auto`: a GPU where torch finds one."""
    return torch.device("cuda" if wanted == "auto" and torch.cuda.is_available() else wanted.replace("auto", "cpu"))


def moved(value: Made, device: torch.device) -> Made:
    """`value` with every tensor in it, through tuples and dataclasses, on `device`; itself on the CPU."""
    if device.type == "cpu":
        return value
    found: Any = value
    if isinstance(value, torch.Tensor):
        found = value.to(device, non_blocking=True)
    elif isinstance(value, tuple):
        found = tuple(moved(each, device) for each in value)
    elif is_dataclass(value) and not isinstance(value, type):
        changed = {field.name: moved(getattr(value, field.name), device) for field in fields(value)}
        found = replace(value, **changed)
    return cast(Made, found)


def ahead(make: Callable[[Key], Made], keys: Iterable[Key], depth: int = 2) -> Iterator[Made]:
    """`make(key)` for each key, in order, up to `depth` of them made ahead on a thread.

    An error in `make` is raised here, and leaving the loop early stops the thread.
    """
    made: queue.Queue[tuple[Made | None, BaseException | None, bool]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: tuple[Made | None, BaseException | None, bool]) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                made.put(item, timeout=0.1)
                return

    def work() -> None:
        try:
            for key in keys:
                if stopped.is_set():
                    return
                put((make(key), None, False))
            put((None, None, True))
        except BaseException as error:  # raised again on the other side
            put((None, error, True))

    worker = threading.Thread(target=work, name="prefetch", daemon=True)
    worker.start()
    try:
        while True:
            item, error, end = made.get()
            if error is not None:
                raise error
            if end:
                return
            yield item  # type: ignore[misc]  # not the end, so made
    finally:
        stopped.set()
        worker.join()
