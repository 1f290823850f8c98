"""The table: means over seeds, with intervals over occupations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from star_platform.evaluation.auc import auc
from star_platform.evaluation.bootstrap import ClusterBootstrap, Interval, interval

AT = 10
RESAMPLES = 1000
GAIN, OVER = ", gain", ", over frozen"
"""Differences to the row above and to the first row."""
FIGURES = ("AUC", "AUC of the dot product", f"Recall@{AT}")


def table(folder: Path, rows: list[str], seeds: int) -> dict[str, Any]:
    """Figures of every row and their difference to the row above, over the seeds that were run.

    Occupations are drawn again, with all their titles; a resample's figure is its mean over seeds.
    """
    runs = [[np.load(folder / f"{row}-{seed}.npz") for seed in range(seeds)] for row in range(len(rows))]
    by_title = ClusterBootstrap(runs[0][0]["occupation"], RESAMPLES)
    width = runs[0][0]["logit"].shape[1]
    by_pair = ClusterBootstrap(np.repeat(runs[0][0]["occupation"], width), RESAMPLES)
    told = [[_figures(run, by_title, by_pair) for run in of_row] for of_row in runs]
    found: list[dict[str, Any]] = []
    for at, name in enumerate(rows):
        entry: dict[str, Any] = {"row": name, "cpu_seconds": float(np.mean([run["cpu_seconds"] for run in runs[at]]))}
        for figure in FIGURES:
            value, resampled = _mean(told[at], figure)
            entry[figure] = interval(value, resampled).as_json()
            if at:
                for against, other in ((GAIN, at - 1), (OVER, 0)):
                    before, others = _mean(told[other], figure)
                    entry[figure + against] = interval(value - before, resampled - others).as_json()
        found.append(entry)
    return {"seeds": seeds, "titles": len(runs[0][0]["occupation"]), "rows": found, "text": _text(found, seeds)}


def _figures(run: Any, by_title: ClusterBootstrap, by_pair: ClusterBootstrap) -> dict[str, tuple[float, Any]]:
    labels = np.zeros(run["logit"].shape, np.bool_)
    labels[:, 0] = True
    found: dict[str, tuple[float, Any]] = {}
    for figure, scores in zip(FIGURES, (run["logit"], run["dot"]), strict=False):
        flat = scores.reshape(-1)
        found[figure] = auc(labels.reshape(-1), flat) or float("nan"), by_pair.auc(labels.reshape(-1), flat)
    hits = (run["rank"] < AT).astype(np.float64)
    found[FIGURES[2]] = float(hits.mean()), by_title.mean(hits)
    return found


def _mean(told: list[dict[str, tuple[float, Any]]], figure: str) -> tuple[float, Any]:
    values, resampled = zip(*(one[figure] for one in told), strict=True)
    return float(np.mean(values)), np.mean(resampled, axis=0)


def _text(found: list[dict[str, Any]], seeds: int) -> str:
    lines = ["| | " + " | ".join(FIGURES) + " | CPU |", "|---" * (len(FIGURES) + 2) + "|"]
    for entry in found:
        cells = [_shown(entry[figure]) + _gain(entry.get(figure + GAIN)) for figure in FIGURES]
        lines.append(f"| {entry['row']} | " + " | ".join(cells) + f" | {entry['cpu_seconds']:.0f} s |")
    lines.append(
        f"\nMean of {seeds} seeds, 95 % intervals over occupations; in brackets the gain over the row above.\n"
    )
    lines += ["| gain over the frozen encoder | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for entry in found[1:]:
        lines.append(
            f"| {entry['row']} | " + " | ".join(_shown(entry[figure + OVER], "+") for figure in FIGURES) + " |"
        )
    lines.append("")
    return "\n".join(lines)


def _shown(figure: dict[str, float | None], sign: str = "") -> str:
    given = Interval(**figure)
    if given.low is None or given.high is None:
        return f"{given.value:{sign}.4f}"
    return f"{given.value:{sign}.4f} [{given.low:{sign}.4f}, {given.high:{sign}.4f}]"


def _gain(figure: dict[str, float | None] | None) -> str:
    return "" if figure is None else f" ({_shown(figure, '+')})"
