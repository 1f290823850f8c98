"""Rules about what must not be used."""

from __future__ import annotations

from collections.abc import Iterator

from star_platform.errors import Diagnostic
from star_platform.signals.locate import Steps
from star_platform.signals.rules_references import part_place
from star_platform.signals.sqltext import identifiers
from star_platform.signals.suggest import known
from star_platform.signals.world import Draft, World, columns_used, sql_texts


def denied_columns(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """No declaration names a column that this file or a ready one denies. SQL names are compared without case."""
    denied = {
        column.lower(): other
        for other in world.drafts
        if other is draft or other.ready
        for column in other.branch.privacy.deny_columns
    }
    document = draft.document
    for use in columns_used(draft.branch):
        other = denied.get(use.column.lower())
        if other is not None:
            what = f"{'.'.join(map(str, use.steps[:2]))} reads column '{use.column}'"
            place = document.value_place(*use.steps)
            yield document.diagnostic("S044", f"{what}, which must not be read", place, *_why(other, use.column))
    for text, steps in sql_texts(draft.branch):
        for column in dict.fromkeys(token.text for token in identifiers(text) if token.text.lower() in denied):
            place = part_place(draft, document.value_place(*steps), column)
            message = f"the SQL of {_owner(steps)} names column '{column}', which must not be read"
            yield document.diagnostic("S045", message, place, *_why(denied[column.lower()], column))


def _owner(steps: Steps) -> str:
    return ".".join(map(str, steps[:2]))


def _why(other: Draft, column: str) -> tuple[str, str]:
    columns = other.branch.privacy.deny_columns
    index = next(i for i, item in enumerate(columns) if item.lower() == column.lower())
    place = other.document.place("privacy", "deny_columns", index)
    return (f"denied by branch '{other.branch.branch}'", f"denied in {place}; its owner is {other.branch.owner}")


def opt_outs(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """The node type of an opt-out is named, or follows from its key column."""
    opt_out = draft.branch.privacy.opt_out
    if opt_out is None or opt_out.node is not None or any(item.broken for item in world.drafts):
        return
    keys = {name: node.key for other in world.visible(draft) for name, node in other.branch.nodes.items() if node.key}
    matches = sorted(name for name, key in keys.items() if key == opt_out.key)
    place = draft.document.value_place("privacy", "opt_out", "key")
    if not matches and world.complete:
        yield draft.document.diagnostic(
            "S047",
            f"no node type has the key '{opt_out.key}', so it is not clear who opts out",
            place,
            "add 'node: <node type>'",
            known("nodes", keys),
        )
    if len(matches) > 1:
        yield draft.document.diagnostic(
            "S048",
            f"{len(matches)} node types have the key '{opt_out.key}', so it is not clear who opts out",
            place,
            f"add 'node: {matches[0]}', or another of them",
            known("nodes with that key", matches),
        )


RULES = (denied_columns, opt_outs)
