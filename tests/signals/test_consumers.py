"""Consumer files have the same errors as branch files."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from star_platform.errors import SignalErrors
from star_platform.signals.consumers import Consumer, load_consumers
from star_platform.signals.schema import CONSUMER_SCHEMA_FILE, consumer_schema, consumer_schema_text
from tests.conftest import REPOSITORY

GOOD = "consumer: job-ranker\nowner: ranking@example.com\nnodes: [member, job]\nrelease: r3\n"


def test_a_consumer(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (consumer,) = load_consumers(tmp_path, nodes={"member", "job"})
    assert consumer == Consumer(
        consumer="job-ranker", owner="ranking@example.com", nodes=("member", "job"), release="r3"
    )


FULL = (
    GOOD
    + """\
contact: "#ranking"
sunset: 2027-01-31
compat: mapped
margin: 0.002
scorer: {onnx: models/ranker.onnx}
cases: {path: data/cases.parquet, label: clicked, keys: {member: member_id, job: job_id}, columns: [age], cluster: who}
"""
)


def test_everything_that_a_consumer_may_say(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FULL)
    (consumer,) = load_consumers(tmp_path, nodes={"member", "job"})
    assert consumer.scorer is not None
    assert consumer.cases is not None
    assert (consumer.contact, consumer.sunset, consumer.compat, consumer.margin) == (
        "#ranking",
        "2027-01-31",
        "mapped",
        0.002,
    )
    assert (consumer.scorer.onnx, consumer.cases.keys, consumer.cases.columns, consumer.cases.cluster) == (
        "models/ranker.onnx",
        {"member": "member_id", "job": "job_id"},
        ("age",),
        "who",
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("compat: mapped", "compat: maped", ["S013 7:9"]),
        ("margin: 0.002", "margin: 0", ["S017 8:9"]),
        ("margin: 0.002", "margin: 1", ["S017 8:9"]),
        ("2027-01-31", "31.1.2027", ["S017 6:9"]),
        ("2027-01-31", "2027-02-31", ["S017 6:9"]),
        ("2027-01-31", "20270131", ["S012 6:9"]),
        ("{onnx: models/ranker.onnx}", "{}", ["S057 9:1"]),
        ("{onnx: models", "{python: 'a.b:c', onnx: models", ["S057 9:1"]),
        ("{onnx: models/ranker.onnx}", "{python: ranker.py}", ["S017 9:18"]),
        ("{onnx: models/ranker.onnx}", "{pickle: ranker.pkl}", ["S010 9:10"]),
        ("release: r3", "release: latest", ["S058 9:1"]),
        ("scorer: {onnx: models/ranker.onnx}\n", "", ["S059 9:1"]),
        ("job: job_id", "company: company_id", ["S060 10:77"]),
        ("label: clicked, ", "", ["S011 10:1"]),
        ("keys: {member: member_id, job: job_id}", "keys: {}", ["S018 10:57"]),
    ],
)
def test_what_can_be_wrong_with_the_rest(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert old in FULL
    (tmp_path / "a.yaml").write_text(FULL.replace(old, new))
    with pytest.raises(SignalErrors) as caught:
        load_consumers(tmp_path, nodes={"member", "job"})
    found = [f"{item.code} {item.place.line}:{item.place.column}" for item in caught.value.diagnostics if item.place]
    assert found == expected


def test_the_committed_schema_agrees(tmp_path: Path) -> None:
    """When the first line fails: python -m star_platform.signals.schema"""
    assert (REPOSITORY / CONSUMER_SCHEMA_FILE).read_text(encoding="utf-8") == consumer_schema_text()
    Draft7Validator.check_schema(consumer_schema())
    validator = Draft7Validator(consumer_schema())
    files = [path.read_text(encoding="utf-8") for path in REPOSITORY.glob("**/consumers/*.yaml")]
    for text in (GOOD, FULL, *files):
        assert (
            list(validator.iter_errors(YAML(typ="safe", pure=True).load(text.replace("2027-01-31", "'2027-01-31'"))))
            == []
        )
    for wrong in ("compat: maybe", "margin: 2", "contcat: x", "scorer: {pickle: a}"):
        assert list(validator.iter_errors(YAML(typ="safe", pure=True).load(f"{GOOD}{wrong}\n"))), wrong
    assert consumer_schema()["properties"]["contact"]["description"].startswith("Where to reach the owner")


def test_no_folder_means_no_consumers(tmp_path: Path) -> None:
    assert load_consumers(tmp_path / "absent") == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("release: r3", "release: v3", ["S055 4:10"]),
        ("release: r3", "release: r0", ["S055 4:10"]),
        ("release: r3", "relase: r3", ["S010 4:1"]),
        ("[member, job]", "[]", ["S018 3:8"]),
        ("[member, job]", "[member, jop]", ["S014 3:17"]),
        ("[member, job]", "[member, member]", ["S046 3:17"]),
        ("[member, job]", "member", ["S012 3:8"]),
        ("job-ranker", "Job Ranker", ["S015 1:11"]),
        ("owner: ranking@example.com\n", "", ["S011 1:1"]),
    ],
)
def test_what_can_be_wrong(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    (tmp_path / "a.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(SignalErrors) as caught:
        load_consumers(tmp_path, nodes={"member", "job"})
    found = [f"{item.code} {item.place.line}:{item.place.column}" for item in caught.value.diagnostics if item.place]
    assert found == expected


def test_two_consumers_with_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    with pytest.raises(SignalErrors, match="also declared in"):
        load_consumers(tmp_path)
