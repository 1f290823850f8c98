"""The composition root: finds star.yaml, opens registry, stores and engine. The only place that wires things.

Reading star.yaml must stay light (`validate` runs it), so everything heavy is imported inside what opens it.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from star_platform.errors import UsageError
from star_platform.evaluation.config import EvaluationConfig
from star_platform.gnn.config import TrainingConfig
from star_platform.progress import SILENT, Progress
from star_platform.text.config import TextConfig

if TYPE_CHECKING:
    from star_platform.graph.engine import Engine
    from star_platform.planning.base import BaseRelease
    from star_platform.planning.plan import Plan
    from star_platform.planning.spec import GraphSpec
    from star_platform.planning.stages import StageSettings
    from star_platform.publishing.model import ConsumerPin, FeastState, PublishedRelease
    from star_platform.publishing.publish import Publisher
    from star_platform.publishing.read import Reader
    from star_platform.registry.artefacts import ArtefactStore
    from star_platform.registry.registry import Registry
    from star_platform.registry.values import Consumer, Release
    from star_platform.release import ReleaseRequest, Workshop
    from star_platform.signals.load import LoadedBranch
    from star_platform.text.encoder import TextEncoder

PROJECT_FILE = "star.yaml"
_VARIABLE = re.compile(r"\$\{env:([A-Za-z_]\w*)(?::-([^}]*))?\}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineConfig(_Section):
    """How much the table engine may use; larger inputs spill to disk."""

    memory_limit: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(KB|MB|GB)$")] = "1GB"
    threads: Annotated[int, Field(ge=1)] = 2


class PublishingConfig(_Section):
    """Where releases go."""

    feature_repo: str = "feature_repo"


class ProjectFile(_Section):
    """star.yaml. Paths are relative to its folder; `${env:NAME}` and `${env:NAME:-default}` are filled in."""

    apiVersion: Literal["star/v1"] = "star/v1"  # noqa: N815
    project: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
    branches: str = "signal_branches"
    consumers: str = "consumers"
    variables: dict[str, str] = {}
    connections: dict[str, str] = {}
    registry: str = "sqlite:///.star/registry.db"
    artefacts: str = ".star/artefacts"
    engine: EngineConfig = EngineConfig()
    text: TextConfig = TextConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    publishing: PublishingConfig = PublishingConfig()


def find_project(start: Path | None = None) -> Path:
    """The folder of the nearest star.yaml at or above `start`; raises UsageError U001 where there is none."""
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / PROJECT_FILE).is_file():
            return candidate
    raise UsageError(
        "U001",
        f"no {PROJECT_FILE} in {folder} or above it",
        hint="run `star-platform init` here, or pass --project DIR",
    )


def read_project_file(root: Path) -> ProjectFile:
    """star.yaml of folder `root`, checked; raises SignalErrors with positions, or UsageError U002 for a missing variable."""
    from star_platform.signals.load import load_model

    return load_model(root / PROJECT_FILE, ProjectFile, root=root, transform=_expand)


def _expand(value: Any) -> Any:
    """`value` with environment variables filled in, everywhere in it."""
    if isinstance(value, Mapping):
        return {key: _expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return _VARIABLE.sub(_environment, value) if isinstance(value, str) else value


def _environment(match: re.Match[str]) -> str:
    name, default = match.groups()
    found = os.environ.get(name, default)
    if found is None:
        raise UsageError("U002", f"star.yaml needs the environment variable {name}", hint=f"export {name}=...")
    return found


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
        from star_platform.registry.values import Consumer
        from star_platform.signals.consumers import load_consumers

        folder = self.root / self.file.consumers
        declared = load_consumers(folder, root=self.root) if folder.is_dir() else ()
        return tuple(Consumer(c.consumer, c.owner, tuple(c.nodes), c.release) for c in declared)

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

        return merge(branches)

    def plan(self, only: Sequence[str] | None = None) -> ReleaseRequest:
        """What a release of the ready branches would do, as values; reads sources, changes nothing."""
        from star_platform.planning.plan import make_plan
        from star_platform.planning.snapshot import take_snapshots
        from star_platform.release import ReleaseRequest

        branches = self.branches(only)
        spec = self.merged(branches)
        with self._opened_engine(spec) as engine:
            snapshots = take_snapshots(spec, engine)
        plan = make_plan(
            spec,
            snapshots,
            base=self._base(),
            settings=self._settings(),
            exists=lambda kind, fingerprint: self.store.find(kind, fingerprint) is not None,
            consumers=self._plan_consumers(),
            history=self._stage_seconds(),
        )
        return ReleaseRequest(plan, spec, tuple(_revision(item) for item in branches), actor())

    @contextmanager
    def _opened_engine(self, spec: GraphSpec) -> Iterator[Engine]:
        engine = self.engine(spec.deny_columns)
        try:
            yield engine
        finally:
            engine.close()
