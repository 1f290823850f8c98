"""The committed JSON Schema of star.yaml is current, is draft-07, and agrees with what is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from pydantic import ValidationError
from ruamel.yaml import YAML

from star_platform.cli.app import main
from star_platform.gnn.presets import PRESETS
from star_platform.project import ProjectFile
from star_platform.project.schema import STAR_SCHEMA_FILE, star_schema, star_schema_text
from tests.conftest import REPOSITORY

COMMITTED = sorted(
    path for pattern in ("star.yaml", "examples/*/star.yaml") for path in REPOSITORY.glob(pattern) if path.is_file()
)
WRONG: dict[str, dict[str, Any]] = {
    "unknown key": {"dims": 64},
    "unknown preset": {"preset": "star-dim-300"},
    "unknown choice": {"encoder": "gcn"},
    "too small": {"dim": 1},
    "no mapping of numbers": {"fan_outs": [{"views": "many"}]},
    "too many hops": {"fan_outs": [1, 1, 1, 1, 1]},
    "unknown key of a section": {"adaptive": {"on": True}},
}


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    return Draft7Validator(star_schema())


def parsed(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def test_the_committed_schema_is_current() -> None:
    """When this fails: make schema"""
    assert (REPOSITORY / STAR_SCHEMA_FILE).read_text(encoding="utf-8") == star_schema_text()


def test_it_is_a_draft_07_schema_without_what_editors_lack() -> None:
    Draft7Validator.check_schema(star_schema())
    assert all(word not in star_schema_text() for word in ("prefixItems", "$defs", "discriminator", '"null"'))


def test_fields_are_explained_and_presets_listed() -> None:
    training = star_schema()["definitions"]["TrainingConfig"]["properties"]
    assert training["strategy"]["description"].startswith("Which neighbours earlier than the example")
    assert training["preset"]["enum"] == list(PRESETS)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_every_committed_file_is_valid_and_names_the_schema(path: Path, validator: Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(parsed(path))] == []
    mark, _, target = path.read_text(encoding="utf-8").splitlines()[0].partition("$schema=")
    assert mark == "# yaml-language-server: "
    assert (path.parent / target).resolve() == REPOSITORY / STAR_SCHEMA_FILE


def test_init_writes_a_file_that_names_the_schema_beside_it(tmp_path: Path, validator: Draft7Validator) -> None:
    assert main(["init", str(tmp_path / "market")]) == 0
    path = tmp_path / "market" / "star.yaml"
    assert [error.message for error in validator.iter_errors(parsed(path))] == []
    target = path.read_text(encoding="utf-8").splitlines()[0].partition("$schema=")[2]
    assert (path.parent / target).read_text(encoding="utf-8") == star_schema_text()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_spelled_out(name: str, validator: Draft7Validator) -> None:
    settings = ProjectFile.model_validate({"project": "p", "training": {"preset": name}}).training
    explicit = {key: value for key, value in settings.model_dump(mode="json").items() if value is not None}
    for training in ({"preset": name}, explicit):
        assert [error.message for error in validator.iter_errors({"project": "p", "training": training})] == []


@pytest.mark.parametrize("training", WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_shape_is_wrong_by_the_schema(training: dict[str, Any], validator: Draft7Validator) -> None:
    assert list(validator.iter_errors({"project": "p", "training": training}))
    with pytest.raises(ValidationError):
        ProjectFile.model_validate({"project": "p", "training": training})
