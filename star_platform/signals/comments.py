"""Where the comments of a file belong, so that they move with what they are about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from star_platform.signals.document import Document
from star_platform.signals.locate import Steps
from star_platform.signals.tree import Lines, MappingNode, Mark, Node, ScalarNode, SequenceNode

_COMMENT = re.compile(r"(?:(?<=\s)|(?<=[\]},\[{])|^)#[^\r\n]*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment from its `#` on."""

    text: str
    at: Mark
    blank_before: bool
    """Whether an empty line stands above it."""


@dataclass
class Notes:
    """Comments by the steps of what they belong to."""

    head: list[Comment] = field(default_factory=list)
    """Above everything, with an empty line below."""
    tail: list[Comment] = field(default_factory=list)
    leading: dict[Steps, list[Comment]] = field(default_factory=dict)
    """On lines of their own above an entry."""
    beside: dict[Steps, Comment] = field(default_factory=dict)
    """At the end of the line of an entry."""
    trailing: dict[Steps, list[Comment]] = field(default_factory=dict)
    """On lines of their own below the last thing inside an entry."""
    blank_before: set[Steps] = field(default_factory=set)

    def inside(self, steps: Steps) -> bool:
        """Whether a comment stands within the value at `steps`."""
        size = len(steps)
        deeper = any(len(key) > size and key[:size] == steps for key in (*self.leading, *self.beside, *self.trailing))
        return deeper or steps in self.trailing


@dataclass(frozen=True, slots=True)
class _Entry:
    steps: Steps
    start: Mark
    """Of the key, or of a list item."""
    head_end: int
    """Where what stands on the line of a block's key ends: after its colon."""
    end: int
    is_block: bool


def attach(document: Document) -> Notes:
    """Every comment of `document`, at the entry it belongs to."""
    entries = sorted(_entries(document.root, ()), key=lambda entry: (entry.start.index, len(entry.steps)))
    notes = Notes()
    for comment in find_comments(document):
        _place(document, notes, entries, comment)
    _blank_lines(document, notes, entries)
    return notes


def _entries(node: Node, steps: Steps) -> Iterator[_Entry]:
    if isinstance(node, MappingNode):
        for key, value in node.entries:
            here = (*steps, str(key.value))
            yield _Entry(here, key.start, key.end.index + 1, max(key.end.index + 1, _end(value)), _is_block(value))
            yield from _entries(value, here)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.items):
            here = (*steps, index)
            yield _Entry(here, item.start, item.start.index, _end(item), _is_block(item))
            yield from _entries(item, here)


def _end(node: Node) -> int:
    """The index after the last character of `node` itself, as block nodes end where the next token starts."""
    if isinstance(node, MappingNode) and not node.flow:
        return max(_end(node.entries[-1][1]), node.entries[-1][0].end.index) if node.entries else node.start.index
    if isinstance(node, SequenceNode) and not node.flow:
        return _end(node.items[-1]) if node.items else node.start.index
    return node.end.index


def _is_block(node: Node) -> bool:
    return isinstance(node, MappingNode | SequenceNode) and not node.flow


def find_comments(document: Document) -> Iterator[Comment]:
    """Comments are what begins with # outside of every scalar."""
    text, lines = list(document.text), Lines(document.text)
    for node in _scalars(document.root):
        for index in range(node.start.index, node.end.index):
            if text[index] not in "\r\n":
                text[index] = "x"
    for match in _COMMENT.finditer("".join(text)):
        at = lines.mark(match.start())
        above = document.lines[at.line - 1] if at.line else "-"
        yield Comment(document.text[match.start() : match.end()].rstrip(), at, not above.strip())


def _scalars(node: Node) -> Iterator[ScalarNode]:
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, MappingNode):
        for key, value in node.entries:
            yield key
            yield from _scalars(value)
    elif isinstance(node, SequenceNode):
        for item in node.items:
            yield from _scalars(item)


def _place(document: Document, notes: Notes, entries: list[_Entry], comment: Comment) -> None:
    line = document.lines[comment.at.line][: comment.at.column]
    before = [entry for entry in entries if entry.start.index < comment.at.index]
    if line.strip(" -\t") and before:
        owner = max(before, key=lambda entry: (_reach(entry, comment.at.index), -len(entry.steps)))
        if owner.steps not in notes.beside:
            notes.beside[owner.steps] = comment
            return
    following = next((entry for entry in entries if entry.start.index > comment.at.index), None)
    if following is None or (before and _deeper(comment, following, before)):
        owner_steps = _container(before, comment)
        (notes.trailing.setdefault(owner_steps, []) if owner_steps else notes.tail).append(comment)
    elif not before and _has_gap(document, comment, following):
        notes.head.append(comment)
    else:
        notes.leading.setdefault(following.steps, []).append(comment)


def _reach(entry: _Entry, index: int) -> int:
    """How far `entry` has got before `index`: to its end, or to the colon of its key while its value is open."""
    return entry.end if entry.end <= index else entry.head_end if entry.head_end <= index else -1


def _deeper(comment: Comment, following: _Entry, before: list[_Entry]) -> bool:
    """Whether a comment is indented more than the next entry, hence about what ends here."""
    return comment.at.column > following.start.column and _container(before, comment) != ()


def _container(before: list[_Entry], comment: Comment) -> Steps:
    """The innermost open block that a comment of this indentation stands in; () for the file."""
    last = before[-1].steps if before else ()
    by_steps = {entry.steps: entry for entry in before}
    for size in range(len(last), 0, -1):
        entry = by_steps.get(last[:size])
        if entry is not None and entry.is_block and entry.start.column < comment.at.column:
            return entry.steps
    return ()


def _has_gap(document: Document, comment: Comment, following: _Entry) -> bool:
    between = document.lines[comment.at.line + 1 : following.start.line]
    return any(not line.strip() for line in between)


def _blank_lines(document: Document, notes: Notes, entries: list[_Entry]) -> None:
    for entry in entries[1:] if notes.head else entries:
        above = entry.start.line - 1
        if above >= 0 and not document.lines[above].strip():
            notes.blank_before.add(entry.steps)
