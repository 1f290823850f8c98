"""What docs/lifecycle.md shows is what the verbs print, and what docs/compat.md shows as a scorer scores."""

from __future__ import annotations

import importlib
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from star_platform.cli.lifecycle_text import who_uses_text
from star_platform.compat.config import CompatConfig
from star_platform.compat.scorers import open_scorer
from star_platform.lifecycle.model import Judgement, ServingMap
from star_platform.lifecycle.readers import Facts, who_uses
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Consumer, Usage
from tests.conftest import REPOSITORY
from tests.docs.markdown import fences, parsed

DOCS = REPOSITORY / "docs"
MARK = "fragment of: star.yaml"


def test_who_uses_prints_what_the_page_shows() -> None:
    facts = Facts(
        release=1,
        state=ReleaseState.DEPRECATED,
        active=2,
        nodes=frozenset({"member", "job"}),
        declared=[
            Consumer("job-ranker", "feed-ranking@example.com", ("member",), "r1"),
            Consumer("people-search", "search@example.com", ("member",), "r2"),
        ],
        usage=[
            Usage("job-ranker", "member", 1, date(2026, 11, 20), 48_210, 964_200),
            Usage("people-search", "member", 1, date(2026, 11, 2), 120, 2_400),
            Usage("people-search", "member", 2, date(2026, 11, 20), 5_210, 104_200),
            Usage("weekly-mail", "member", 1, date(2026, 11, 16), 7, 350_000),
        ],
        today=date(2026, 11, 21),
        quiet_days=14,
        maps={"member": ServingMap("member", 2, 1, "a", Judgement("unproven", ("member: judged by geometry alone",)))},
    )
    shown = [fence.text for fence in fences(DOCS / "lifecycle.md") if fence.text.startswith("r1  ")]
    assert shown == [who_uses_text(who_uses(facts)) + "\n"]


@pytest.mark.parametrize(("page", "words"), [("lifecycle.md", ReleaseState), ("compat.md", ("pass", "unproven"))])
def test_the_page_has_a_row_for_each(page: str, words: type[ReleaseState] | tuple[str, ...]) -> None:
    text = (DOCS / page).read_text()
    assert [word for word in words if f"| `{word}` |" not in text] == []


def test_the_limits_of_the_page_are_the_defaults() -> None:
    (shown,) = [parsed(fence.text)["compat"] for fence in fences(DOCS / "compat.md") if fence.mark == MARK]
    defaults = CompatConfig()
    assert {name: getattr(defaults.gate, name) for name in shown["gate"]} == shown["gate"]
    assert {"serve": defaults.serve, "method": defaults.method}.items() <= shown.items()


def test_the_scorer_of_the_page_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [fence.text for fence in fences(DOCS / "compat.md") if fence.language == "python"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    np.savez("models/feed.npz", bilinear=np.eye(3, dtype=np.float32), hour=np.zeros(24))
    (tmp_path / "scorer_of_the_page.py").write_text(code)
    importlib.invalidate_caches()
    scorer = open_scorer({"python": "scorer_of_the_page:load"}, tmp_path)
    vectors = {"member": np.ones((2, 3), np.float32), "job": np.array([[1, 1, 1], [-1, -1, -1]], np.float32)}
    scores = scorer.score(vectors, {"hour_of_day": np.array([3, 4])})
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-3.0, 3.0])), rtol=1e-6)
