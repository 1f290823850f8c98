"""The one way to write a branch file: fixed field order, sorted names, two spaces, short mappings on one line.

Formatting never changes meaning: scalars are written as they stand in the file, and every comment stays with what it
stands beside. Running it twice changes nothing more.
"""

from __future__ import annotations

from pathlib import Path

from star_platform.errors import SignalErrors
from star_platform.signals.comments import Comment, Notes, attach
from star_platform.signals.document import Document, parse_document, read_document
from star_platform.signals.locate import Steps
from star_platform.signals.tree import MappingNode, Node, ScalarNode, SequenceNode, split_lines

WIDTH = 120
NAMED = ("sources", "nodes", "edges", "features", "objectives", "cohorts")
"""Sections whose entries are names that an engineer chose: they are sorted."""
_ORDER = (
    *("apiVersion", "branch", "consumer", "owner", "description", "status"),
    *("sources", "nodes", "edges", "features", "objectives", "cohorts", "privacy"),
    *("kind", "path", "table", "connection", "sql", "feast", "feature_repo", "format", "delimiter", "null_values"),
    *("node", "source", "src", "dst", "edge", "key", "column", "columns", "dim", "unknown", "timestamp", "created_at"),
    *("valid_from", "transform", "min_count", "label", "negatives", "weight", "aggregate", "where", "window", "dedupe"),
    *("reverse", "opt_out", "deny_columns", "release"),
)
_RANK = {name: rank for rank, name in enumerate(_ORDER)}


def format_file(path: Path, *, root: Path | None = None, write: bool = True) -> bool:
    """Whether `path` was not canonical; with `write`, it is afterwards. Raises SignalErrors when it is not YAML."""
    document, diagnostics = read_document(path, root)
    if document is None or diagnostics:
        raise SignalErrors(diagnostics)
    formatted = format_document(document)
    changed = formatted.encode() != path.read_bytes()
    if changed and write:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(formatted.encode())
        temporary.replace(path)
    return changed


def format_text(text: str) -> str:
    """The canonical form of the YAML `text`. Raises SignalErrors when it is not YAML."""
    document, diagnostics = parse_document("text", text)
    if document is None or diagnostics:
        raise SignalErrors(diagnostics)
    return format_document(document)


def format_document(document: Document) -> str:
    """The canonical form of `document`."""
    notes = attach(document)
    writer = _Writer(document, notes)
    writer.comments(notes.head, 0)
    if notes.head:
        writer.lines.append("")
    writer.mapping(document.root, (), 0)
    writer.comments(notes.tail, 0)
    return "\n".join(writer.lines) + "\n"


def _sorted(steps: Steps, node: MappingNode) -> list[tuple[ScalarNode, Node]]:
    if len(steps) == 1 and steps[0] in NAMED:
        return sorted(node.entries, key=lambda entry: str(entry[0].value))
    return sorted(node.entries, key=lambda entry: _RANK.get(str(entry[0].value), len(_RANK)))


