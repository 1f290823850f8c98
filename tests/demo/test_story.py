from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from star_platform.demo.story import FIRST, run
from star_platform.project import Project

REPOSITORY = Path(__file__).resolve().parents[2]
STAR_YAML = """\
apiVersion: star/v1
project: marketplace
variables: {data: .star/demo/data}
text: {encoder: tfidf-svd, dim: 16}
training: {dim: 16, heads: 2, fan_outs: [6], batch_size: 256, negatives: 64, max_epochs: 1, threads: 1}
evaluation: {max_examples: 100, resamples: 100, baselines: [popularity, text-cosine]}
"""


@pytest.fixture
def marketplace(tmp_path: Path) -> Path:
    """The example marketplace with settings that are small enough for a test."""
    for folder in ("signal_branches", "consumers", "feature_repo"):
        ignore = shutil.ignore_patterns("__pycache__", "*.db")
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=ignore)
    (tmp_path / "star.yaml").write_text(STAR_YAML, encoding="utf-8")
    return tmp_path


def tell(root: Path, members: int = 300) -> str:
    output = io.StringIO()
    run(root, members=members, seed=1, console=Console(file=output, width=200))
    return output.getvalue()


@pytest.mark.slow
def test_two_releases_then_nothing_new(marketplace: Path) -> None:
    first = tell(marketplace)
    for part in (
        "r1 is active",
        "r2 is active",
        "own columns only",
        "with vectors of r1",
        "with vectors of r2",
        "r2 through the map",
        "Done in",
    ):
        assert part in first, first
    project = Project.open(marketplace)
    assert [(release.number, release.base, release.state) for release in project.releases()] == [
        (1, None, "deprecated"),
        (2, 1, "active"),
    ]
    branches = [{branch.branch for branch in project.registry.branches(number)} for number in (1, 2)]
    assert branches[0] == set(FIRST) < branches[1]
    assert len(branches[1]) == 5
    assert any(stage.reused for stage in project.registry.stages(2))

    again = tell(marketplace)
    assert "Nothing has changed since r2" in again
    assert "with vectors of r2" in again
    assert len(Project.open(marketplace).releases()) == 2
