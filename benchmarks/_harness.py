"""What every benchmark does: take turns, keep medians and spread, end with one line of JSON (DESIGN section 6)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def take_turns(runs: Mapping[str, Callable[[], object]], rounds: int, warm: int = 1) -> dict[str, list[float]]:
    """Seconds of each run, `rounds` times, one after the other so that a noisy minute hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-warm, rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def in_subprocess(module: str, *arguments: str) -> dict[str, Any]:
    """What `python -m module arguments` prints as JSON on its last line: a run with a memory peak of its own."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """How many times faster we are: ratio of the medians."""
    return float(np.median(theirs) / np.median(ours))


def spread(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """The quartiles of the ratios of the rounds, each round's two runs being neighbours in time."""
    ratios = np.asarray(theirs) / np.asarray(ours)
    return [round(float(q), 3) for q in np.percentile(ratios, [25, 75])]


def report(
    benchmark: str,
    ratios: Mapping[str, Any],
    spread: Mapping[str, Any],
    figures: Mapping[str, Any],
    cases: Mapping[str, Any] | int,
) -> None:
    """The last line of a benchmark."""
    line = {"benchmark": benchmark, "ratios": ratios, "spread": spread, "figures": figures, "cases": cases}
    print(json.dumps(line, default=_plain), flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)
