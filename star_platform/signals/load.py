"""Branch files to typed branches, or every error of every file at once (DESIGN 4.1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from star_platform.errors import Diagnostic, Place, SignalErrors
from star_platform.signals.check import Context, Draft, check
from star_platform.signals.document import Document, read_document, relative_name
from star_platform.signals.locate import Steps
from star_platform.signals.model import SOURCE_KINDS, Branch
from star_platform.signals.shape import ShapeError, validate
from star_platform.signals.tree import MappingNode, plain

Model = TypeVar("Model", bound=BaseModel)
SECTIONS = ("sources", "nodes", "edges", "features", "objectives", "cohorts", "privacy")
SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class LoadedBranch:
    """A valid branch, its text, and where every value of it stands."""

    branch: Branch
    file: str
    """Relative to the project folder, with `/`."""
    source: str
    places: Mapping[Steps, tuple[Place, Place]] = field(repr=False)
    """Of the key and of the value, by the steps to it."""
    document: Document = field(repr=False, compare=False)

    def place(self, *steps: str | int) -> Place:
        """Where the declaration at `steps` stands: its key (list items: the item); the nearest parent's if absent."""
        return self.document.place(*steps)

    def value_place(self, *steps: str | int) -> Place:
        """Where the value at `steps` stands; where that is a block or absent, the nearest key above it."""
        return self.document.value_place(*steps)


def branch_files(folder: Path) -> tuple[Path, ...]:
    """The branch files directly in `folder`, by name."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(".")))


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
    loaded, diagnostics = read_branches(folder, root=root, variables=variables, connections=connections)
    if diagnostics:
        raise SignalErrors(diagnostics)
    return loaded


def load_branch(
    path: Path,
    *,
    root: Path | None = None,
    variables: Mapping[str, str] | None = None,
    connections: Collection[str] | None = None,
) -> LoadedBranch:
    """One branch file on its own: whatever needs other branches is not checked. Raises SignalErrors."""
    loaded, diagnostics = _read((path,), root, Context(variables, connections, alone=True))
    if diagnostics:
        raise SignalErrors(diagnostics)
    return loaded[0]


def read_branches(
    folder: Path,
    *,
    root: Path | None = None,
    variables: Mapping[str, str] | None = None,
    connections: Collection[str] | None = None,
) -> tuple[tuple[LoadedBranch, ...], tuple[Diagnostic, ...]]:
    """As `load_branches`, but hands the diagnostics out instead of raising them."""
    root = root if root is not None else folder.parent
    return _read(branch_files(folder), root, Context(variables, connections))


def load_model(
    path: Path,
    model: type[Model],
    *,
    root: Path | None = None,
    transform: Callable[[Any], Any] | None = None,
    noun: str | None = None,
) -> Model:
    """Any other YAML file as `model`, with the same errors; `transform` sees the plain data (lists, dicts) first."""
    document, diagnostics = read_document(path, root)
    if document is None:
        raise SignalErrors(diagnostics)
    data = plain(document.root, list) if transform else plain(document.root)
    value, errors = validate(document, model, transform(data) if transform else data, noun or relative_name(path, root))
    found = (*diagnostics, *(error.diagnostic for error in errors))
    if found or value is None:
        raise SignalErrors(found)
    return value


def _read(
    paths: Collection[Path], root: Path | None, context: Context
) -> tuple[tuple[LoadedBranch, ...], tuple[Diagnostic, ...]]:
    diagnostics: list[Diagnostic] = []
    drafts: list[Draft] = []
    unread: list[str] = []
    for path in paths:
        document, found = read_document(path, root)
        diagnostics += found
        if document is None:
            unread.append(relative_name(path, root))
            continue
        draft, errors = _validate(document, found)
        diagnostics += errors
        drafts.append(draft)
    diagnostics += check(drafts, context.without(unread))
    loaded = tuple(
        LoadedBranch(draft.branch, draft.document.file, draft.document.text, draft.document.places, draft.document)
        for draft in drafts
    )
    return loaded, _ordered(diagnostics)


def _ordered(diagnostics: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    def key(item: Diagnostic) -> tuple[str, int, int, str, str]:
        place = item.place or Place("", 0, 0)
        return (place.file, place.line, place.column, item.code, item.message)

    return tuple(sorted(dict.fromkeys(diagnostics), key=key))


def _validate(document: Document, found: Collection[Diagnostic]) -> tuple[Draft, list[Diagnostic]]:
    """The branch of `document`; the parts that are wrong are left out, so that the rest can be checked too."""
    data = plain(document.root)
    branch, errors = validate(document, Branch, data)
    spoiled = _spoiled(document, found)
    if branch is not None and not spoiled and not _second_kinds(document):
        return Draft(document, branch), []
    doubtful = spoiled | {steps[:2] for steps in _second_kinds(document)}
    errors = [error for error in errors if not _concerns(error, doubtful)]
    diagnostics = [error.diagnostic for error in errors] + list(_two_kinds(document))
    broken = {error.steps[:2] for error in errors} | doubtful
    wrong = frozenset({error.steps for error in errors} | spoiled)
    return Draft(document, _salvage(data, broken), frozenset(broken), wrong), diagnostics


def _spoiled(document: Document, found: Collection[Diagnostic]) -> set[Steps]:
    """Declarations whose YAML could not be read as it stands: what else is wrong with them would mislead."""
    places = [item.place for item in found if item.code in ("S008", "S009") and item.place is not None]
    return {document.enclosing(place) for place in places} - {()}


def _concerns(error: ShapeError, doubtful: set[Steps]) -> bool:
    return any(error.steps[: len(steps)] == steps for steps in doubtful)


def _salvage(data: dict[str, Any], broken: Collection[Steps]) -> Branch:
    """The branch without its broken parts; names that it must have get stand-ins."""
    kept = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    for steps in broken:
        if len(steps) == 2 and steps[0] in SECTIONS and isinstance(kept.get(str(steps[0])), dict):
            kept[str(steps[0])].pop(steps[1], None)
        elif steps:
            kept.pop(str(steps[0]), None)
    kept.setdefault("branch", "unnamed")
    kept.setdefault("owner", "unknown")
    try:
        return Branch.model_validate(kept)
    except ValidationError:
        return Branch(branch="unnamed", owner="unknown")


def _second_kinds(document: Document) -> list[Steps]:
    """The keys of a source that name a second kind of source."""
    sources = document.root.get("sources")
    entries = sources.entries if isinstance(sources, MappingNode) else ()
    return [
        ("sources", str(name.value), key)
        for name, node in entries
        if isinstance(node, MappingNode)
        for key in [str(key.value) for key, _ in node.entries if key.value in SOURCE_KINDS][1:]
    ]


def _two_kinds(document: Document) -> list[Diagnostic]:
    return [
        document.diagnostic(
            "S020",
            f"source '{steps[1]}' says twice where its rows come from",
            document.place(*steps),
            "a source has one of path, table, sql and feast",
            "make two sources of it, or delete one of the fields",
        )
        for steps in _second_kinds(document)
    ]
