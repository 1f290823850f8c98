"""Where two JSON values differ, as JSON pointers (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Path = tuple[str, ...]


class Difference(NamedTuple):
    """One leaf that is not the same; None stands for "absent" too. Lists are leaves: their order means something."""

    path: Path
    old: Any
    new: Any

    @property
    def pointer(self) -> str:
        return pointer(self.path)


def pointer(path: Path) -> str:
    """`("a/b", "c")` as `/a~1b/c`."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in path)


def differences(old: Any, new: Any, path: Path = ()) -> Iterator[Difference]:
    """Every leaf that differs, in the order of sorted keys."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key), new.get(key), (*path, str(key)))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield Difference(path, old, new)
