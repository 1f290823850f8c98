"""The composition root: star.yaml and everything that it names."""

from star_platform.project.file import (
    PROJECT_FILE,
    EngineConfig,
    ProjectFile,
    PublishingConfig,
    find_project,
    read_project_file,
)
from star_platform.project.project import Project, actor

__all__ = [
    "PROJECT_FILE",
    "EngineConfig",
    "Project",
    "ProjectFile",
    "PublishingConfig",
    "actor",
    "find_project",
    "read_project_file",
]
