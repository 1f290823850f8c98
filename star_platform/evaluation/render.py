"""The report of `evaluate` as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

FIGURES = ("auc", "auc_matched", "recall", "mrr")


def render(report: Mapping[str, Any], *, groups: bool = False) -> str:
    """A table per objective; with `groups` also one line per history bucket and cohort."""
    lines: list[str] = []
    for name, objective in report["objectives"].items():
        lines += [*_heading(name, objective), *_table(objective, report["k"]), *_differences(objective)]
        if groups:
            lines += _groups(objective)
        lines.append("")
    lines += _classification(report.get("classification", {}).get("objectives", {}))
    lines.append(
        "AUC matched: only among destinations that had interacted about as often before; new or old earns nothing"
    )
    lines += [f"note: {note}" for note in report["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def _heading(name: str, objective: Mapping[str, Any]) -> list[str]:
    test = objective["test"]
    since = datetime.fromtimestamp(objective["test_start"] / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
    left_out = f", {test['met_before']:,} pairs that had met before left out" if test["met_before"] else ""
    return [
        f"{name}: {objective['positives']:,} edges from {since} on, later than all training{left_out}",
        f"  {objective['members']:,} of type {objective['members_are']}; negatives: {objective['negatives_are']}",
    ]


def _classification(objectives: Mapping[str, Any]) -> list[str]:
    """A table per node classification."""
    lines = []
    for name, objective in objectives.items():
        test = objective["test"]
        rows: list[tuple[str, ...]] = [("", "accuracy", "macro AUC")]
        for method, each in objective["methods"].items():
            rows.append((method, _figure(each["accuracy"]), _figure(each["macro_auc"])))
        for method, each in objective["differences"].items():
            figures = (_figure(each[figure], sign=True) for figure in ("accuracy", "macro_auc"))
            rows.append((f"release - {method}", *figures))
        lines += [
            f"{name}: {objective['feature']}, {objective['classes']} classes; {test['scored']:,} examples of the test",
            f"  {test['text']}",
            *_aligned(rows),
            f"  95 % intervals by resampling nodes of type {objective['node']}, differences paired",
            "",
        ]
    return lines


def _table(objective: Mapping[str, Any], k: int) -> list[str]:
    rows = [("", "AUC", "AUC matched", f"Recall@{k}", "MRR")]
    for name, figures in objective["methods"].items():
        rows.append((name, *(_figure(figures[figure]) for figure in FIGURES)))
    return _aligned(rows)


def _differences(objective: Mapping[str, Any]) -> list[str]:
    rows = [
        (f"release - {name}", *(_figure(figures[figure], sign=True) for figure in FIGURES))
        for name, figures in objective["differences"].items()
    ]
    return [
        *_aligned(rows),
        f"  95 % intervals by resampling nodes of type {objective['members_are']}, differences paired",
    ]


def _groups(objective: Mapping[str, Any]) -> list[str]:
    lines = []
    for group, parts in objective["groups"].items():
        rows = []
        for label, part in parts.items():
            counts = f"{part['positives']:,} / {part['negatives']:,}"
            shown = "insufficient" if part.get("insufficient") else _figure(part["methods"]["release"]["auc"])
            rows.append((label, shown, counts))
        lines += [f"  {group}: AUC of the release, positives / negatives", *_aligned(rows)]
    return lines


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _figure(figure: Mapping[str, Any], *, sign: bool = False) -> str:
    if figure["value"] is None:
        return "undefined"
    form = "+.4f" if sign else ".4f"
    if figure["low"] is None:
        return f"{figure['value']:{form}} [no interval]"
    return f"{figure['value']:{form}} [{figure['low']:{form}}, {figure['high']:{form}}]"