class _Writer:
    def __init__(self, document: Document, notes: Notes) -> None:
        self.lines: list[str] = []
        self._text, self._notes = document.text, notes

    def comments(self, comments: list[Comment], indent: int) -> None:
        for comment in comments:
            if comment.blank_before and self.lines and self.lines[-1]:
                self.lines.append("")
            self.lines.append(" " * indent + comment.text)

    def mapping(self, node: MappingNode, steps: Steps, indent: int, lead: str = "") -> None:
        """Entries of a block mapping; `lead` is what stands before the first key, such as ``- ``."""
        for position, (key, value) in enumerate(_sorted(steps, node)):
            here = (*steps, str(key.value))
            self._leading(here, indent, first=position == 0)
            prefix = lead if position == 0 and lead else " " * indent
            self._entry(f"{prefix}{self._raw(key)}:", value, here, indent)
            self.comments(self._notes.trailing.get(here, []), indent + 2)

    def _leading(self, here: Steps, indent: int, *, first: bool) -> None:
        comments = self._notes.leading.get(here, [])
        wants_blank = here in self._notes.blank_before or (comments and comments[0].blank_before)
        if wants_blank and not first and self.lines and self.lines[-1]:
            self.lines.append("")
        for position, comment in enumerate(comments):
            if position and comment.blank_before:
                self.lines.append("")
            self.lines.append(" " * indent + comment.text)

    def _entry(self, start: str, value: Node, here: Steps, indent: int) -> None:
        beside = self._notes.beside.get(here)
        tail = f"  {beside.text}" if beside else ""
        short = self._one_line(value, here)
        if short is not None and (
            isinstance(value, ScalarNode) or len(start) + len(short) < WIDTH or not _items(value)
        ):
            self.lines.append(f"{start}{' ' + short if short else ''}{tail}")
        elif isinstance(value, ScalarNode):
            self._long_scalar(start, value, indent, tail)
        else:
            self.lines.append(f"{start}{tail}")
            if isinstance(value, MappingNode):
                self.mapping(value, here, indent + 2)
            elif isinstance(value, SequenceNode):
                self.sequence(value, here, indent + 2)

    def sequence(self, node: SequenceNode, steps: Steps, indent: int) -> None:
        for index, item in enumerate(node.items):
            here = (*steps, index)
            self._leading(here, indent, first=index == 0)
            if isinstance(item, MappingNode) and self._one_line(item, here) is None:
                beside = self._notes.beside.get(here)
                if beside:
                    self.lines.append(" " * (indent + 2) + beside.text)
                self.mapping(item, here, indent + 2, lead=" " * indent + "- ")
            else:
                self._entry(" " * indent + "-", item, here, indent)
            self.comments(self._notes.trailing.get(here, []), indent + 2)

    # --- values on one line -------------------------------------------------------------------------------------------

    def _one_line(self, node: Node, steps: Steps) -> str | None:
        """`node` as flow text, or None when it is a block in the file or holds comments or long text."""
        if isinstance(node, ScalarNode):
            return None if node.start.line != node.end.line else self._raw(node)
        if not _items(node):
            return "{}" if isinstance(node, MappingNode) else "[]"
        if not getattr(node, "flow", False) or self._notes.inside(steps):
            return None
        parts: list[str] = []
        if isinstance(node, SequenceNode):
            for index, item in enumerate(node.items):
                part = self._one_line(item, (*steps, index))
                if part is None:
                    return None
                parts.append(part)
            return f"[{', '.join(parts)}]"
        assert isinstance(node, MappingNode)  # noqa: S101 - the last of the three kinds
        for key, value in _sorted(steps, node):
            part = self._one_line(value, (*steps, str(key.value)))
            if part is None:
                return None
            parts.append(f"{self._raw(key)}: {part or 'null'}")
        return f"{{{', '.join(parts)}}}"

    def _raw(self, node: ScalarNode) -> str:
        return self._text[node.start.index : node.end.index].rstrip("\r\n")

    # --- scalars of several lines -------------------------------------------------------------------------------------

    def _long_scalar(self, start: str, node: ScalarNode, indent: int, tail: str) -> None:
        raw = split_lines(self._text[node.start.index : node.end.index])
        inner = " " * (indent + 2)
        if node.style in ("|", ">"):
            self._block_scalar(start, raw, node, indent)
            return
        # Folding drops the space around line breaks, so the lines of plain and quoted text may move as they like.
        self.lines.append(f"{start} {raw[0].rstrip()}")
        self.lines += [(inner + line.strip(" \t")) if line.strip(" \t") else "" for line in raw[1:]]
        self.lines[-1] += tail

    def _block_scalar(self, start: str, raw: list[str], node: ScalarNode, indent: int) -> None:
        header, body = raw[0].rstrip(), raw[1:]
        while body and not body[-1].strip():
            body.pop()
        if any(char.isdigit() for char in header.partition("#")[0]) or "+" in header or not body:
            self.lines.append(f"{start} {_quoted(str(node.value))}")
            return
        depth = min(len(line) - len(line.lstrip(" ")) for line in body if line.strip(" "))
        self.lines.append(f"{start} {header}")
        self.lines += [(" " * (indent + 2) + line[depth:]) if line.strip(" ") else "" for line in body]


def _items(node: Node) -> int:
    if isinstance(node, MappingNode):
        return len(node.entries)
    return len(node.items) if isinstance(node, SequenceNode) else 1


def _quoted(text: str) -> str:
    """`text` in double quotes; JSON's escapes are YAML's too."""
    import json

    return json.dumps(text, ensure_ascii=False)
