"""The decorator of compiled loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compiled without the GIL, and kept on disk: in `NUMBA_CACHE_DIR`, beside the code, or in the user's cache."""
    try:
        compiled: F = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nowhere to write: compile again in every process
        compiled = numba.njit(nogil=True)(function)
    return compiled


def fast_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `kernel`, where sums may be reassociated, so that they use the processor's vectors."""
    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "boundscheck": False}
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        compiled = numba.njit(**options)(function)
    return compiled
