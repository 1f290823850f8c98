"""Feast's feature server on a loopback port, from a folder that holds nothing but feature_store.yaml."""

from __future__ import annotations

import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from services.processes import HOST, Server, start, wait_until

FEATURE_STORE = Path(__file__).with_name("feature_store.yaml")
FRESH = ("--registry_ttl_sec", "5")
"""Seconds after which the server sees what was released or activated; Feast's own choice is 60."""


def start_feature_server(folder: Path, port: int, environment: Mapping[str, str]) -> Server:
    """Start `feast serve`; `environment` fills in the names of feature_store.yaml.

    It reads through the registry, so what `star-platform release` publishes later is served without a restart.

    Raises:
        ServiceError: it did not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FEATURE_STORE, folder / "feature_store.yaml")
    feast = Path(sys.executable).with_name("feast")
    command = [str(feast), "--chdir", str(folder), "serve", "--host", HOST, "--port", str(port), *FRESH]
    server = start("feature-server", command, folder / "feature-server.log", environment=environment)
    wait_until(server, lambda: healthy(port), 120)  # importing Feast takes seconds
    return server


def healthy(port: int) -> bool:
    """Whether the server answers and reaches Feast's registry."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # also what urllib raises for any other status
        return False
