"""Branch files to typed branches, or every error of every file at once (DESIGN 4.1)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from star_platform.errors import Diagnostic, Place
from star_platform.signals.model import Branch

Steps = tuple[str | int, ...]
"""The way from the top of a file to a value: keys and list positions."""


@dataclass(frozen=True)
class LoadedBranch:
    """A valid branch, its text, and where every value of it stands."""

    branch: Branch
    file: str
    """Relative to the project folder, with `/`."""
    source: str
    places: Mapping[Steps, tuple[Place, Place]] = field(repr=False)
    """Of the key and of the value, by the steps to it."""

    def place(self, *steps: str | int) -> Place:
        """Where the declaration at `steps` stands: its key (list items: the item); the nearest parent's if absent."""
        raise NotImplementedError

    def value_place(self, *steps: str | int) -> Place:
        """Where the value at `steps` stands, or the nearest parent's."""
        raise NotImplementedError


def load_branches(
    folder: Path,
    *,
    root: Path | None = None,
    variables: Mapping[str, str] | None = None,
    connections: Collection[str] | None = None,
) -> tuple[LoadedBranch, ...]:
    """Every branch file of `folder`, sorted by file name.

    `variables` and `connections` are those of star.yaml; what they lack is an error unless they are None.
    Raises SignalErrors with every diagnostic of every file, those across files included.
    """
    raise NotImplementedError


def load_branch(
    path: Path,
    *,
    root: Path | None = None,
    variables: Mapping[str, str] | None = None,
    connections: Collection[str] | None = None,
) -> LoadedBranch:
    """One branch file on its own: whatever needs other branches is not checked. Raises SignalErrors."""
    raise NotImplementedError


def read_branches(
    folder: Path,
    *,
    root: Path | None = None,
    variables: Mapping[str, str] | None = None,
    connections: Collection[str] | None = None,
) -> tuple[tuple[LoadedBranch, ...], tuple[Diagnostic, ...]]:
    """As `load_branches`, but hands the diagnostics out instead of raising them."""
    raise NotImplementedError
