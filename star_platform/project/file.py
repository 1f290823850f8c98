"""star.yaml: what it may say, where it is found, how it is read. Must stay light: `validate` reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from star_platform.compat.config import CompatConfig
from star_platform.errors import UsageError
from star_platform.evaluation.config import EvaluationConfig
from star_platform.gnn.config import TrainingConfig
from star_platform.lifecycle.config import LifecycleConfig
from star_platform.text.config import TextConfig

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
    compat: CompatConfig = CompatConfig()
    lifecycle: LifecycleConfig = LifecycleConfig()
    publishing: PublishingConfig = PublishingConfig()

    @model_validator(mode="after")
    def _texts_fit_the_model(self) -> ProjectFile:
        if self.text.mode != "embedding" and self.training.encoder == "ltgnn":
            raise ValueError(f"`text.mode: {self.text.mode}` has no place in `training.encoder: ltgnn`")
        return self


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
    """star.yaml of folder `root`, checked.

    Raises:
        SignalErrors: with the place of everything that is wrong in it.
        UsageError: U002 when it needs an environment variable that is not set.
    """
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
