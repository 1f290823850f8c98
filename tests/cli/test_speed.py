"""`--help` and `validate` answer in under half a second of CPU, and import nothing heavy."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from star_platform.cli.app import main
from tests.signals.test_across_files import FEATURE, NODES

HEAVY = ("torch", "feast", "dgl", "ibis", "duckdb", "pandas", "sqlalchemy", "transformers", "numba", "sklearn", "numpy")
LIMIT_S = 0.5


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` writes, and ten more branches."""
    folder = tmp_path_factory.mktemp("project")
    assert main(["init", str(folder), "--name", "speed"]) == 0
    (folder / "signal_branches" / "first.yaml").unlink()
    (folder / "signal_branches" / "nodes.yaml").write_text(NODES.format(name="nodes", status="ready"))
    for number in range(10):
        text = FEATURE.replace("branch: features", f"branch: features_{number}").replace("job.title", f"job.t{number}")
        text = text.replace("  views:", f"  views_{number}:")
        (folder / "signal_branches" / f"features_{number}.yaml").write_text(text)
    assert main(["fmt", "--project", str(folder)]) == 0
    return folder


def cpu_seconds(*arguments: str) -> float:
    """User and system time of one run of the console script's module."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "star_platform.cli.app", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""})
    assert done.returncode == 0, done.stderr.decode()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_quick() -> None:
    assert min(cpu_seconds("--help") for _ in range(3)) < LIMIT_S


def test_validate_is_quick(project: Path) -> None:
    assert min(cpu_seconds("validate", "--project", str(project)) for _ in range(3)) < LIMIT_S


@pytest.mark.parametrize("arguments", ["--help", "validate", "validate --json", "fmt --check", "explain"])
def test_nothing_heavy_is_imported(project: Path, arguments: str) -> None:
    script = (
        "import json, sys\n"
        "from star_platform.cli.app import main\n"
        "code = main(json.loads(sys.argv[1]))\n"
        f"print(json.dumps([code, sorted(set(sys.modules) & set({HEAVY!r}))]), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, json.dumps(arguments.split())]
    done = subprocess.run(command, capture_output=True, check=True, cwd=project, text=True)
    code, loaded = json.loads(done.stderr.splitlines()[-1])
    assert loaded == []
    assert code == 0
