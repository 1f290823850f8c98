"""YAML 1.2 text as a tree in which every key and value knows its exact span.

Only what a branch file needs: block and flow mappings, sequences and scalars. Anchors, aliases, merge keys, tags,
directives and several documents are refused, because a reader of a branch must see what it says where it says it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

Scalar = str | int | float | bool | None
MERGE_MARKER = re.compile(r"^(<{7}|={7}|>{7}|\|{7})(?: .*)?$")
MAX_DEPTH = 24
"""Deeper nesting than any branch has; keeps hostile files from exhausting the stack."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in the text; `line` and `column` count from 0, `index` counts characters."""

    line: int
    column: int
    index: int


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands; `end` is exclusive."""

    start: Mark
    end: Mark


@dataclass(frozen=True, slots=True)
class ScalarNode(Node):
    """`style` is None for plain text, else one of `'`, `"`, `|`, `>`."""

    value: Scalar
    style: str | None


@dataclass(frozen=True, slots=True)
class SequenceNode(Node):
    """A list."""

    items: tuple[Node, ...]
    flow: bool


@dataclass(frozen=True, slots=True)
class MappingNode(Node):
    """Keys and values in the order of the file; keys are unique strings once `problems` is empty."""

    entries: tuple[tuple[ScalarNode, Node], ...]
    flow: bool

    def get(self, key: str) -> Node | None:
        return next((value for name, value in self.entries if name.value == key), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the YAML itself; `code` is one of S003 to S009."""

    code: str
    message: str
    start: Mark
    length: int = 1
    label: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """The parsed text. `root` is None when a problem kept the text from being read at all."""

    root: Node | None
    problems: tuple[Problem, ...]


def parse(text: str) -> Tree:
    """Parse one YAML document; never raises for bad text, but lists what is wrong with it."""
    markers = _merge_markers(text)
    if markers:
        return Tree(None, markers)
    builder = _Builder(Lines(text))
    try:
        root = builder.document(_events(text))
    except _Stop as stop:
        return Tree(None, (*builder.problems, stop.problem))
    except YAMLError as error:
        return Tree(None, (*builder.problems, _syntax_problem(text, builder.lines, error)))
    except (ValueError, IndexError, AttributeError, TypeError, AssertionError) as error:
        # The scanner trips over some malformed input (a lone `%`, an odd escape) instead of reporting it.
        problem = Problem("S005", f"this is not valid YAML ({error or type(error).__name__})", Mark(0, 0, 0))
        return Tree(None, (*builder.problems, problem))
    return Tree(root, tuple(builder.problems))


def plain(node: Node, sequence: type[tuple[Any, ...] | list[Any]] = tuple) -> Any:
    """The value of `node` as plain Python data; lists as tuples, which is what frozen models hold."""
    if isinstance(node, MappingNode):
        return {key.value: plain(value, sequence) for key, value in node.entries}
    if isinstance(node, SequenceNode):
        return sequence(plain(item, sequence) for item in node.items)
    assert isinstance(node, ScalarNode)  # noqa: S101 - the three kinds of node are all there are
    return node.value


# --- scalars of the YAML 1.2 core schema ------------------------------------------------------------------------------

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 400


def resolve(text: str) -> Scalar:
    """What a plain scalar means in YAML 1.2: `no`, `on` and `2026-01-01` are strings."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) <= _MAX_DIGITS:
        if _INT.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.lower().replace(".", "", 1))
    return text


# --- building ---------------------------------------------------------------------------------------------------------


class _Stop(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Lines:
    """The lines of a text as an editor counts them: YAML 1.1 readers also end lines at U+0085 and U+2028."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(match.end() for match in _NEWLINE.finditer(text))]
        self._length = len(text)

    def mark(self, index: int) -> Mark:
        index = max(0, min(index, self._length))
        line = bisect_right(self._starts, index) - 1
        return Mark(line, index - self._starts[line], index)


_NEWLINE = re.compile(r"\r\n|\r|\n")


def split_lines(text: str) -> list[str]:
    """Lines without their ends, numbered as `Lines` numbers them."""
    return _NEWLINE.split(text)


def _events(text: str) -> Iterator[Event]:
    events: Iterator[Event] = YAML(typ="safe", pure=True).parse(text)
    return events


