"""The committed JSON Schema is current, is draft-07, and agrees with the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from star_platform.cli.init import BRANCH_YAML
from star_platform.signals.schema import SCHEMA_FILE, branch_schema, schema_text
from tests.conftest import REPOSITORY

SHAPE_CODES = {"S010", "S011", "S012", "S013", "S015", "S016", "S017", "S018", "S019", "S020", "S021", "S022"}
MALFORMED = Path(__file__).parent / "malformed"
SHAPE_CASES = sorted(path for path in MALFORMED.glob("*.yaml") if path.name[:4] in SHAPE_CODES)
BEYOND_JSON = {"S017-weight-infinite"}
"""Infinity is no JSON number, so no schema can refuse it."""


def parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    return Draft7Validator(branch_schema())


def test_the_committed_schema_is_current() -> None:
    """When this fails: python -m star_platform.signals.schema"""
    assert (REPOSITORY / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text()


def test_it_is_a_draft_07_schema_without_what_editors_lack() -> None:
    Draft7Validator.check_schema(branch_schema())
    text = schema_text()
    assert all(word not in text for word in ("prefixItems", "$defs", "discriminator", '"null"'))


def test_fields_are_explained() -> None:
    edge = branch_schema()["definitions"]["Edge"]["properties"]
    assert edge["window"]["description"].startswith("Keep only edges within this span")
    feature = branch_schema()["definitions"]["TextFeature"]["properties"]
    assert "valid_from" in feature
    assert feature["valid_from"]["description"]


def example_branches() -> list[Path]:
    folders = [REPOSITORY / "signal_branches", *REPOSITORY.glob("examples/*/signal_branches")]
    return sorted(path for folder in folders for path in folder.glob("*.yaml"))


def test_every_example_branch_is_valid(validator: Draft7Validator) -> None:
    texts = [BRANCH_YAML, *(path.read_text(encoding="utf-8") for path in example_branches())]
    for text in texts:
        assert [error.message for error in validator.iter_errors(parsed(text))] == []


@pytest.mark.parametrize("path", SHAPE_CASES, ids=lambda path: path.stem)
def test_what_is_wrong_in_shape_is_wrong_by_the_schema(path: Path, validator: Draft7Validator) -> None:
    errors = list(validator.iter_errors(parsed(path.read_text(encoding="utf-8"))))
    assert bool(errors) == (path.stem not in BEYOND_JSON)


def test_the_schema_is_json() -> None:
    assert json.loads(schema_text())["$schema"] == "http://json-schema.org/draft-07/schema#"
