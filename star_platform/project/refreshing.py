"""A refresh of the active release, wired."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from star_platform.errors import RegistryError
from star_platform.progress import Progress

if TYPE_CHECKING:
    from star_platform.project.project import Project
    from star_platform.registry.values import Release
    from star_platform.release.model import ReleaseRequest
    from star_platform.release.refresh import Refreshed, RefreshWish


def refresh_active(
    project: Project, wish: RefreshWish, agreed: Callable[[Refreshed], bool], reason: str, progress: Progress
) -> Refreshed:
    """`release.refresh.refresh` of the active release, under the release lease.

    Raises:
        LeaseHeld: R006 somebody is releasing or refreshing; nothing was written.
        RegistryError: R022 no release is active, R030 what is declared is not what the release was made of.
    """
    from star_platform.release import LEASE
    from star_platform.release.model import Run
    from star_platform.release.recompile import check_same
    from star_platform.release.refresh import refresh

    if project.active_number() is None:
        raise RegistryError("R022", "no release is active yet", hint="run `star-platform release`")
    with project.registry.lease(LEASE) as lease:
        active = project.find_release("latest")
        request = replace(_request(project, active), reason=reason)
        check_same(request.plan)
        with closing(project.engine(request.spec.deny_columns)) as engine:
            run = Run(project.workshop(engine, progress), request, active.number, lease)
            return refresh(run, wish, project.published()[active.number], agreed)


def _request(project: Project, active: Release) -> ReleaseRequest:
    """What a release of the active release's branches would be made of today."""
    names = [revision.branch for revision in project.registry.branches(active.number)]
    there = {item.branch.branch for item in project.branches()}
    missing = sorted(set(names) - there)
    if missing:
        raise RegistryError(
            "R030",
            f"{active.name} was made of branches that are gone: {', '.join(missing)}",
            hint="bring their files back, or run `star-platform release`",
        )
    return project.plan(names)
