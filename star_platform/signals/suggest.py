"""Names that a reader may have meant."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 12


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """``did you mean 'group'?`` for the nearest known name, or None where none is near."""
    import difflib

    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if not near:
        near = [option for option in options if option.startswith(name) or name.startswith(option)][:1]
    if not near:
        lowered = {option.lower(): option for option in options}
        near = [lowered[match] for match in difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)]
    return f"did you mean '{near[0]}'?" if near else None


def known(what: str, names: Iterable[str]) -> str:
    """``known nodes: job, member``, cut where the list is long."""
    options = sorted(set(names))
    if not options:
        return f"known {what}: none"
    rest = len(options) - _SHOWN
    return f"known {what}: {', '.join(options[:_SHOWN])}" + (f" and {rest} more" if rest > 0 else "")


def listed(names: Iterable[str], joiner: str = "or") -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    items = list(names)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {joiner} {items[-1]}"