@dataclass
class _Builder:
    lines: Lines
    problems: list[Problem] = field(default_factory=list)

    def mark(self, mark: Any) -> Mark:
        return self.lines.mark(mark.index)

    def document(self, events: Iterator[Event]) -> Node | None:
        root: Node | None = None
        seen = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                seen += 1
                if event.version or event.tags:
                    self.problems.append(_unsupported("a %-directive", self._directive(event), 1))
                if seen > 1:
                    problem = Problem(
                        "S006",
                        "a file holds one document, and '---' opens another",
                        self.mark(event.start_mark),
                        3,
                        "make two files of it",
                    )
                    raise _Stop(problem)
            elif not isinstance(event, DocumentEndEvent) and _is_node(event):
                root = self.node(event, events, 0)
        return root

    def _directive(self, event: Event) -> Mark:
        before = self.lines.text[: event.start_mark.index]
        return self.lines.mark(max(0, before.rfind("%")))

    def node(self, event: Event, events: Iterator[Event], depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _Stop(
                Problem(
                    "S005", f"nested more than {MAX_DEPTH} levels deep", self.mark(event.start_mark), 1, "flatten it"
                )
            )
        self._refuse_extras(event)
        start = self.mark(event.start_mark)
        if isinstance(event, MappingStartEvent):
            return self._mapping(event, events, depth)
        if isinstance(event, SequenceStartEvent):
            items: list[Node] = []
            for item in events:
                if isinstance(item, SequenceEndEvent):
                    return SequenceNode(start, self.mark(item.end_mark), tuple(items), bool(event.flow_style))
                items.append(self.node(item, events, depth + 1))
        if isinstance(event, ScalarEvent):
            value: Scalar = event.value if event.style else resolve(event.value)
            return ScalarNode(start, self.mark(event.end_mark), value, event.style or None)
        return ScalarNode(start, self.mark(event.end_mark), None, None)  # an alias, already reported

    def _mapping(self, event: Event, events: Iterator[Event], depth: int) -> MappingNode:
        entries: list[tuple[ScalarNode, Node]] = []
        first: dict[str, Mark] = {}
        end = self.mark(event.end_mark)
        for item in events:
            if isinstance(item, MappingEndEvent):
                end = self.mark(item.end_mark)
                break
            key = self.node(item, events, depth + 1)
            value = self.node(next(events), events, depth + 1)
            name = self._key(key)
            if name is None:
                continue
            if name in first:
                self.problems.append(
                    Problem(
                        "S007",
                        f"key '{name}' stands twice in one mapping",
                        key.start,
                        key.end.index - key.start.index,
                        f"first on line {first[name].line + 1}",
                        ("a repeated key would silently win over the first: keep one of the two",),
                    )
                )
                continue
            first[name] = key.start
            assert isinstance(key, ScalarNode)  # noqa: S101 - _key names scalars only
            entries.append((key, value))
        return MappingNode(self.mark(event.start_mark), end, tuple(entries), bool(getattr(event, "flow_style", False)))

    def _key(self, key: Node) -> str | None:
        if isinstance(key, ScalarNode) and isinstance(key.value, str):
            if key.value == "<<" and key.style is None:
                self.problems.append(_unsupported("a merge key ('<<')", key.start, 2))
                return None
            return key.value
        what = "a list or mapping" if not isinstance(key, ScalarNode) else f"{kind_of(key.value)}"
        length = key.end.index - key.start.index if key.end.line == key.start.line else 1
        self.problems.append(
            Problem("S009", f"a key must be text, and this one is {what}", key.start, max(1, length), "quote it")
        )
        return None

    def _refuse_extras(self, event: Event) -> None:
        if isinstance(event, AliasEvent):
            self._refuse("the alias", event)
        if isinstance(event, NodeEvent) and event.anchor and not isinstance(event, AliasEvent):
            self._refuse("the anchor", event)
        if getattr(event, "ctag", None) is not None:
            self._refuse("the tag", event)

    def _refuse(self, what: str, event: Event) -> None:
        start = self.mark(event.start_mark)
        word = (self.lines.text[start.index :].split(None, 1) or [""])[0].rstrip(",]}")
        self.problems.append(_unsupported(f"{what} '{word}'", start, max(1, len(word))))


def _unsupported(what: str, start: Mark, length: int) -> Problem:
    notes = ("anchors, aliases, merge keys, tags and directives are not used in branch files: write the value out",)
    return Problem("S008", f"{what} is not allowed here", start, length, "write it out", notes)


def _is_node(event: Event) -> bool:
    return isinstance(event, AliasEvent | ScalarEvent | SequenceStartEvent | MappingStartEvent)


def kind_of(value: Any) -> str:
    """What a reader calls the type of a YAML value."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"


# --- what the scanner reports -----------------------------------------------------------------------------------------


def _merge_markers(text: str) -> tuple[Problem, ...]:
    """Left-over conflict markers; the opening one of each block is reported, or any that stands alone."""
    found = [(number, line) for number, line in enumerate(split_lines(text)) if MERGE_MARKER.match(line)]
    sure = [(number, line) for number, line in found if line.startswith(("<<<<<<<", ">>>>>>>"))]
    opening = [(number, line) for number, line in sure if line.startswith("<<<<<<<")]
    notes = ("keep one side, or both as two signals, delete the marker lines, and validate again",)
    return tuple(
        Problem("S003", "this file holds an unresolved merge", Mark(number, 0, 0), len(line), "conflict marker", notes)
        for number, line in opening or sure
    )


def _syntax_problem(text: str, lines: Lines, error: YAMLError) -> Problem:
    if isinstance(error, ReaderError):
        start = lines.mark(int(error.position))
        what = f"the character U+{ord(text[start.index]):04X}" if start.index < len(text) else "a character"
        return Problem("S001", f"{what} is not allowed in a text file", start, 1, "delete it")
    mark = getattr(error, "problem_mark", None)
    context = getattr(error, "context_mark", None)
    if mark is None or (context is not None and not text[mark.index :].strip()):
        mark = context  # the text ran out: where the unfinished part began says more
    start = lines.mark(min(mark.index if mark is not None else 0, max(0, len(text.rstrip()) - 1)))
    line_text = split_lines(text)[start.line]
    indent = line_text[: len(line_text) - len(line_text.lstrip())]
    if "\t" in indent:
        place = Mark(start.line, indent.index("\t"), start.index)
        return Problem("S004", "this line is indented with a tab", place, indent.count("\t"), "use spaces")
    problem = str(getattr(error, "problem", None) or "cannot be read").strip()
    doing = str(getattr(error, "context", None) or "").strip()
    message = f"this is not valid YAML: {problem}" + (f" ({doing})" if doing else "")
    return Problem("S005", message, start, 1, "here", _syntax_notes(line_text))


def _syntax_notes(line: str) -> tuple[str, ...]:
    if line.count("{") != line.count("}") or line.count("[") != line.count("]"):
        return ("every { and [ needs its closing } or ]",)
    if line.count('"') % 2 or line.count("'") % 2:
        return ("a quote that opens must close",)
    if ": " in line.partition(": ")[2]:
        return ("text that holds ': ' must stand in quotes",)
    return ("look at this line and at the one above it: indentation, quotes, a missing ':'",)
