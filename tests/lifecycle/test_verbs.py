"""The verbs as they are typed: text and JSON against golden files, and exit codes.

`STAR_UPDATE_GOLDEN=1 pytest tests/lifecycle/test_verbs.py` writes the files anew.
"""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

import pytest

from star_platform.cli import lifecycle as verbs
from star_platform.cli.app import main

from .world import World

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def world(sqlite_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    world = sqlite_world
    monkeypatch.setenv("STAR_ACTOR", "ada")
    monkeypatch.setattr(verbs, "_open", lambda _project, **_: world.life)
    world.release("member", "job")
    world.clock.pass_by(days=30)
    world.release("member", "job")
    world.map(1, feed_ranking="pass", people_search="fail")
    world.map(1, "inconclusive", node="job")
    world.declare("feed-ranking", "r1", contact="#feed", sunset=date(2026, 3, 1))
    world.declare("people-search", "r1", "member", "job", contact="#search")
    world.declare("auditor", "r1", need="exact")
    world.declare("alerts", "latest")
    world.read("feed-ranking", 1, 2, reads=12_345)
    world.read("people-search", 1, 20)
    world.read("notebook", 1, 1)
    world.read(None, 1, 3, reads=7)
    return world


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("STAR_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


def served(world: World) -> None:
    """Everybody but feed-ranking, whom a map serves, has gone."""
    world.files = [item for item in world.files if item.name in ("feed-ranking", "alerts")]
    world.counts = [item for item in world.counts if item.consumer == "feed-ranking"]


def test_who_uses(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "who-uses", "r1")
    compare("who-uses.txt", out)
    assert code == 0
    code, out, _ = run(capsys, "who-uses", "r1", "--json")
    compare("who-uses.json", out)
    assert (code, json.loads(out)["schema_version"]) == (0, 1)


def test_who_uses_what_nobody_uses(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.release()
    assert run(capsys, "who-uses", "r2")[1] == (
        "r2  deprecated, latest is r3\n"
        "nobody declares it, and no read of it was counted\n"
        "Nobody stands in the way: star-platform retire r2\n"
    )


def test_deprecate(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "deprecate", "r1", "--sunset", "2027-01-31", "--successor", "r2", "--reason", "r2!")
    assert (code, out) == (0, "r1 is deprecated: read it until 2027-01-31, then r2.\n")
    assert err == "Next: star-platform who-uses r1\n"
    code, out, _ = run(capsys, "deprecate", "r1", "--json")
    assert json.loads(out) == {"schema_version": 1, "release": "r1", "sunset": "2027-01-31", "successor": "r2"}
    code, _, err = run(capsys, "deprecate", "r1", "--sunset", "31.1.2027")
    assert (code, "U015" in err) == (64, True)
    code, _, err = run(capsys, "deprecate", "r2")
    assert (code, "L001" in err) == (1, True)


def test_retire_is_refused(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "retire", "r1")
    assert (code, out) == (5, "")
    compare("retire-refused.txt", err)
    code, out, _ = run(capsys, "retire", "r1", "--json")
    assert code == 5
    compare("retire-refused.json", out)
    code, _, err = run(capsys, "retire", "r1", "--force")
    assert (code, "L006" in err) == (1, True)


def test_retire_and_purge(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    served(world)
    code, out, err = run(capsys, "retire", "r1", "--materialise")
    assert (code, err) == (0, "Next: star-platform purge r1 --dry-run\n")
    texts = [out, run(capsys, "purge", "r1", "--dry-run", "--rate", "20")[1], run(capsys, "purge", "r1")[1]]
    compare("retire-and-purge.txt", "".join(texts))
    code, out, _ = run(capsys, "purge", "r1", "--json")
    compare("purge.json", out)
    code, out, _ = run(capsys, "retire", "r1", "--json")
    assert (code, json.loads(out)["errors"][0]["code"]) == (1, "L005")


def test_retired_as_json(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "retire", "r1", "--json", "--force", "--reason", "they agreed")
    assert code == 0
    compare("retired.json", out)


def test_status_of_a_release_that_cannot_go(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    compare("status-blocked.txt", run(capsys, "status")[1])


def test_status_of_one_that_went(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    served(world)
    assert run(capsys, "retire", "r1")[0] == 0
    world.clock.pass_by(days=100)
    compare("status-retired.txt", run(capsys, "status")[1])
    compare("status.json", run(capsys, "status", "--json")[1])


def test_a_store_that_is_down_is_said_on_stderr(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.usage_error = ConnectionError("connection refused")
    for verb in (["status"], ["who-uses", "r1"]):
        code, _, err = run(capsys, *verb)
        assert (code, err) == (0, "warning: reads since the last look are missing: connection refused\n")


@pytest.mark.parametrize("verb", ["who-uses", "deprecate", "retire", "purge", "status"])
def test_help_has_an_example_and_exit_codes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert f"Example: star-platform {verb}" in out
    assert "5 blocked by consumers" in " ".join(out.split())
