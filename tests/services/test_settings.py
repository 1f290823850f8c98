"""Ports and passwords of an installation, without starting anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from services.processes import ServiceError
from services.settings import load_settings


def test_made_up_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "a" / "services.env"
    settings = load_settings(file, "market")
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_settings(file, "another") == settings
    assert file.read_text() == text
    assert load_settings(tmp_path / "b.env", "market").redis_password != settings.redis_password


def test_addresses_follow_a_port_that_was_changed_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "services.env"
    before = load_settings(file, "market")
    file.write_text(file.read_text().replace(f"STAR_POSTGRES_PORT={before.postgres_port}", "STAR_POSTGRES_PORT=15432"))
    after = load_settings(file, "market")
    assert make_url(after.registry_url).port == make_url(after.feast_registry_url).port == 15432
    assert f"STAR_REGISTRY_URL={after.registry_url}\n" in file.read_text()
    assert after.redis_password == before.redis_password


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "services.env"
    load_settings(file, "market")
    file.chmod(0o640)
    with pytest.raises(ServiceError, match="chmod 600"):
        load_settings(file, "market")


def test_a_file_without_a_password_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "services.env"
    password = load_settings(file, "market").redis_password
    file.write_text(file.read_text().replace(password, ""))
    with pytest.raises(ServiceError, match="lacks STAR_REDIS_PASSWORD"):
        load_settings(file, "market")
