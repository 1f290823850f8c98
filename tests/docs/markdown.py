"""What the tests of the pages look at: Markdown files, their fenced blocks and links, and the project's settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.conftest import REPOSITORY

PATTERNS = ("*.md", "docs/**/*.md", "examples/*/*.md", "changelog.d/*.md", "benchmarks/*.md")
_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[a-z]+(?: of)?: \S+) -->\n)?^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Fence:
    """A fenced block; `mark` is the comment on the line above, such as `fragment of: branch`."""

    page: Path
    line: int
    language: str
    text: str
    mark: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    return sorted({path for pattern in PATTERNS for path in REPOSITORY.glob(pattern)})


def name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def fences(page: Path) -> list[Fence]:
    text = page.read_text(encoding="utf-8")
    return [
        Fence(page, text.count("\n", 0, found.start("language")) + 1, found["language"], found["text"], found["mark"])
        for found in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def yaml_fences() -> Iterator[Fence]:
    for page in pages():
        yield from (fence for fence in fences(page) if fence.language == "yaml")


def parsed(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def merged(base: Any, other: Any) -> Any:
    """`other` laid over `base`, mapping by mapping."""
    if not (isinstance(base, dict) and isinstance(other, dict)):
        return other
    return {**base, **{key: merged(base.get(key), value) for key, value in other.items()}}
