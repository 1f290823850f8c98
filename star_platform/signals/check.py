"""Everything about branches that a schema cannot say, in one file and across files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from star_platform.errors import Diagnostic
from star_platform.signals import rules_local, rules_privacy, rules_references
from star_platform.signals.world import Context, Draft, World

__all__ = ["Context", "Draft", "check"]

LOCAL: tuple[Callable[[Draft], Iterator[Diagnostic]], ...] = rules_local.RULES
ACROSS: tuple[Callable[[Draft, World], Iterator[Diagnostic]], ...] = (*rules_references.RULES, *rules_privacy.RULES)


def check(drafts: Sequence[Draft], context: Context) -> list[Diagnostic]:
    """What every rule finds in every file."""
    world = World(drafts, context)
    alone = [found for draft in drafts for rule in LOCAL for found in rule(draft)]
    return alone + [found for draft in drafts for rule in ACROSS for found in rule(draft, world)]
