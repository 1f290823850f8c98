"""No edge at or after a seed's moment reaches its sample, and none from before its window; and the check notices.

The sampler's comparisons of times are turned into their neighbours in a copy of the source, which is compiled and
sampled from: each such mutant must fail the very property that the sampler passes.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from star_platform.graph import _sampling_kernels, _validity_kernels, sampling
from star_platform.graph.adjacency import Adjacency
from star_platform.graph.storage import EdgeType

from .sampling_cases import COUNTS, STRATEGIES, Case, assert_equal, cases
from .sampling_oracle import Relation, adjacency_of

MUTANTS = {
    "none": ("<", "<"),
    "an edge at the moment itself is seen": ("< bounds[m])", "<= bounds[m])"),
    "the newest edge is seen at its own time": ("<= newest", "< newest"),
    "a window begins a microsecond too early": ("bounds[m] - window if", "bounds[m] - window - 1 if"),
    "an edge at the window's beginning is not seen": ("bounds[m] - window if", "bounds[m] - window + 1 if"),
    "undated edges fall out of a window": ("heads[lists] = min(np.int64(undated[first + r]), n)", "heads[lists] = 0"),
}


def the_property(examples: int) -> None:
    """Every case against the oracle: any strategy, window, fan-outs, budget and layout, one moment or many."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def holds(case: Case) -> None:
        case.check()

    holds()


def _compiled(folder: Path, name: str, before: str, after: str) -> Any:
    """The sampler's kernels, compiled from a copy in which the text `before` is `after`."""
    times = Path(_validity_kernels.__file__).read_text()
    assert before == after or times.count(before) == 1, "the source has changed: adapt the mutant"
    (folder / f"{name}_validity.py").write_text(times.replace(before, after))
    draws = Path(_sampling_kernels.__file__).read_text()
    imported = "from star_platform.graph._validity_kernels import"
    assert draws.count(imported) == 1
    (folder / f"{name}_draws.py").write_text(draws.replace(imported, f"from {name}_validity import"))
    return importlib.import_module(f"{name}_draws")


@pytest.mark.parametrize("mutant", list(MUTANTS))
def test_a_comparison_that_is_off_by_one_is_caught(
    mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"mutant_{list(MUTANTS).index(mutant)}"
    monkeypatch.syspath_prepend(tmp_path)
    try:
        kernels = _compiled(tmp_path, name, *MUTANTS[mutant])
        monkeypatch.setattr(sampling, "kernels", kernels)
        if mutant == "none":  # the machinery itself is not what fails
            the_property(100)
            return
        with pytest.raises(AssertionError):
            the_property(1000)
    finally:
        for part in ("validity", "draws"):
            sys.modules.pop(f"{name}_{part}", None)


def test_the_property_holds() -> None:
    the_property(400)


SPY = COUNTS["member"] - 1


@settings(max_examples=300, deadline=None)
@given(case=cases(), data=st.data())
def test_an_injected_future_edge_changes_nothing(case: Case, data: Any) -> None:
    """Edges at or after the last moment of a batch, from a node that nothing else leads to: the same sample."""
    relations = [
        Relation(each.type, each.dated, [e for e in each.edges if not _touches(each.type, e)])
        for each in case.relations
    ]
    batch = [(gid, moment, partner) for gid, moment, partner in case.batch if gid != _gid(SPY)]
    last = max((moment for _, moment, _ in batch), default=0)
    future = [
        replace_edges(each, data.draw(_edges_from_the_spy(each.type, last))) if each.dated else each
        for each in relations
    ]
    case = replace(case, batch=batch, relations=relations)
    before, after = case.sample(), case.sample(future)
    assert _gid(SPY) not in after.nodes
    assert_equal(before, after)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("window", [None, 3])
def test_the_same_edge_a_microsecond_earlier_is_seen(strategy: Any, window: int | None) -> None:
    """What the test above injects does reach a sample once it is not the future."""
    views = EdgeType("member", "views", "job")
    case = Case([], [(0, 5, -1)], [10], "joint", strategy, window, "ragged", 0)
    for time, seen in ((4, True), (5, False), (6, False), (2, True), (1, window is None)):
        sample = case.sample([Relation(views, True, [(SPY, 0, time)])])
        assert (_gid(SPY) in sample.nodes) == seen, time


def replace_edges(relation: Relation, more: list[tuple[int, int, int]]) -> Relation:
    return Relation(relation.type, relation.dated, relation.edges + more)


def _edges_from_the_spy(name: EdgeType, last: int) -> Any:
    """Up to 20 edges out of the spy, from the last moment on; none where members are not the source."""
    if name.src != "member":
        return st.just([])
    ends = st.tuples(st.just(SPY), st.integers(0, COUNTS[name.dst] - 1), st.integers(last, last + 3))
    return st.lists(ends, min_size=1, max_size=20)


def _touches(name: EdgeType, edge: tuple[int, int, int]) -> bool:
    return (name.src == "member" and edge[0] == SPY) or (name.dst == "member" and edge[1] == SPY)


def _gid(member: int) -> int:
    return COUNTS["job"] + member


@settings(max_examples=150, deadline=None)
@given(case=cases(), guess=st.sampled_from([0.0, 0.3, 1.0]))
def test_where_a_search_begins_does_not_change_what_it_finds(case: Case, guess: float) -> None:
    expected = case.sample()
    with mock.patch.object(Adjacency, "shares_before", lambda _, moments: np.full(len(moments), guess)):
        assert_equal(expected, case.sample())


@given(st.lists(st.integers(0, 50), max_size=300), st.integers(-1, 51))
def test_the_timeline_says_about_which_share_of_edges_is_before_a_moment(times: list[int], moment: int) -> None:
    views = EdgeType("member", "views", "job")
    edges = [Relation(views, True, [(0, 0, time) for time in times]), Relation(views.reversed, False, [(0, 0, 0)])]
    (found,) = adjacency_of(COUNTS, edges, "joint").shares_before(np.array([moment]))
    assert found == pytest.approx(sum(time < moment for time in times) / max(1, len(times)))
