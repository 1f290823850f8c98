"""The one tree of errors.

    StarError                 code, message, hint, place, exit code
     ├─ UsageError            U0xx  64  the command line or star.yaml is wrong
     ├─ SignalErrors          S0xx   1  one or more branch files are wrong (carries every diagnostic)
     ├─ MergeConflict         P0xx   3  branches contradict each other (carries every conflict)
     ├─ PlanError             P0xx   1  a merged spec cannot be planned
     ├─ RegistryError         R0xx   1  the registry cannot be read or written
     │   ├─ LeaseHeld         R0xx   6  somebody else is releasing
     │   └─ BaseMoved         R0xx   6  the release that a plan was made against is no longer the latest
     ├─ GraphError            G0xx   1  data cannot be compiled, or a compiled graph cannot be opened
     ├─ TextError             T0xx   1  a text encoder cannot be loaded or its cache is damaged
     ├─ TrainingError         M0xx   1  a model cannot be trained or restored
     ├─ GateFailed            E/C0xx 4  a measured quality is below its gate
     ├─ CompatError           C0xx   1  a compat transform cannot be fitted, composed or judged
     ├─ PublishError          F0xx   1  Feast does not hold what the artefact holds
     ├─ LifecycleError        L0xx   1  a release cannot be deprecated, retired or purged
     │   └─ BlockedByConsumers L0xx  5  somebody still reads the release and cannot be served otherwise
     ├─ ArtefactError         A0xx   1  a stored artefact does not match its manifest
     └─ DependencyMissing     D0xx   1  an optional package is not installed

Codes are stable and never reused; `star-platform explain CODE` prints the page of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What a verb returns to the shell (DESIGN 4.8); frozen by a test."""

    OK = 0
    FAILURE = 1
    CHANGES_PENDING = 2
    MERGE_CONFLICT = 3
    GATE_FAILED = 4
    BLOCKED_BY_CONSUMERS = 5
    RETRY = 6
    USAGE = 64


@dataclass(frozen=True, slots=True)
class Place:
    """A span on one line of a file; `line` and `column` count from 1."""

    file: str
    line: int
    column: int
    length: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong in a file: what, where, why, and what to do next."""

    code: str
    message: str
    place: Place | None = None
    source_line: str | None = None
    label: str | None = None
    """Short text printed after the carets, such as ``did you mean 'group'?``."""
    notes: tuple[str, ...] = ()
    """Further lines: known names, the next step."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two branches that contradict each other, or a merged graph that does not hold together."""

    type: str
    path: str
    ours: Place | None
    theirs: Place | None
    message: str
    hint: str


class StarError(Exception):
    """Root of every error that the platform raises on purpose."""

    exit_code: ExitCode = ExitCode.FAILURE

    def __init__(
        self, code: str, message: str, *, hint: str | None = None, place: Place | None = None, **details: Any
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.place = place
        self.details = details

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class UsageError(StarError):
    """The command line or the project file is wrong."""

    exit_code = ExitCode.USAGE


class SignalErrors(StarError):
    """Every diagnostic of every branch file, raised together."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        first = self.diagnostics[0]
        more = f" and {len(self.diagnostics) - 1} more" if len(self.diagnostics) > 1 else ""
        super().__init__(first.code, f"{first.message}{more}", place=first.place)


class MergeConflict(StarError):
    """Branches that cannot be merged into one graph."""

    exit_code = ExitCode.MERGE_CONFLICT

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        first = self.conflicts[0]
        count = len(self.conflicts)
        super().__init__(
            "P001", f"{count} merge conflict{'s' if count > 1 else ''}; the first: {first.message}", hint=first.hint
        )


class PlanError(StarError):
    """A merged spec that cannot be planned."""


class RegistryError(StarError):
    """The registry cannot be read or written."""


class LeaseHeld(RegistryError):
    """Somebody else holds the lease that this work needs; trying later is safe."""

    exit_code = ExitCode.RETRY


class BaseMoved(RegistryError):
    """The release that a plan was made against is no longer the latest; planning again is safe."""

    exit_code = ExitCode.RETRY


class GraphError(StarError):
    """Data cannot be compiled, or a compiled graph cannot be opened."""


class TextError(StarError):
    """A text encoder cannot be loaded, or its cache is damaged."""


class TrainingError(StarError):
    """A model cannot be trained or restored."""


class GateFailed(StarError):
    """A measured quality is below its gate."""

    exit_code = ExitCode.GATE_FAILED


class CompatError(StarError):
    """A compat transform cannot be fitted, composed, read or judged."""


class PublishError(StarError):
    """Feast does not hold what the artefact holds."""


class LifecycleError(StarError):
    """A step in the life of a release that cannot be taken."""


class BlockedByConsumers(LifecycleError):
    """Somebody still reads the release and cannot be served in another way; `details["readers"]` has them."""

    exit_code = ExitCode.BLOCKED_BY_CONSUMERS


class ArtefactError(StarError):
    """A stored artefact is missing, incomplete, or differs from its manifest."""


class DependencyMissing(StarError):
    """An optional package is not installed; the hint names the extra."""


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """What `star-platform explain CODE` prints; each room lists its own in `error_pages.py`."""

    title: str
    explanation: str
    example: str = ""
    fix: str = ""
