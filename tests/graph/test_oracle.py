"""Compile against a slow oracle in plain Python, on random inputs with duplicates, nulls, strangers and opt-outs."""

from __future__ import annotations

import math
import random
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_platform.signals.model import LinkPrediction, OptOut, Weight

from .world import World, as_rows, content, float32, micros

DAY = 86_400_000_000


@dataclass(frozen=True)
class Case:
    rows: list[tuple[Any, Any, int | None, float | None, bool | None]]
    known_src: set[Any]
    known_dst: set[Any]
    out: set[Any]
    dedupe: str
    aggregate: str | None
    dated: bool
    labelled: bool
    window: bool
    src_unknown: str
    dst_unknown: str


members = st.sampled_from([f"m{i}" for i in range(9)])
jobs = st.integers(-3, 6)
times = st.none() | st.integers(0, 4).map(lambda day: day * DAY) | st.integers(0, 10 * DAY)
weights = st.none() | st.sampled_from([0.0, -0.0, 1.5, -2.0, 0.1, 1e9]) | st.floats(-5, 5, width=32)

cases = st.builds(
    Case,
    rows=st.lists(
        st.tuples(st.none() | members, st.none() | jobs, times, weights, st.none() | st.booleans()), max_size=70
    ),
    known_src=st.sets(members, min_size=1),
    known_dst=st.sets(jobs, min_size=1),
    out=st.sets(members, max_size=2),
    dedupe=st.sampled_from(["event", "pair", "none"]),
    aggregate=st.sampled_from([None, "sum", "mean", "max", "min", "count", "last"]),
    dated=st.booleans(),
    labelled=st.booleans(),
    window=st.booleans(),
    src_unknown=st.sampled_from(["drop", "create"]),
    dst_unknown=st.sampled_from(["drop", "create"]),
)


def compile_case(case: Case, root: Path, *, threads: int = 2, seed: int | None = None) -> World:
    rows = list(case.rows)
    if seed is not None:
        random.Random(seed).shuffle(rows)
    columns = list(zip(*rows, strict=True)) if rows else [[], [], [], [], []]
    world = World(root, threads=threads)
    world.write("members", {"id": pa.array(sorted(case.known_src), pa.string())})
    world.write("jobs", {"id": pa.array(sorted(case.known_dst), pa.int16())})
    world.write("gone", {"who": pa.array(sorted(case.out), pa.string())})
    world.write(
        "views",
        {
            "m": pa.array(columns[0], pa.string()),
            "j": pa.array(columns[1], pa.int64()),
            "t": micros(columns[2]),
            "w": pa.array(columns[3], pa.float64()),
            "l": pa.array(columns[4], pa.bool_()),
        },
    )
    world.node("member", "members", "id").node("job", "jobs", "id")
    world.add("opt_out", "test", OptOut(source="gone", key="who", node="member"))
    weight = None
    if case.aggregate is not None:
        weight = Weight(column="w" if case.aggregate != "count" else None, aggregate=case.aggregate)
    world.edge(
        "views",
        "views",
        ("member", "m"),
        ("job", "j"),
        src_unknown=case.src_unknown,
        dst_unknown=case.dst_unknown,
        timestamp="t" if case.dated else None,
        window="2d" if case.dated and case.window else None,
        weight=weight,
        dedupe=case.dedupe,
    )
    if case.labelled:
        world.add("objective", "o", LinkPrediction(kind="link-prediction", edge="views", label="l"))
    return world


def oracle(case: Case) -> tuple[list[Any], list[Any], list[tuple[Any, ...]], dict[str, int]]:
    """Members, jobs, edges in storage order, and counts of dropped rows."""
    dropped: dict[str, int] = defaultdict(int)
    rows = case.rows
    if case.dated and case.window:
        whole = [t for m, j, t, _, _ in rows if m is not None and j is not None and t is not None]
        start = max(whole) - 2 * DAY if whole else None
        kept = [row for row in rows if start is None or row[2] is None or row[2] >= start]
        dropped["window"] = len(rows) - len(kept)
        rows = kept
    made_m, made_j = set(), set()
    for m, j, t, _, _ in rows:
        if m is not None and j is not None and (t is not None or not case.dated):
            made_m |= {m} if case.src_unknown == "create" else set()
            made_j |= {j} if case.dst_unknown == "create" else set()
    member_ids = sorted((case.known_src | made_m) - case.out)
    job_ids = sorted(case.known_dst | made_j)
    groups: dict[Any, list[Any]] = defaultdict(list)
    for number, (m, j, t, w, label) in enumerate(rows):
        if m is None or j is None:
            dropped["null_key"] += 1
        elif case.dated and t is None:
            dropped["null_timestamp"] += 1
        elif m in case.out:
            dropped["opted_out"] += 1
        elif m not in member_ids:
            dropped["unknown_src"] += 1
        elif j not in job_ids:
            dropped["unknown_dst"] += 1
        else:
            time = t if case.dated else None
            group: tuple[Any, ...] = (m, j)
            group += (time,) if case.dedupe == "event" else (number,) if case.dedupe == "none" else ()
            groups[group].append((time or 0, -math.inf if w is None else w, w, label))
    edges = []
    for (m, j, *_), found in groups.items():
        found.sort(key=lambda row: row[:2])
        labels = [-1 if row[3] is None else int(row[3]) for row in found]
        edges.append(
            (
                job_ids.index(j),
                found[-1][0] if case.dated else None,
                member_ids.index(m),
                combined([row[2] for row in found], case.aggregate),
                *([max(labels)] if case.labelled else []),
            )
        )
        dropped["duplicate"] += len(found) - 1
    return member_ids, job_ids, sorted(edges, key=lambda e: tuple(-1 if x is None else x for x in e)), dropped


def combined(values: list[float | None], aggregate: str | None) -> float | None:
    valid = [value for value in values if value is not None]
    if aggregate is None:
        return None
    if aggregate == "count":
        return float(len(values))
    if not valid:
        return 0.0
    functions: dict[str, Any] = {"sum": sum, "max": max, "min": min, "last": lambda v: v[-1]}
    if aggregate == "mean":
        return float32(sum(valid) / len(valid))
    return float32(functions[aggregate](valid))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases)
def test_compile_equals_the_oracle(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = compile_case(case, Path(folder))
        graph = world.graph()
        member_ids, job_ids, edges, dropped = oracle(case)
        assert graph.ids("member").to_pylist() == member_ids
        assert graph.ids("job").to_pylist() == job_ids
        forward = as_rows(graph, "views")
        assert forward == sorted(forward, key=lambda e: tuple(-1 if x is None else x for x in e[:3]))
        assert sorted(forward, key=lambda e: tuple(-1 if x is None else x for x in e)) == edges
        counts = graph.manifest["edges"]["views"]["dropped"]
        assert {reason: n for reason, n in counts.items() if n} == {reason: n for reason, n in dropped.items() if n}
        assert graph.manifest["edges"]["views"]["edges"] + sum(counts.values()) == len(case.rows)
        backward = [(s, t, d, *rest) for d, t, s, *rest in as_rows(graph, "rev_views")]
        assert sorted(backward, key=str) == sorted(forward, key=str)
        world.engine.close()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases, st.integers(0, 1000))
def test_same_rows_in_any_order_and_any_number_of_threads_give_the_same_bytes(case: Case, seed: int) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        first, second = compile_case(case, Path(one), threads=1), compile_case(case, Path(two), threads=2, seed=seed)
        assert content(first.graph().path) == content(second.graph().path)
        first.engine.close()
        second.engine.close()
