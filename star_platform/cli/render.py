"""Errors as a reader sees them: code, place, the line with carets, the next step; or as JSON."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_platform.cli.output import plural
from star_platform.errors import Conflict, Diagnostic, MergeConflict, Place, SignalErrors, StarError


@dataclass(frozen=True)
class Paint:
    """ANSI colours, or none."""

    on: bool = False

    def red(self, text: str) -> str:
        return self._wrap("1;31", text)

    def blue(self, text: str) -> str:
        return self._wrap("1;34", text)

    def bold(self, text: str) -> str:
        return self._wrap("1", text)

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text


PLAIN = Paint()


def render_error(error: StarError, paint: Paint = PLAIN, root: Path | None = None) -> str:
    """Any error of the platform as text; `root` is where files of conflicts are looked up."""
    if isinstance(error, SignalErrors):
        return render_diagnostics(error.diagnostics, paint)
    if isinstance(error, MergeConflict):
        return render_conflicts(error.conflicts, error.code, paint, root)
    lines = [_headline(error.code, error.message, paint)]
    if error.place is not None:
        lines.append(f"  {paint.blue('-->')} {error.place}")
    lines += [f"  {paint.blue('*')} {_safe(_reader(reader))}" for reader in error.details.get("readers", ())]
    if error.hint:
        lines.append(f"  {paint.blue('=')} {_safe(error.hint)}")
    lines.append(f"  {paint.blue('=')} more: star-platform explain {error.code}")
    return "\n".join(lines)


def _reader(reader: dict[str, Any]) -> str:
    """A reader of a release that is to go, as `lifecycle.report.reader_json` writes it."""
    who = " · ".join(str(reader[key]) for key in ("name", "owner", "contact") if reader.get(key)) or "(unknown)"
    return f"{reader['standing']:<7} {who}: {'; '.join(reader['reasons'])}"


def render_diagnostics(diagnostics: Sequence[Diagnostic], paint: Paint = PLAIN) -> str:
    """Every diagnostic, in the order given, and a line that counts them."""
    explained: set[str] = set()
    parts = []
    for diagnostic in diagnostics:
        parts.append(render_diagnostic(diagnostic, paint, explain=diagnostic.code not in explained))
        explained.add(diagnostic.code)
    files = {item.place.file for item in diagnostics if item.place is not None}
    parts.append(f"{plural(len(diagnostics), 'error')} in {plural(len(files), 'file')}")
    return "\n\n".join(parts)


def render_diagnostic(diagnostic: Diagnostic, paint: Paint = PLAIN, *, explain: bool = True) -> str:
    """One diagnostic; with `explain`, where to read more about its code."""
    lines = [_headline(diagnostic.code, diagnostic.message, paint)]
    gutter = 1
    if diagnostic.place is not None:
        gutter = len(str(diagnostic.place.line))
        lines += _excerpt(diagnostic.place, diagnostic.source_line, diagnostic.label, paint, "-->")
    notes = [*diagnostic.notes, *([f"more: star-platform explain {diagnostic.code}"] if explain else [])]
    lines += [f"{' ' * gutter} {paint.blue('=')} {_safe(note)}" for note in notes]
    return "\n".join(lines)


def render_conflicts(
    conflicts: Iterable[Conflict], code: str = "P001", paint: Paint = PLAIN, root: Path | None = None
) -> str:
    """Every conflict with both of its places, and a line that counts them."""
    parts = [_conflict(item, code, paint, root) for item in conflicts]
    parts.append(plural(len(parts), "merge conflict"))
    return "\n\n".join(parts)


def _conflict(conflict: Conflict, code: str, paint: Paint, root: Path | None) -> str:
    lines = [_headline(code, f"{conflict.message} [{conflict.type}]", paint)]
    for place, arrow, label in ((conflict.ours, "-->", "here"), (conflict.theirs, ":::", "and here")):
        if place is not None:
            lines += _excerpt(place, _line_of(place, root), label, paint, arrow)
    gutter = max((len(str(place.line)) for place in (conflict.ours, conflict.theirs) if place is not None), default=1)
    lines.append(f"{' ' * gutter} {paint.blue('=')} {_safe(conflict.hint)}")
    lines.append(f"{' ' * gutter} {paint.blue('=')} more: star-platform explain {code}")
    return "\n".join(lines)


def _headline(code: str, message: str, paint: Paint) -> str:
    return f"{paint.red(f'error[{code}]')}{paint.bold(f': {_safe(message)}')}"


def _excerpt(place: Place, source: str | None, label: str | None, paint: Paint, arrow: str) -> list[str]:
    number = str(place.line)
    margin = " " * len(number)
    bar = paint.blue("|")
    lines = [f"{margin}{paint.blue(arrow)} {place}"]
    if not source or not source.strip():
        return lines if label is None else [*lines, f"{margin} {paint.blue('=')} {_safe(label)}"]
    before, marked = source[: place.column - 1], source[place.column - 1 : place.column - 1 + place.length]
    carets = "^" * max(1, _width(marked))
    pointer = paint.red(f"{carets} {_safe(label)}" if label else carets)
    return [
        *lines,
        f"{margin} {bar}",
        f"{paint.blue(number)} {bar} {_safe(source.rstrip())}",
        f"{margin} {bar} {' ' * _width(before)}{pointer}",
    ]


def _safe(text: str) -> str:
    """`text` on one line, without characters that move a terminal's cursor."""
    return "".join(
        " " if char in "\t\n" else char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in _safe(text)
    )


def _line_of(place: Place, root: Path | None) -> str | None:
    try:
        lines = ((root or Path()) / place.file).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return lines[place.line - 1] if place.line <= len(lines) else None


# --- JSON -------------------------------------------------------------------------------------------------------------


def error_json(error: StarError) -> dict[str, Any]:
    """Any error of the platform as plain data, under `errors` or `conflicts`."""
    if isinstance(error, SignalErrors):
        return {"ok": False, "errors": [diagnostic_json(item) for item in error.diagnostics]}
    if isinstance(error, MergeConflict):
        return {"ok": False, "code": error.code, "conflicts": [conflict_json(item) for item in error.conflicts]}
    single = {"code": error.code, "message": error.message, "hint": error.hint, **_place_json(error.place)}
    if "readers" in error.details:
        single["readers"] = error.details["readers"]
    return {"ok": False, "errors": [single]}


def diagnostic_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """One diagnostic as plain data."""
    return {
        "code": diagnostic.code,
        "message": diagnostic.message,
        **_place_json(diagnostic.place),
        "source_line": diagnostic.source_line,
        "label": diagnostic.label,
        "notes": list(diagnostic.notes),
    }


def conflict_json(conflict: Conflict) -> dict[str, Any]:
    """One conflict as plain data."""
    return {
        "type": conflict.type,
        "path": conflict.path,
        "ours": _place_json(conflict.ours) or None,
        "theirs": _place_json(conflict.theirs) or None,
        "message": conflict.message,
        "hint": conflict.hint,
    }


def _place_json(place: Place | None) -> dict[str, Any]:
    if place is None:
        return {}
    return {"file": place.file, "line": place.line, "column": place.column, "length": place.length}
