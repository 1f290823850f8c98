"""Every YAML example of the pages is valid, by the loaders that a project uses.

An example that begins with `apiVersion: star/v1` and has `branch:` is a whole branch. Others say on the line above what
they are:

    <!-- fragment of: branch -->       laid over the first whole branch of its page
    <!-- fragment of: star.yaml -->    laid over the smallest star.yaml
    <!-- whole: star.yaml -->, <!-- whole: consumer -->
    <!-- yaml: NAME -->                a file of somebody else's, which only has to be YAML
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from star_platform.cli.app import main
from star_platform.project import read_project_file
from star_platform.signals.consumers import load_consumers
from star_platform.signals.load import load_branches
from tests.conftest import REPOSITORY
from tests.docs.markdown import Fence, fences, merged, parsed, yaml_fences

STAR_YAML = {"apiVersion": "star/v1", "project": "marketplace"}
README = REPOSITORY / "README.md"


def is_branch(fence: Fence) -> bool:
    return "apiVersion: star/v1" in fence.text and "\nbranch:" in fence.text


def written(folder: Path, data: Mapping[str, Any] | str, path: str) -> Path:
    """`data` as a file of a new project in `folder`."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(data, str):
        target.write_text(data, encoding="utf-8")
    else:
        stream = io.StringIO()
        YAML(typ="safe", pure=True).dump(data, stream)
        target.write_text(stream.getvalue(), encoding="utf-8")
    return target


def check_branch(folder: Path, data: Mapping[str, Any] | str) -> None:
    written(folder, data, "signal_branches/example.yaml")
    load_branches(folder / "signal_branches", root=folder, variables={"data": "data"}, connections=["warehouse"])


def check_consumer(folder: Path, data: str) -> None:
    written(folder, data, "consumers/example.yaml")
    assert load_consumers(folder / "consumers", root=folder, nodes=["member", "job"])


def check_star_yaml(folder: Path, data: Mapping[str, Any] | str) -> None:
    written(folder, data, "star.yaml")
    read_project_file(folder)


@pytest.mark.parametrize("fence", list(yaml_fences()), ids=str)
def test_examples_are_valid(fence: Fence, tmp_path: Path) -> None:
    match fence.mark:
        case "fragment of: branch":
            base = next(other for other in fences(fence.page) if is_branch(other))
            check_branch(tmp_path, merged(parsed(base.text), parsed(fence.text)))
        case "fragment of: star.yaml":
            check_star_yaml(tmp_path, merged(STAR_YAML, parsed(fence.text)))
        case "whole: star.yaml":
            check_star_yaml(tmp_path, fence.text)
        case "whole: consumer":
            check_consumer(tmp_path, fence.text)
        case str(mark) if mark.startswith("yaml: "):
            assert isinstance(parsed(fence.text), dict)
        case _ if fence.page == README:
            pass  # its branch builds on that of `init`, see below
        case None if is_branch(fence):
            check_branch(tmp_path, fence.text)
        case other:
            pytest.fail(f"{fence} does not say what it is: {other}")


def test_the_branch_of_the_readme_fits_the_project_that_init_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the README tells it: init, the first branch made ready, and this one beside it."""
    folder = tmp_path / "my_market"
    assert main(["init", str(folder)]) == 0
    first = folder / "signal_branches" / "first.yaml"
    first.write_text(first.read_text(encoding="utf-8").replace("status: draft", "status: ready"), encoding="utf-8")
    (fence,) = [fence for fence in fences(README) if fence.language == "yaml"]
    written(folder, fence.text, f"signal_branches/{parsed(fence.text)['branch']}.yaml")
    assert main(["validate", "--project", str(folder)]) == 0, capsys.readouterr().err
    assert main(["fmt", "--check", "--project", str(folder)]) == 0
    capsys.readouterr()
    shutil.rmtree(folder)


def test_the_first_fragment_would_fail_without_its_branch(tmp_path: Path) -> None:
    """The check above checks: a fragment that names an unknown node is refused."""
    from star_platform.errors import SignalErrors

    base = next(fence for fence in fences(REPOSITORY / "docs" / "branches.md") if is_branch(fence))
    wrong = {"cohorts": {"c": {"node": "nobody", "source": "members", "key": "member_id", "column": "x"}}}
    with pytest.raises(SignalErrors, match="S014"):
        check_branch(tmp_path, merged(parsed(base.text), wrong))
