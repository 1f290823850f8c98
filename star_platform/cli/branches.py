"""The verbs for branch files: validate, fmt, explain."""

from __future__ import annotations

import sys
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import note, plural, say, say_json, wants_colour
from star_platform.errors import Diagnostic, ExitCode, SignalErrors, UsageError

if TYPE_CHECKING:
    from star_platform.project import ProjectFile
    from star_platform.signals.load import LoadedBranch

Files = Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Only these; all when absent.")]


def validate(files: Files = None, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Check star.yaml, every branch file and every consumer file; print every error of all of them.

    Example: star-platform validate signal_branches/recruiter-inmail.yaml
    """
    from star_platform.project import find_project
    from star_platform.signals.consumers import read_consumers
    from star_platform.signals.load import read_branches

    root = find_project(project)
    settings, wrong = _settings(root)
    folder = root / (settings.branches if settings else "signal_branches")
    variables = settings.variables if settings else None
    connections = settings.connections if settings else None
    loaded, found = read_branches(folder, root=root, variables=variables, connections=connections)
    consumers, refused = read_consumers(
        root / (settings.consumers if settings else "consumers"),
        root=root,
        nodes={name for item in loaded for name in item.branch.nodes} if not found else None,
    )
    diagnostics = _of_files((*wrong, *found, *refused), files, root)
    if diagnostics:
        raise SignalErrors(diagnostics)
    _valid(loaded, len(consumers), folder, as_json=as_json)


def _settings(root: Path) -> tuple[ProjectFile | None, tuple[Diagnostic, ...]]:
    """The project file, or what is wrong with it: branches are looked at all the same."""
    from star_platform.project import read_project_file

    try:
        return read_project_file(root), ()
    except SignalErrors as error:
        return None, error.diagnostics


def _of_files(diagnostics: tuple[Diagnostic, ...], files: list[Path] | None, root: Path) -> tuple[Diagnostic, ...]:
    if not files:
        return diagnostics
    from star_platform.signals.document import relative_name

    _must_exist(files)
    wanted = {relative_name(path, root) for path in files}
    return tuple(item for item in diagnostics if item.place is None or item.place.file in wanted)


def _must_exist(files: list[Path]) -> None:
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise UsageError("U011", f"no such file: {', '.join(missing)}", hint="give the paths of branch files")


def _valid(loaded: tuple[LoadedBranch, ...], consumers: int, folder: Path, *, as_json: bool) -> None:
    branches: list[dict[str, Any]] = [
        {
            "branch": item.branch.branch,
            "file": item.file,
            "owner": item.branch.owner,
            "status": item.branch.status,
            "signals": _signals(item),
        }
        for item in loaded
    ]
    if as_json:
        say_json({"ok": True, "errors": [], "branches": branches, "consumers": consumers})
        return
    if not branches:
        say(f"no branch files in {folder}")
        note("Next: star-platform init writes a first one")
        return
    ready = sum(branch["status"] == "ready" for branch in branches)
    drafts = len(branches) - ready
    signals = sum(branch["signals"] for branch in branches)
    parts = [plural(ready, "ready branch"), *([plural(drafts, "draft")] if drafts else []), plural(signals, "signal")]
    say(f"valid: {', '.join(parts)}" + (f", {plural(consumers, 'consumer')}" if consumers else ""))
    note("Next: star-platform plan" if ready else "Next: set 'status: ready' in a branch, then star-platform plan")


def _signals(item: LoadedBranch) -> int:
    branch = item.branch
    named: tuple[Sized, ...] = (branch.nodes, branch.edges, branch.features, branch.objectives, branch.cohorts)
    return sum(len(section) for section in named) + (branch.privacy.opt_out is not None)


def fmt(
    files: Files = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if a file would change.")] = False,
    project: ProjectOption = None,
) -> None:
    """Write branch files in the one canonical form: fixed field order, sorted names, comments kept.

    Example: star-platform fmt --check
    """
    from star_platform.project import find_project
    from star_platform.signals.document import relative_name
    from star_platform.signals.fmt import format_file
    from star_platform.signals.load import branch_files

    root = None
    if files:
        _must_exist(files)
    else:
        root = find_project(project)
        settings, _ = _settings(root)
        files = list(branch_files(root / (settings.branches if settings else "signal_branches")))
    diagnostics: list[Diagnostic] = []
    changed = []
    for path in files:
        try:
            if format_file(path, root=root, write=not check):
                changed.append(relative_name(path, root))
        except SignalErrors as error:
            diagnostics += error.diagnostics
    for name in changed:
        say(f"{'would change' if check else 'formatted'} {name}")
    if diagnostics:
        raise SignalErrors(diagnostics)
    note(f"{plural(len(changed), 'file')} changed, {plural(len(files) - len(changed), 'file')} already canonical")
    if check and changed:
        note("Next: star-platform fmt")
        raise typer.Exit(ExitCode.FAILURE)


def explain(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="Such as S014; all codes when absent.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What an error code means, with a wrong example and the fix.

    Example: star-platform explain S014
    """
    from star_platform.cli.explain import all_pages, page_text
    from star_platform.signals.suggest import did_you_mean

    pages = all_pages()
    if code is None:
        if as_json:
            say_json({"codes": {name: page.title for name, page in pages.items()}})
        else:
            say("\n".join(f"{name}  {page.title}" for name, page in pages.items()))
        return
    name = code.upper()
    if name not in pages:
        near = did_you_mean(name, pages)
        raise UsageError("U010", f"no error has the code '{code}'", hint=near or "`star-platform explain` lists all")
    page = pages[name]
    if as_json:
        fields = {"title": page.title, "explanation": page.explanation, "example": page.example, "fix": page.fix}
        say_json({"code": name, **fields})
    else:
        say(page_text(name, page, colour=wants_colour(sys.stdout)))
