"""One YAML file as text, tree and positions; the maker of every diagnostic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from star_platform.errors import Diagnostic, Place
from star_platform.signals.locate import Steps
from star_platform.signals.tree import (
    MappingNode,
    Mark,
    Node,
    Problem,
    ScalarNode,
    SequenceNode,
    parse,
    split_lines,
)


@dataclass(frozen=True)
class Document:
    """A file whose YAML could be read."""

    file: str
    text: str
    root: MappingNode
    lines: tuple[str, ...] = field(repr=False)
    places: Mapping[Steps, tuple[Place, Place]] = field(repr=False)
    """Of the key and of the value, by the steps to it; a list item is its own key."""

    def place(self, *steps: str | int) -> Place:
        """The key at `steps`, or of the nearest parent there is."""
        return self._nearest(steps)[0]

    def value_place(self, *steps: str | int) -> Place:
        """The value at `steps`; where that is a block or absent, the nearest key above it."""
        key, value = self._nearest(steps)
        return value if steps in self.places and self.node(*steps, blocks=False) is not None else key

    def node(self, *steps: str | int, blocks: bool = True) -> Node | None:
        """The node at `steps`; without `blocks`, None where it spreads over several lines."""
        node: Node | None = self.root
        for step in steps:
            if isinstance(node, MappingNode):
                node = node.get(str(step))
            elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            else:
                return None
        if node is not None and not blocks and (node.start.line != node.end.line or node.start == node.end):
            return None
        return node

    def diagnostic(
        self, code: str, message: str, place: Place, label: str | None = None, *notes: str | None
    ) -> Diagnostic:
        """A diagnostic at `place` of this file, with its source line."""
        kept = tuple(note for note in notes if note)
        return Diagnostic(code, message, place, self.lines[place.line - 1], label, kept)

    def enclosing(self, place: Place) -> Steps:
        """The declaration (a section and a name, or a field of the file) that `place` lies in; () for none."""
        at = (place.line - 1, place.column - 1)
        steps: Steps = ()
        node: Node | None = self.root
        while isinstance(node, MappingNode) and len(steps) < 2:
            inside = [(k, v) for k, v in node.entries if _before(k.start, at) and not _before(v.end, at)]
            if not inside:
                break
            key, node = inside[-1]
            steps = (*steps, str(key.value))
        return steps

    def _nearest(self, steps: Steps) -> tuple[Place, Place]:
        for length in range(len(steps), 0, -1):
            if steps[:length] in self.places:
                return self.places[steps[:length]]
        return self.places[()]


def read_document(path: Path, root: Path | None = None) -> tuple[Document | None, tuple[Diagnostic, ...]]:
    """The document at `path` and what is wrong with its YAML. No document: nothing in it can be looked at."""
    file = relative_name(path, root)
    try:
        raw = path.read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror or error}"
        return None, (
            Diagnostic("S056", message, Place(file, 1, 1), None, None, ("check that it is a readable file",)),
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return None, (_not_text(file, raw, error),)
    return parse_document(file, text)


def parse_document(file: str, text: str) -> tuple[Document | None, tuple[Diagnostic, ...]]:
    """As `read_document`, from text in memory."""
    lines = tuple(split_lines(text))
    tree = parse(text)
    found = [_diagnostic(file, lines, problem) for problem in tree.problems]
    if tree.root is None and not found:
        note = "a branch file needs at least 'branch:' and 'owner:'; `star-platform init` writes an example"
        found.append(Diagnostic("S002", "the file is empty", Place(file, 1, 1), lines[0], None, (note,)))
    if isinstance(tree.root, MappingNode):
        places = dict(_places(file, lines, tree.root))
        return Document(file, text, tree.root, lines, places), tuple(found)
    if tree.root is not None and not found:
        what = "a list" if isinstance(tree.root, SequenceNode) else "text"
        start = tree.root.start
        message = f"the file holds {what}, not fields"
        length = len(lines[start.line].rstrip()) - start.column
        found.append(_diagnostic(file, lines, Problem("S006", message, start, length, "write fields: 'branch: name'")))
    return None, tuple(found)


def relative_name(path: Path, root: Path | None) -> str:
    """`path` as it is shown: relative to `root` when it lies there, with `/`."""
    if root is not None:
        try:
            return path.resolve().relative_to(root.resolve()).as_posix()
        except ValueError:
            pass
    return path.as_posix()


def _diagnostic(file: str, lines: tuple[str, ...], problem: Problem) -> Diagnostic:
    start = problem.start
    column = min(start.column, max(0, len(lines[start.line]) - 1))  # a line end has no column of its own
    length = max(1, min(problem.length, len(lines[start.line]) - column))
    place = Place(file, start.line + 1, column + 1, length)
    return Diagnostic(problem.code, problem.message, place, lines[start.line], problem.label, problem.notes)


def _not_text(file: str, raw: bytes, error: UnicodeDecodeError) -> Diagnostic:
    before = raw[: error.start].decode("utf-8", "replace")
    lines = split_lines(before)
    shown = split_lines(raw.decode("utf-8", "replace"))
    column = len(lines[-1]) + 1
    if raw.startswith(b"\xef\xbb\xbf") and len(lines) == 1:
        column -= 1
    place = Place(file, len(lines), max(1, column))
    notes = ("save the file as UTF-8",)
    message = f"the file is not UTF-8 text: byte 0x{raw[error.start]:02x}"
    return Diagnostic("S001", message, place, shown[len(lines) - 1].lstrip("\ufeff"), "this byte", notes)


def _places(file: str, lines: tuple[str, ...], root: Node) -> Iterator[tuple[Steps, tuple[Place, Place]]]:
    whole = _span(file, lines, root)
    yield (), (whole, whole)
    pending: list[tuple[Steps, Node]] = [((), root)]
    while pending:
        steps, node = pending.pop()
        if isinstance(node, MappingNode):
            for key, value in node.entries:
                here = (*steps, str(key.value))
                place = _span(file, lines, key)
                yield here, (place, place if _is_empty(value) else _span(file, lines, value))
                pending.append((here, value))
        elif isinstance(node, SequenceNode):
            for index, item in enumerate(node.items):
                place = _span(file, lines, item)
                yield (*steps, index), (place, place)
                pending.append(((*steps, index), item))


def _before(mark: Mark, at: tuple[int, int]) -> bool:
    return (mark.line, mark.column) <= at


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.start == node.end


def _span(file: str, lines: tuple[str, ...], node: Node) -> Place:
    start: Mark = node.start
    end = node.end.column if node.end.line == start.line else len(lines[start.line].rstrip())
    if isinstance(node, MappingNode) and node.entries and not node.flow:
        key = node.entries[0][0]
        end = key.end.column if key.end.line == start.line else end
    column = min(start.column, max(0, len(lines[start.line]) - 1))
    return Place(file, start.line + 1, column + 1, max(1, end - column))
