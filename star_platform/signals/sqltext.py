"""A conservative look at SQL text, without a SQL parser: the engine looks again with one before it runs anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"(?P<skip>--[^\n]*|/\*.*?\*/|\s+)"
    r"|(?P<string>'(?:[^']|'')*')"
    r'|(?P<quoted>"(?:[^"]|"")*")'
    r"|(?P<variable>\$\{[^}]*\})"
    r"|(?P<word>[A-Za-z_\u0080-\uffff][\w$]*)"
    r"|(?P<number>[0-9][\w.]*)"
    r"|(?P<other>.)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is word, quoted, string, number, variable or other; `text` has no quotes."""

    kind: str
    text: str
    start: int


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of `sql` without space and comments."""
    for match in _TOKEN.finditer(sql):
        kind = str(match.lastgroup)
        if kind != "skip":
            text = match.group()
            yield Token(kind, text[1:-1].replace('""', '"') if kind == "quoted" else text, match.start())


def identifiers(sql: str) -> list[Token]:
    """Everything in `sql` that may name a column or a table."""
    return [token for token in tokens(sql) if token.kind in ("word", "quoted")]


def flaw(sql: str) -> str | None:
    """What keeps `sql` from being one expression or query, or None."""
    opened: list[str] = []
    pairs = {")": "(", "]": "[", "}": "{"}
    for token in tokens(sql):
        if token.kind != "other":
            continue
        if sql.startswith("/*", token.start):
            return "the comment /* never ends"
        if token.text in "'\"":
            return f"the quote {token.text} never closes"
        if token.text == ";":
            return "a ';' cannot stand in it: one expression or query, nothing after it"
        if token.text in "([{":
            opened.append(token.text)
        elif token.text in pairs and (not opened or opened.pop() != pairs[token.text]):
            return f"a '{token.text}' closes what nothing opened"
    return f"a '{opened[-1]}' never closes" if opened else None


def tables(sql: str) -> set[str]:
    """The names that follow FROM, JOIN or a comma of a FROM list, without those that WITH defines."""
    found: set[str] = set()
    defined: set[str] = set()
    items = list(tokens(sql))
    expects = False
    in_from = False
    for position, token in enumerate(items):
        word = token.text.lower() if token.kind == "word" else ""
        if word in ("from", "join"):
            expects = in_from = True
        elif word in (
            "where",
            "group",
            "order",
            "select",
            "having",
            "limit",
            "union",
            "on",
            "using",
            "window",
            "qualify",
        ):
            expects = in_from = False
        elif expects and token.kind in ("word", "quoted"):
            if not _opens(items, position + 1):
                found.add(token.text)
            expects = False
        elif token.text == "," and in_from:
            expects = True
        if token.kind in ("word", "quoted") and _defines(items, position):
            defined.add(token.text)
    return found - defined


def _opens(items: list[Token], position: int) -> bool:
    return position < len(items) and items[position].text == "("


def _defines(items: list[Token], position: int) -> bool:
    after = [item.text.lower() for item in items[position + 1 : position + 4]]
    return after[:2] == ["as", "("] or after == ["as", "materialized", "("]
