"""A plan as text, for people: what changes, what is built, who is affected, what comes next. No colour in here."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from star_platform.errors import Place
from star_platform.planning.categories import Category
from star_platform.planning.diff import Change, FieldChange
from star_platform.planning.estimate import Estimate
from star_platform.planning.impact import Notice
from star_platform.planning.plan import Plan
from star_platform.planning.stages import Stage

MARKS = {"added": "+", "changed": "~", "removed": "-"}
NOUNS = {
    "nodes": "node type",
    "edges": "edge type",
    "features": "feature",
    "texts": "text feature",
    "text": "text encoding",
    "cohorts": "cohort",
}
WIDEST = 60
"""Longer values are cut in text; JSON has them in full."""


def render_plan(plan: Plan, *, stages: bool = False) -> str:
    """The plan; with `stages` the work is listed stage by stage instead of summed up. Ends with a line feed."""
    if plan.nothing_changed:
        assert plan.base is not None  # noqa: S101  # nothing can be unchanged without a base
        return (
            f"{_head(plan)}\n\n"
            f"No changes: signals, data and settings are those of {plan.base.name}.\n"
            + "".join(f"{line}\n" for line in render_notices(plan.notices))
            + f"Next: star-platform show {plan.base.name}\n"
        )
    blocks = [_head(plan), *_changes(plan.changes), *([_stages(plan)] if stages else []), _summary(plan)]
    return "\n\n".join(blocks) + "\n"


def render_stages(stages: Sequence[Stage]) -> str:
    """What `release --explain` prints: every stage in order, with the reason and the cost."""
    return "\n".join(_stage_lines(stages)) + "\n"


def _head(plan: Plan) -> str:
    base = "no release yet" if plan.base is None else f"base {plan.base.name}"
    changed = sum(1 for change in plan.changes if change.kind not in ("settings", "privacy"))
    return f"Plan {plan.id}  ({base})  {_count(changed, 'signal')} changed, {plan.unchanged:,} unchanged"


# --- changes ----------------------------------------------------------------------------------------------------------


def _changes(changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        return
    rows = [
        (
            f"  {MARKS[change.action]} {change.kind.replace('_', '-')}",
            change.name,
            change.action,
            _place(change.place),
            str(change.category),
        )
        for change in changes
    ]
    lines: list[str] = []
    for change, line in zip(changes, _table(rows), strict=True):
        lines.append(line)
        lines += _fields(change.fields)
    yield "\n".join(lines)


def _fields(fields: Sequence[FieldChange]) -> list[str]:
    return _table([(f"      {_label(field)}", _values(field), _reason(field)) for field in fields])


def _label(field: FieldChange) -> str:
    if field.pointer == "/data":
        return "data changed"
    return field.pointer.lstrip("/").replace("/", ".").replace("~1", "/").replace("~0", "~")


def _values(field: FieldChange) -> str:
    if field.pointer != "/data":
        return f"{_value(field.old)} -> {_value(field.new)}"
    old, new = field.old["rows"], field.new["rows"]
    return f"{new:,} rows, other content" if old == new else f"{old:,} -> {new:,} rows"


def _reason(field: FieldChange) -> str:
    return f"{field.category} ({field.reason})" if field.reason else str(field.category)


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        text = "[" + ", ".join(_value(item) for item in value) + "]"
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items() if item is not None) + "}"
    else:
        text = str(value)
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def _place(place: Place | None) -> str:
    return "star.yaml" if place is None else f"{place.file}:{place.line}"


# --- work, impact, counts ---------------------------------------------------------------------------------------------


def _summary(plan: Plan) -> str:
    lines = [*_work(plan), *_impact(plan), *render_notices(plan.notices), "Conflicts  0"]
    if plan.deny_columns:
        lines.append(f"Denied     {', '.join(plan.deny_columns)}: read by nobody")
    lines.append(
        f"Plan: {plan.count('added')} to add, {plan.count('changed')} to change, {plan.count('removed')} to remove; "
        f"category {plan.category}; plan {plan.id}" + (" (void if base moves)" if plan.base is not None else "")
    )
    lines.append("Next: star-platform release")
    return "\n".join(lines)


def _work(plan: Plan) -> Iterator[str]:
    margin = "Work       "
    for verb, stages in (("build", plan.to_build), ("reuse", plan.to_reuse)):
        if stages:
            yield from _wrapped(f"{margin}{verb} ", _by_kind(stages))
            margin = " " * len(margin)
    yield f"{margin}{_cost(plan.estimate)}"


def _by_kind(stages: Sequence[Stage]) -> str:
    """`2 edge types, 1 cohort, graph, train`."""
    counted = Counter(stage.kind for stage in stages)
    return ", ".join(_count(number, NOUNS[kind]) if kind in NOUNS else kind for kind, number in counted.items())


def _wrapped(head: str, text: str) -> list[str]:
    """`text` over lines of 100 characters, broken after commas only."""
    indent = " " * len(head)
    lines = textwrap.wrap(re.sub(r"(?<!,) ", "\u00a0", text), 100, initial_indent=head, subsequent_indent=indent)
    return [line.replace("\u00a0", " ") for line in lines]


def _impact(plan: Plan) -> Iterator[str]:
    words = {
        Category.METADATA: "no vector changes",
        Category.ADDITIVE: "no vector that is served changes",
        Category.RETRAIN: "new vector space",
        Category.BREAKING: "breaking: readers of latest must change with it",
    }
    latest = sum(1 for consumer in plan.consumers if consumer.release == "latest")
    pinned = len(plan.consumers) - latest
    if plan.base is None:
        yield "Impact     first release: nobody reads an older one"
        return
    none = "no consumer affected" if plan.category in (Category.METADATA, Category.ADDITIVE) else "no consumer declared"
    counted = f"consumers on latest {latest}, pinned {pinned}" if plan.consumers else none
    yield f"Impact     {words[plan.category]}; {counted}"
    rows = [
        (f"           {item.consumer}", f"({item.owner})", ", ".join(item.nodes), item.message)
        for item in plan.consumers
    ]
    yield from _table(rows)


def render_notices(notices: Sequence[Notice]) -> list[str]:
    """One line per notice, the first one led by `Notices`; nothing where there are none."""
    rows = [
        ("Notices" if index == 0 else "", notice.age, notice.message + (f" ({notice.owner})" if notice.owner else ""))
        for index, notice in enumerate(notices)
    ]
    return [f"{head:<10} {age:<8} {message}" for head, age, message in rows]


def _cost(cost: Estimate) -> str:
    return (
        f"about {human_seconds(cost.seconds)}, up to {human_bytes(cost.memory_bytes)} of memory, "
        f"{human_bytes(cost.store_bytes)} of store"
    )


def _stages(plan: Plan) -> str:
    return "\n".join(_stage_lines(plan.stages))


def _stage_lines(stages: Sequence[Stage]) -> list[str]:
    rows = [
        (
            f"  {stage.action}",
            stage.name,
            stage.what,
            "" if stage.action == "reuse" else human_seconds(stage.estimate.seconds),
            stage.why,
        )
        for stage in stages
    ]
    return _table(rows)


# --- units ------------------------------------------------------------------------------------------------------------


def human_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `2.5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def human_bytes(count: int) -> str:
    """`512 B`, `1.3 MB`, `2.0 GB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows with aligned columns, nothing after the last word."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
