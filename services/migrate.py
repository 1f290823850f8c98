"""Brings our registry to the schema of this version; what the one-shot container of docker-compose.yml runs."""

from __future__ import annotations


def migrate(url: str) -> str:
    """Create or upgrade the registry at a SQLAlchemy URL; its schema then, in words. Running it again changes nothing.

    Raises:
        RegistryError: R001 when the database does not answer, R005 when its schema is newer than this version.
    """
    from star_platform.registry.registry import Registry

    registry = Registry(url)
    registry.upgrade()
    return f"registry has schema {registry.status().found}"
