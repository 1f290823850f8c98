"""What a person sees while work runs: bars on a terminal, a plain line every 10 % otherwise. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from star_platform.progress import Progress, Task

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


SHORT_SECONDS = 2.0
"""Tasks below this need no line of their own."""


def open_progress(stream: TextIO | None = None) -> Progress:
    """The progress that fits `stream` (stderr): bars when it is a terminal, lines when it is a file or a pipe."""
    stream = stream or sys.stderr
    return _Bars() if stream.isatty() else _Lines(stream)


class _Bars:
    """A rich progress bar per task, with rate and time left; it goes when the task ends, lines stay."""

    def line(self, text: str) -> None:
        from rich.console import Console

        Console(stderr=True, highlight=False, markup=False).print(text)

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}", style="dim"),
        )
        with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
            yield _Bar(bars, bars.add_task(name, total=total, rate="", figures=""), unit)


class _Bar:
    def __init__(self, bars: RichProgress, task: TaskID, unit: str) -> None:
        self._bars, self._task, self._unit = bars, task, unit
        self._start, self._done = time.monotonic(), 0

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        rate = format_rate(self._done, time.monotonic() - self._start, self._unit)
        self._bars.update(self._task, advance=amount, rate=rate)

    def note(self, **figures: float | str) -> None:
        self._bars.update(self._task, figures=format_figures(figures))


class _Lines:
    """A line every 10 % and one at the end, for tasks that take a while; the others pass in silence."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Task]:
        line = _Line(self, f"  {name}", total, unit)
        yield line
        line.end()


class _Line:
    def __init__(self, lines: _Lines, name: str, total: int | None, unit: str) -> None:
        self._lines, self._name, self._total, self._unit = lines, name, total, unit
        self._start, self._done, self._tenths, self._figures = time.monotonic(), 0, 0, ""

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        tenths = 10 * self._done // self._total if self._total else 0
        if self._tenths < tenths < 10 and self._seconds >= SHORT_SECONDS:
            self._tenths = tenths
            left = self._seconds * (self._total or 0) / self._done - self._seconds
            self._print(f"{10 * tenths} %", f"{left:.0f} s left")

    def note(self, **figures: float | str) -> None:
        self._figures = format_figures(figures)

    def end(self) -> None:
        if self._seconds >= SHORT_SECONDS:
            self._print("done", f"{self._seconds:.0f} s")

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._start

    def _print(self, state: str, time_: str) -> None:
        parts = [f"{self._name}: {state}", time_]
        if self._done:
            parts.append(format_rate(self._done, self._seconds, self._unit))
        if self._figures:
            parts.append(self._figures)
        self._lines.line(", ".join(parts))


def format_rate(done: int, seconds: float, unit: str) -> str:
    """`1,234 texts/s`."""
    rate = done / seconds if seconds > 0 else 0.0
    return f"{rate:,.0f} {unit or 'steps'}/s" if rate >= 10 else f"{rate:.1f} {unit or 'steps'}/s"


def format_figures(figures: dict[str, float | str]) -> str:
    """`loss 0.312, AUC 0.81`."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
