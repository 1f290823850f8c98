"""How long work tells the outside how far it is; the console that draws it lives in `cli`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of long work under way."""

    def advance(self, amount: int = 1) -> None: ...

    def note(self, **figures: float | str) -> None:
        """Figures shown beside the bar, such as `loss=0.31`."""


class Progress(Protocol):
    """Opens tasks, and says what is going on between them."""

    def task(self, name: str, total: int | None = None, unit: str = "") -> AbstractContextManager[Task]:
        """A task of `total` units; None when that is unknown."""

    def line(self, text: str) -> None:
        """One line that stays."""


class _Silence:
    def advance(self, amount: int = 1) -> None:
        """Say nothing."""

    def note(self, **figures: float | str) -> None:
        """Say nothing."""

    def line(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        yield self


SILENT: Progress = _Silence()
"""For tests and library use."""
