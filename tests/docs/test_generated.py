"""Pages that repeat the code are what the code says now."""

from __future__ import annotations

import importlib.util
import re
import sys
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from star_platform.cli.explain import all_pages
from star_platform.signals import model
from star_platform.signals.consumers import Consumer
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_generate"] = module
    spec.loader.exec_module(module)
    return module


generate: Any = _generator()


@pytest.mark.parametrize("page", sorted(generate.PAGES))
def test_generated_pages_are_current(page: str) -> None:
    """When this fails: make docs"""
    assert (DOCS / page).read_text(encoding="utf-8") == generate.pages()[page]


def test_every_key_of_star_yaml_is_explained_once() -> None:
    beside_the_field = {key for key, text in generate.documented_keys().items() if text}
    elsewhere = set(generate.MEANINGS)
    assert beside_the_field | elsewhere == set(generate.documented_keys())
    assert beside_the_field & elsewhere == set(), "explained in the code by now: delete them from docs/generate.py"


def test_errors_page_lists_every_code() -> None:
    listed = re.findall(r"^\| ([A-Z]\d{3}) \|", (DOCS / "errors.md").read_text(encoding="utf-8"), re.M)
    assert listed == list(all_pages())


def declarations() -> list[type[BaseModel]]:
    found = [item for item in vars(model).values() if isinstance(item, type) and issubclass(item, model.Declaration)]
    return [item for item in found if item is not model.Declaration]


@pytest.mark.parametrize("declaration", declarations(), ids=lambda item: item.__name__)
def test_branches_page_names_every_field(declaration: type[BaseModel]) -> None:
    quoted = re.findall(r"`([^`\n]+)`", (DOCS / "branches.md").read_text(encoding="utf-8"))
    assert set(declaration.model_fields) <= set(quoted)


def test_feast_page_names_every_field_of_a_consumer() -> None:
    page = (DOCS / "feast.md").read_text(encoding="utf-8")
    assert [field for field in Consumer.model_fields if f"`{field}`" not in page] == []
