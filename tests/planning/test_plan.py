"""Plans as values: identity, what the registry keeps, JSON, and plans that cannot be made."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from star_platform.errors import PlanError
from star_platform.planning.base import BaseRelease
from star_platform.planning.plan import stages_json, to_json
from tests.planning.market import CORE, SETTINGS, SKILLS, VIEWS, Tables, planned, released

ALL = (CORE, VIEWS, SKILLS)


def test_the_id_tells_plans_apart() -> None:
    first = planned(*ALL)
    base, store = released(first)
    plans = [
        first,
        planned(CORE, VIEWS),
        planned(*ALL, tables=Tables(views=1)),
        planned(*ALL, settings=replace(SETTINGS, training={"dim": 32})),
        planned(CORE.replace("[email]", "[phone]"), VIEWS, SKILLS),
        planned(CORE, VIEWS.replace("search@", "find@"), SKILLS),
        planned(*ALL, base=base),
        planned(*ALL, base=replace(base, number=2)),
    ]
    assert len({plan.id for plan in plans}) == len(plans)
    assert planned(SKILLS, VIEWS, CORE, store=store).id == first.id


def test_the_record_is_read_back_as_it_was_written() -> None:
    plan = planned(*ALL)
    base, _ = released(plan, 7)
    assert (base.number, base.name, base.plan_id) == (7, "r7", plan.id)
    assert {key: signal.fingerprint for key, signal in base.signals.items()} == dict(plan.fingerprints)
    assert base.snapshots == plan.snapshots
    assert base.stages == {stage.name: stage.fingerprint for stage in plan.stages}
    assert base.signals["edge", "member-views-job"].place == plan.spec.signals["edge", "member-views-job"].place
    assert plan.record()["units"]["edges/member-views-job"] == 20_000


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"schema_version": 99}, "has schema_version 99"),
        ({"signals": {"planet/x": {}}}, "cannot be read"),
        ({"signals": {"node/x": {}}}, "cannot be read"),
        ({"snapshots": {"x": {"rows": 1}}}, "cannot be read"),
    ],
)
def test_a_damaged_record_is_an_error(damage: dict[str, object], words: str) -> None:
    record = {**planned(*ALL).record(), **damage}
    with pytest.raises(PlanError) as raised:
        BaseRelease.from_record(3, record)
    assert raised.value.code == "P009"
    assert "release r3" in raised.value.message
    assert words in raised.value.message


def test_json_is_complete_and_plain() -> None:
    base, store = released(planned(CORE, VIEWS))
    plan = planned(*ALL, base=base, store=store)
    found = json.loads(json.dumps(to_json(plan), allow_nan=False))
    assert found["schema_version"] == 1
    assert (found["plan_id"], found["base"], found["category"]) == (plan.id, "r1", "retrain")
    assert found["counts"] == {"added": 3, "changed": 0, "removed": 0, "unchanged": 7}
    assert found["changes"][0] == {
        "action": "added",
        "kind": "node",
        "name": "skill",
        "category": "retrain",
        "owner": "skills@example.com",
        "place": "signal_branches/skills.yaml:8:3",
        "fields": [],
    }
    assert found["stages"] == stages_json(plan.stages)
    assert set(found["stages"][0]) == {
        "name", "kind", "subject", "action", "fingerprint", "what", "why", "inputs", "estimate",
    }  # fmt: skip
    assert found["conflicts"] == []
    assert found["deny_columns"] == ["email"]
    assert not found["nothing_changed"]


@pytest.mark.parametrize(
    ("texts", "code", "words"),
    [
        ([CORE.replace("status: ready", "status: draft")], "P007", "no ready branch declares a node type"),
        ([CORE], "P008", "no ready branch declares an objective"),
        ([CORE, VIEWS, SKILLS.replace(", unknown: create", "")], "P007", "nothing brings nodes of type 'skill'"),
        ([CORE.replace("kind: entity", "kind: attribute"), VIEWS], "P008", "no node type is an entity"),
    ],
)
def test_what_cannot_be_planned(texts: list[str], code: str, words: str) -> None:
    with pytest.raises(PlanError) as raised:
        planned(*texts)
    assert raised.value.code == code
    assert words in raised.value.message
    assert raised.value.hint


def test_planning_imports_nothing_heavy() -> None:
    modules = ["merge", "plan", "render", "estimate", "error_pages", "types"]
    code = "import sys\n" + "".join(f"import star_platform.planning.{name}\n" for name in modules)
    code += (
        "print(sorted(set(sys.modules) & {'torch','feast','ibis','duckdb','pandas','numpy','pyarrow','sqlalchemy'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
