"""One project: what its star.yaml names, wired together. The only place that wires things.

Everything heavy is imported inside what opens it: `validate` opens a project too.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.errors import UsageError
from star_platform.progress import SILENT, Progress
from star_platform.project.file import ProjectFile, find_project, read_project_file

if TYPE_CHECKING:
    from star_platform.graph.engine import Engine
    from star_platform.lifecycle.service import Lifecycle
    from star_platform.planning.base import BaseRelease
    from star_platform.planning.spec import GraphSpec
    from star_platform.project.serving import Serving
    from star_platform.publishing.model import FeastState, PublishedRelease
    from star_platform.publishing.publish import Publisher
    from star_platform.publishing.read import Fetched, Reader
    from star_platform.registry.artefacts import ArtefactStore
    from star_platform.registry.registry import Registry
    from star_platform.registry.values import BranchRevision, Consumer, Release
    from star_platform.release import ReleaseRequest, Workshop
    from star_platform.release.refresh import Refreshed, RefreshWish
    from star_platform.signals.load import LoadedBranch
    from star_platform.text.encoder import TextEncoder


class Project:
    """One project: its file, and everything that star.yaml names, opened when first asked for."""

    def __init__(self, root: Path, file: ProjectFile) -> None:
        self.root = root
        self.file = file

    @classmethod
    def open(cls, start: Path | None = None) -> Project:
        """The project at or above `start` (the current folder)."""
        root = find_project(start)
        return cls(root, read_project_file(root))

    # --- what engineers wrote -----------------------------------------------------------------------------------------

    def branches(self, only: Sequence[str] | None = None) -> tuple[LoadedBranch, ...]:
        """Every branch file, checked together; or those of the named branches, and of nobody else."""
        from star_platform.signals.load import load_branches

        loaded = load_branches(
            self.root / self.file.branches,
            root=self.root,
            variables=self.file.variables,
            connections=self.file.connections,
        )
        if only is None:
            return loaded
        known = {item.branch.branch for item in loaded}
        for name in only:
            if name not in known:
                raise UsageError("U003", f"there is no branch {name!r}", hint=f"there are {', '.join(sorted(known))}")
        return tuple(item for item in loaded if item.branch.branch in only)

    def consumers(self) -> tuple[Consumer, ...]:
        """The declared consumers, from `consumers/*.yaml`."""
        from star_platform.project.readers import declared
        from star_platform.signals.consumers import load_consumers

        folder = self.root / self.file.consumers
        found = load_consumers(folder, root=self.root) if folder.is_dir() else ()
        return tuple(declared(item) for item in found)

    # --- services -----------------------------------------------------------------------------------------------------

    @cached_property
    def registry(self) -> Registry:
        from star_platform.registry.registry import Registry

        return Registry(self._database_url(self.file.registry))

    @cached_property
    def store(self) -> ArtefactStore:
        from star_platform.registry.artefacts import ArtefactStore

        return ArtefactStore(self.artefacts)

    @property
    def artefacts(self) -> Path:
        return self.root / self.file.artefacts

    @property
    def pseudonym_key(self) -> Path:
        """The secret behind the pseudonyms of external ids; it stays on this machine."""
        return self.artefacts.parent / "pseudonym.key"

    @property
    def feature_repo(self) -> Path:
        return self.root / self.file.publishing.feature_repo

    @cached_property
    def encoder(self) -> TextEncoder:
        from star_platform.text.encoder import open_encoder

        return open_encoder(self.file.text, self.root)

    @cached_property
    def publisher(self) -> Publisher:
        from star_platform.publishing.publish import Publisher

        return Publisher(self.feature_repo, self.artefacts / "offline")

    @cached_property
    def reader(self) -> Reader:
        from star_platform.publishing.read import Reader

        return Reader(self.feature_repo)

    def engine(self, deny_columns: frozenset[str] = frozenset()) -> Engine:
        """A table engine that reads the project's sources, without the denied columns."""
        from star_platform.graph.engine import Engine

        return Engine(
            variables=self.file.variables,
            connections={name: self._database_url(url) for name, url in self.file.connections.items()},
            root=self.root,
            memory_limit=self.file.engine.memory_limit,
            threads=self.file.engine.threads,
            temp_dir=self.artefacts / ".work" / "engine",
            deny_columns=deny_columns,
            feast_repo=self.feature_repo,
        )

    def _database_url(self, url: str) -> str:
        """`url` with a relative SQLite path made absolute, so that it means the same from every folder."""
        prefix = "sqlite:///"
        return f"{prefix}{self.root / url.removeprefix(prefix)}" if url.startswith(prefix) else url

    # --- planning and releasing ---------------------------------------------------------------------------------------

    def merged(self, branches: Sequence[LoadedBranch]) -> GraphSpec:
        """The graph spec of the ready branches; raises MergeConflict."""
        from star_platform.planning.merge import merge

        return merge(branches, self._base())

    def plan(self, only: Sequence[str] | None = None) -> ReleaseRequest:
        """What a release of the ready branches would do, as values; reads sources, changes nothing."""
        from star_platform.planning.plan import make_plan
        from star_platform.planning.snapshot import take_snapshots
        from star_platform.project.encoding import text_features
        from star_platform.project.settings import stage_seconds, stage_settings
        from star_platform.release import ReleaseRequest

        branches = self.branches(only)
        spec = self.merged(branches)
        with self._opened_engine(spec) as engine:
            snapshots = take_snapshots(spec, engine)
        self.file.text.check_features(text_features(spec))
        plan = make_plan(
            spec,
            snapshots,
            stage_settings(self),
            base=self._base(),
            exists=lambda kind, fingerprint: self.store.find(kind, fingerprint) is not None,
            consumers=self.consumers(),
            history=stage_seconds(self),
            notices=() if self.registry.status().state == "absent" else self.lifecycle.notices(),
        )
        return ReleaseRequest(plan, spec, tuple(_revision(item) for item in branches), actor())

    @contextmanager
    def _opened_engine(self, spec: GraphSpec) -> Iterator[Engine]:
        engine = self.engine(spec.deny_columns)
        try:
            yield engine
        finally:
            engine.close()

    def _base(self) -> BaseRelease | None:
        from star_platform.planning.base import BaseRelease

        if self.registry.status().state == "absent":
            return None
        active = self.registry.active()
        return BaseRelease.from_record(active.number, active.record) if active else None

    def active_number(self) -> int | None:
        """Number of the release that `latest` names; None before the first activation."""
        active = None if self.registry.status().state == "absent" else self.registry.active()
        return active.number if active else None

    def workshop(self, engine: Engine, progress: Progress = SILENT) -> Workshop:
        """The services that the stages of a release use."""
        from star_platform.graph.privacy import pseudonymiser
        from star_platform.project.readers import at_the_gate
        from star_platform.release import Workshop
        from star_platform.text.cache import TextCache
        from star_platform.text.inner import inner_text

        return Workshop(
            registry=self.registry,
            store=self.store,
            released=self.store,
            engine=engine,
            pseudonymiser=pseudonymiser(self.pseudonym_key),
            encoder=self.encoder,
            text_cache=TextCache(self.artefacts / "text-cache"),
            training=self.file.training,
            evaluation=self.file.evaluation,
            compat=self.file.compat,
            consumers=lambda: at_the_gate(self.consumers(), self.root),
            publisher=self.publisher,
            feast_state=self.feast_state,
            inner_text=inner_text(self.file.text, self.encoder),
            progress=progress,
        )

    def release(
        self,
        *,
        only: Sequence[str] | None = None,
        resume: bool = False,
        rebuild: bool = False,
        reason: str = "",
        progress: Progress = SILENT,
    ) -> Release | None:
        """Make a release of the ready branches under the release lease; None when nothing has changed.

        Raises:
            LeaseHeld: somebody else is releasing; nothing was written.
            RegistryError: R021 when there is nothing to resume.
        """
        from star_platform import release as work
        from star_platform.errors import RegistryError
        from star_platform.registry.states import ReleaseState

        if self.registry.status().state == "absent":
            self.registry.upgrade()
        with self.registry.lease(work.LEASE) as lease:
            known, declared = self.registry.consumers(), self.consumers()
            self.registry.record_consumers(declared)
            self.feast_state().check()
            interrupted = self.interrupted()
            if interrupted is not None and interrupted.state is ReleaseState.ACTIVE:
                work.finish(interrupted, self.registry, self.publisher, self.feast_state(), lease)
                return self.registry.release(interrupted.number)
            if resume and interrupted is None:
                raise RegistryError("R021", "no release was interrupted", hint="run `star-platform release`")
            if resume and interrupted is not None and only is None:
                only = [revision.branch for revision in self.registry.branches(interrupted.number)] or None
            request = replace(self.plan(only), reason=reason)
            if request.plan.nothing_changed and not rebuild and not resume:
                if sorted(known, key=lambda item: item.name) != sorted(declared, key=lambda item: item.name):
                    for change in self.publisher.reconcile(self.feast_state()):
                        progress.line(f"Feast: {change}")
                return None
            with self._opened_engine(request.spec) as engine:
                shop = self.workshop(engine, progress)
                if resume and interrupted is not None:
                    return work.resume(shop, request, lease, interrupted.number)
                return work.start(shop, request, lease, rebuild=rebuild)

    def interrupted(self) -> Release | None:
        """The newest release, if some of its stages were never finished and nobody has given it up since."""
        from star_platform.registry.states import ReleaseState

        releases = self.registry.releases()
        newest = releases[-1] if releases else None
        going = (ReleaseState.BUILDING, ReleaseState.FAILED, ReleaseState.CANDIDATE, ReleaseState.ACTIVE)
        if newest is None or newest.state not in going:
            return None
        done = newest.record["stages"].keys() <= self.registry.done_stages(newest.number).keys()
        return None if done else newest

    def releases(self) -> tuple[Release, ...]:
        """Every release, oldest first; none where there is no registry yet."""
        return () if self.registry.status().state == "absent" else self.registry.releases()

    def find_release(self, name: str) -> Release:
        """The release called `name`: `latest` or `rN`; raises RegistryError R010 or R022."""
        from star_platform.errors import RegistryError
        from star_platform.registry.registry import LATEST, release_number

        if name != LATEST:
            return self.registry.release(release_number(name))
        active = self.registry.active()
        if active is None:
            raise RegistryError("R022", "no release is active yet", hint="run `star-platform release`")
        return active

    def activate(self, name: str, reason: str = "") -> tuple[Release | None, Release]:
        """Make release `name` the one that `latest` names; the release before and after."""
        from star_platform import release as work

        with self.registry.lease(work.LEASE) as lease:
            before = self.registry.active()
            wanted = self.find_release(name)
            self.lifecycle.check_activation(wanted.number)
            event = work.Activation(wanted.number, before.number if before else None, actor(), reason)
            work.activate(self.registry, self.publisher, self.feast_state, event, lease)
            return before, self.registry.release(wanted.number)

    def refresh(
        self,
        wish: RefreshWish,
        *,
        agreed: Callable[[Refreshed], bool] = lambda _: True,
        reason: str = "",
        progress: Progress = SILENT,
    ) -> Refreshed:
        """Vectors of the entities that changed, anew, into the active release, as `refreshing.refresh_active` does."""
        from star_platform.project.refreshing import refresh_active

        return refresh_active(self, wish, agreed, reason, progress)

    # --- Feast --------------------------------------------------------------------------------------------------------

    @property
    def serving(self) -> Serving:
        """What Feast shall know, as our registry has it."""
        from star_platform.project.serving import Serving

        return Serving(self.registry, self.store, self.publisher.offline_root, self.file.lifecycle.notice_days)

    @property
    def lifecycle(self) -> Lifecycle:
        """Deprecation, retirement and purge of releases, and who reads them."""
        from star_platform.project.life import open_lifecycle

        return open_lifecycle(self)

    def published(self) -> dict[int, PublishedRelease]:
        """What was published and can be read, by release number."""
        return self.serving.published()

    def feast_state(self, active: int | None = None) -> FeastState:
        """All that Feast shall know, from our registry; with release `active` in front, or the active one when None."""
        return self.serving.state(active)

    def feast_objects(self) -> list[Any]:
        """Feast's objects as our registry has them; `feature_repo/definitions.py` hands them to Feast."""
        from star_platform.publishing.objects import definitions

        if self.registry.status().state == "absent":
            return []
        return definitions(self.feast_state(), self.feature_repo)

    def fetch(
        self, node: str, ids: Sequence[str | int], *, release: str = "latest", consumer: str | None = None
    ) -> Fetched:
        """Online vectors of one node type, as `reading.fetch` gives them."""
        from star_platform.project.reading import fetch

        return fetch(self, node, ids, release=release, consumer=consumer)


def actor() -> str:
    """Who is at work, for events: $STAR_ACTOR, or the user's name."""
    try:
        return os.environ.get("STAR_ACTOR") or getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers like to have
        return f"uid-{os.getuid()}"


def _revision(loaded: LoadedBranch) -> BranchRevision:
    from star_platform.planning.canonical import digest
    from star_platform.registry.values import BranchRevision

    branch = loaded.branch
    return BranchRevision(branch.branch, branch.owner, loaded.file, branch.status, digest(loaded.source))
