"""Ports and passwords of one installation: made up once, kept in a file that its owner alone can read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.postgres_server import FEAST, postgres_url
from services.processes import HOST, ServiceError, free_port, port_is_free

_HEAD = """\
# Made by `python -m services up`; readable by its owner alone. For a shell: set -a; . {path}; set +a
# Delete it together with the folder `services` beside it to begin anew.
"""
_PREFERRED = {"STAR_POSTGRES_PORT": 5432, "STAR_REDIS_PORT": 6379, "STAR_FEATURE_SERVER_PORT": 6566}
_PASSWORDS = ("STAR_POSTGRES_PASSWORD", "STAR_FEAST_PASSWORD", "STAR_REDIS_PASSWORD")


@dataclass(frozen=True)
class Settings:
    """What docker-compose.yml takes from `.env`, and the addresses that follow from it."""

    project: str
    postgres_port: int
    redis_port: int
    feature_server_port: int
    postgres_password: str
    feast_password: str
    redis_password: str

    @property
    def registry_url(self) -> str:
        """Our registry, for star.yaml."""
        return postgres_url(self.postgres_port, self.postgres_password)

    @property
    def feast_registry_url(self) -> str:
        """Feast's registry, for feature_store.yaml; Feast takes psycopg 3."""
        return postgres_url(self.postgres_port, self.feast_password, FEAST, "psycopg")

    @property
    def redis(self) -> str:
        """The online store, as Feast writes it."""
        return f"{HOST}:{self.redis_port},password={self.redis_password}"

    @property
    def feature_server(self) -> str:
        return f"http://{HOST}:{self.feature_server_port}"

    def environment(self) -> dict[str, str]:
        """The variables, by name."""
        return {
            "STAR_PROJECT": self.project,
            "STAR_POSTGRES_PORT": str(self.postgres_port),
            "STAR_REDIS_PORT": str(self.redis_port),
            "STAR_FEATURE_SERVER_PORT": str(self.feature_server_port),
            "STAR_POSTGRES_PASSWORD": self.postgres_password,
            "STAR_FEAST_PASSWORD": self.feast_password,
            "STAR_REDIS_PASSWORD": self.redis_password,
            "STAR_REGISTRY_URL": self.registry_url,
            "STAR_FEAST_REGISTRY_URL": self.feast_registry_url,
            "STAR_REDIS": self.redis,
        }


def load_settings(path: Path, project: str) -> Settings:
    """The settings of an earlier start, or new ones, written to `path` with mode 0600.

    Raises:
        ServiceError: the file is incomplete, or others can read it.
    """
    if not path.exists():
        _write(path, _new_settings(project))
    if path.stat().st_mode & 0o077:
        raise ServiceError(f"others can read the passwords in {path}: chmod 600 {path}")
    found = dict(
        line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line and line[0] != "#"
    )
    missing = [name for name in ("STAR_PROJECT", *_PREFERRED, *_PASSWORDS) if not found.get(name)]
    if missing:
        raise ServiceError(f"{path} lacks {', '.join(missing)}; delete it and the folder `services` beside it")
    settings = _from(found)
    if settings.environment() != found:
        _write(path, settings)  # a port or a password was changed by hand
    return settings


def _new_settings(project: str) -> Settings:
    """The usual ports where they are free, others where not, and passwords that nobody chose."""
    ports = {
        name: os.environ.get(name) or str(port if port_is_free(port) else free_port())
        for name, port in _PREFERRED.items()
    }
    # hexadecimal: they stand unquoted in URLs, in a shell and in Feast's connection string
    return _from({"STAR_PROJECT": project, **ports, **{name: secrets.token_hex(24) for name in _PASSWORDS}})


def _from(found: Mapping[str, str]) -> Settings:
    return Settings(
        project=found["STAR_PROJECT"],
        postgres_port=int(found["STAR_POSTGRES_PORT"]),
        redis_port=int(found["STAR_REDIS_PORT"]),
        feature_server_port=int(found["STAR_FEATURE_SERVER_PORT"]),
        postgres_password=found["STAR_POSTGRES_PASSWORD"],
        feast_password=found["STAR_FEAST_PASSWORD"],
        redis_password=found["STAR_REDIS_PASSWORD"],
    )


def _write(path: Path, settings: Settings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{name}={value}\n" for name, value in settings.environment().items())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_HEAD.format(path=path) + lines)
