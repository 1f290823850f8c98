"""The command line as a shell sees it: exit codes, streams, JSON, help."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from star_platform.cli import app as app_module
from star_platform.cli.app import app, main
from star_platform.errors import (
    BaseMoved,
    Conflict,
    ExitCode,
    GateFailed,
    LeaseHeld,
    MergeConflict,
    Place,
    StarError,
    UsageError,
)
from star_platform.project import ProjectFile, read_project_file
from star_platform.signals.load import load_branches

READ_VERBS = ("validate", "plan", "releases", "show", "fetch", "explain", "doctor")


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "marketplace"
    assert main(["init", str(folder)]) == 0
    capsys.readouterr()
    return folder


def test_exit_codes_are_frozen() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "FAILURE": 1,
        "CHANGES_PENDING": 2,
        "MERGE_CONFLICT": 3,
        "GATE_FAILED": 4,
        "BLOCKED_BY_CONSUMERS": 5,
        "RETRY": 6,
        "USAGE": 64,
    }
    exits = {StarError: 1, UsageError: 64, MergeConflict: 3, GateFailed: 4, LeaseHeld: 6, BaseMoved: 6}
    assert {error: error.exit_code.value for error in exits} == exits


def test_init_writes_a_project_that_is_valid(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_project_file(project) == ProjectFile(project="marketplace", variables={"data": "data"})
    (loaded,) = load_branches(project / "signal_branches", root=project, variables={"data": "data"})
    assert loaded.branch.status == "draft"
    assert main(["validate", "--project", str(project)]) == 0
    assert capsys.readouterr().out == "valid: 0 ready branches, 1 draft, 6 signals\n"
    assert main(["fmt", "--check", "--project", str(project)]) == 0
    assert {path.name for path in (project / "feature_repo").iterdir()} == {"feature_store.yaml", "definitions.py"}
    first_line, *_ = (project / "signal_branches/first.yaml").read_text().splitlines()
    modeline = re.search(r"\$schema=(\S+)", first_line)
    assert modeline is not None
    assert (project / "signal_branches" / modeline.group(1)).is_file()


def test_init_keeps_what_is_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (project / "star.yaml").read_bytes()
    assert main(["init", str(project)]) == 64
    assert "U020" in capsys.readouterr().err
    assert (project / "star.yaml").read_bytes() == before


@pytest.mark.parametrize(("folder", "name"), [("My Jobs!", "my_jobs"), ("2026", "marketplace"), ("a-b", "a_b")])
def test_the_folder_names_the_project(tmp_path: Path, folder: str, name: str) -> None:
    assert main(["init", str(tmp_path / folder)]) == 0
    assert read_project_file(tmp_path / folder).project == name


def test_init_refuses_a_name_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "a"), "--name", "Jobs"]) == 64
    assert "U021" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("arguments", ["nope", "validate --nope", "validate nope.yaml", "explain S999"])
def test_usage_errors_exit_64(project: Path, arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert main(arguments.split()) == 64


def test_outside_of_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--project", str(tmp_path)]) == 64
    assert "U001" in capsys.readouterr().err


def test_every_error_of_every_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """star.yaml, branches and consumers in one run; errors on stderr, nothing on stdout."""
    (project / "star.yaml").write_text("project: Bad\nengine: {threads: 0}\n")
    (project / "signal_branches" / "b.yaml").write_text("branch: b\nowner: x\nnodes: {a: {kind: attribut}}\n")
    (project / "consumers").mkdir()
    (project / "consumers" / "c.yaml").write_text("consumer: c\nowner: x\nnodes: [a]\nrelease: 3\n")
    assert main(["validate", "--project", str(project)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert re.findall(r"error\[(\w+)\]", output.err) == ["S015", "S017", "S013", "S012"]
    assert "4 errors in 3 files" in output.err


def test_errors_as_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "signal_branches" / "b.yaml").write_text("branch: b\nowner: x\nnodes: {a: {kind: attribut}}\n")
    assert main(["validate", "--json", "--project", str(project)]) == 1
    output = capsys.readouterr()
    assert output.err == ""
    data = json.loads(output.out)
    assert (data["schema_version"], data["ok"]) == (1, False)
    (error,) = data["errors"]
    assert (error["code"], error["file"], error["line"]) == ("S013", "signal_branches/b.yaml", 3)
    assert error["label"] == "did you mean 'attribute'?"


def test_usage_error_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--json", "--project", str(tmp_path)]) == 64
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "U001"


def test_validate_of_one_file_reports_that_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = project / "signal_branches"
    (folder / "b.yaml").write_text("branch: b\nowner: x\nstatus: reday\n")
    (folder / "c.yaml").write_text("branch: c\nowner: x\nstatus: reday\n")
    assert main(["validate", str(folder / "c.yaml"), "--project", str(project)]) == 1
    assert re.findall(r"--> (\S+)", capsys.readouterr().err) == ["signal_branches/c.yaml:3:9"]
    assert main(["validate", str(folder / "first.yaml"), "--project", str(project)]) == 0


def test_fmt_check_then_fmt(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "signal_branches" / "b.yaml"
    path.write_text("owner: x\nbranch: b\n")
    assert main(["fmt", "--check", "--project", str(project)]) == 1
    assert capsys.readouterr().out == "would change signal_branches/b.yaml\n"
    assert main(["fmt", "--project", str(project)]) == 0
    assert path.read_text() == "branch: b\nowner: x\n"
    assert main(["fmt", "--check", str(path)]) == 0


def test_fmt_formats_what_it_can_and_reports_the_rest(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "signal_branches" / "a.yaml").write_text("a: [\n")
    path = project / "signal_branches" / "b.yaml"
    path.write_text("owner: x\nbranch: b\n")
    assert main(["fmt", "--project", str(project)]) == 1
    assert "S005" in capsys.readouterr().err
    assert path.read_text() == "branch: b\nowner: x\n"


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "s014"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("S014 unknown node\n")
    assert "\nWrong\n    " in page
    assert "\nRight\n    " in page
    assert main(["explain"]) == 0
    assert "S014  unknown node" in capsys.readouterr().out
    assert main(["explain", "S014", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["code"] == "S014"


def test_an_unexpected_failure_is_short_and_keeps_its_traceback(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the roof fell in")

    monkeypatch.chdir(project)
    (project / ".star").mkdir()
    monkeypatch.setattr("star_platform.signals.load.read_branches", broken)
    monkeypatch.delenv("STAR_DEBUG", raising=False)
    assert main(["validate"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert "RuntimeError: the roof fell in" in error
    (log,) = (project / ".star").glob("*.log")
    assert str(log.name) in error
    assert "Traceback" in log.read_text()
    monkeypatch.setenv("STAR_DEBUG", "1")
    assert main(["validate"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_merge_conflict_shows_both_lines_from_anywhere(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def conflicting(*_: object, **__: object) -> None:
        ours, theirs = (Place("signal_branches/first.yaml", line, 3, 3) for line in (12, 13))
        raise MergeConflict([Conflict("value_differs", "/nodes/job", ours, theirs, "two jobs", "agree on one")])

    monkeypatch.setattr("star_platform.signals.load.read_branches", conflicting)
    assert main(["validate", "--project", str(project)]) == 3
    shown = capsys.readouterr().err
    assert "jobs: {path:" in shown
    assert "members: {path:" in shown


def test_version_and_bare_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("star-platform ")
    assert main([]) == 0
    assert "Usage: star-platform" in capsys.readouterr().out


def verbs() -> list[str]:
    return [(c.name or c.callback.__name__).replace("_", "-") for c in app.registered_commands if c.callback]


def test_the_verbs() -> None:
    expected = {
        "init",
        "validate",
        "fmt",
        "plan",
        "release",
        "refresh",
        "releases",
        "show",
        "activate",
        "fetch",
        "explain",
    }
    expected |= {"train", "search", "index", "status", "who-uses", "deprecate", "retire", "purge"}
    assert expected | {"upgrade", "doctor", "demo"} == set(verbs())


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_help_has_an_example_and_the_exit_codes(verb: str) -> None:
    shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0
    assert f"Example: star-platform {verb}" in shown.output
    assert "Exit codes: 0 ok" in shown.output
    if verb in READ_VERBS:
        assert "--json" in shown.output


def test_help_lists_every_exit_code() -> None:
    listed = {int(number) for number in re.findall(r"(?:: |· )(\d+) ", app_module.EXIT_CODES)}
    assert listed == {int(code) for code in ExitCode}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "star_platform.cli.app", "--show-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "star" in done.stdout


def test_a_closed_pipe_is_no_crash(tmp_path: Path) -> None:
    """`star-platform explain | head -0`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "star_platform.cli.app", "explain"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path)
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
