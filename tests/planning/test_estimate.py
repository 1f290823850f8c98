"""Estimates: constants until something was measured, then the measurement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from star_platform.planning.estimate import NOTHING, START_SECONDS, Estimate, Sizes, estimate, rates, total
from star_platform.planning.merge import merge
from star_platform.planning.snapshot import take_snapshots
from tests.planning.market import CORE, SETTINGS, SKILLS, TABLES, VIEWS, Tables, load, planned


def sizes(scale: int = 1) -> Sizes:
    tables: Any = {file: (rows * scale, columns) for file, (rows, columns) in TABLES.items()}
    spec = merge([load(CORE), load(VIEWS), load(SKILLS)])
    return Sizes(spec, take_snapshots(spec, Tables(tables)), SETTINGS.training, SETTINGS.text)


def test_sizes_come_from_snapshots() -> None:
    found = sizes()
    assert (found.nodes("member"), found.nodes("job"), found.nodes("skill")) == (1000, 200, 500)
    assert found.entities == 1200
    assert found.all_edges == 2 * 25_000
    assert found.examples == 15_000


def test_vectors_and_edges_take_what_their_arrays_take() -> None:
    found = sizes()
    assert estimate("embed", None, found, {}).store_bytes == 1200 * 64 * 4
    dated = estimate("edges", "member-views-job", found, {}).store_bytes
    assert dated == 2 * 20_000 * (4 + 8 + 4) + 8 * 1200
    plain = estimate("edges", "member-has-skill", found, {}).store_bytes
    assert plain == 2 * 5_000 * 4 + 8 * 1500
    assert estimate("text", "job.title", found, {}).store_bytes == 200 * 128 * 4


def test_more_data_costs_more() -> None:
    small, large = sizes(), sizes(1000)
    for stage in planned(CORE, VIEWS, SKILLS).stages:
        one, other = (estimate(stage.kind, stage.subject, size, {}) for size in (small, large))
        if one.units:
            assert other.units == 1000 * one.units
            assert other.seconds > one.seconds
            assert other.memory_bytes >= one.memory_bytes


def test_measured_rates_replace_constants() -> None:
    found = sizes()
    measured = estimate("train", None, found, {"train": 0.001})
    assert measured.units == 15_000 * 5
    assert measured.seconds == pytest.approx(START_SECONDS["train"] + 75)
    assert estimate("nodes", "member", found, {"train": 1.0}) == estimate("nodes", "member", found, {})


def test_a_transformer_is_slower_than_no_model() -> None:
    weightless = sizes()
    transformer = replace(weightless, text={"encoder": "minilm", "dim": 384})
    assert (
        estimate("text", "member.profile", transformer, {}).seconds
        > 10 * estimate("text", "member.profile", weightless, {}).seconds
    )


def test_a_text_encoder_inside_the_gnn_slows_training() -> None:
    plain = sizes()
    seconds = [
        estimate("train", None, replace(plain, text={**plain.text, **mode}), {}).seconds
        for mode in ({}, {"mode": "frozen"}, {"mode": "co-train"})
    ]
    assert seconds[0] < seconds[1] / 10 < seconds[2] / 50


def test_rates_leave_out_what_is_paid_once() -> None:
    found = rates([("train", 5.0 + 20, 1000), ("train", 5.0 + 40, 2000), ("edges", 0.05, 10), ("graph", 3.0, 0)])
    assert found == {"train": pytest.approx(0.02), "edges": 0.0}


def test_a_total_adds_time_and_takes_the_largest_memory() -> None:
    found = total([Estimate(1.5, 100, 10), Estimate(2.0, 300, 20), NOTHING])
    assert (found.seconds, found.memory_bytes, found.store_bytes) == (3.5, 300, 30)
    assert total([]) == NOTHING


def test_derived_edges_take_room_per_node_moment_and_neighbour() -> None:
    found = sizes()
    assert estimate("derive", None, found, {}).units == 0
    walks = replace(
        found, training={"strategy": "ppr", "ppr": {"snapshots": 3, "top_k": 10, "channels": [["a"], ["b"]]}}
    )
    cost = estimate("derive", None, walks, {})
    assert (cost.units, cost.unit) == (1700 * 4 * 2, "nodes")
    assert cost.store_bytes == 1700 * 4 * 2 * 10 * 16
    alike = replace(found, training={"densify": {"neighbours": 5}, "ppr": {"snapshots": 3}})
    cost = estimate("derive", None, alike, {})
    assert (cost.units, cost.store_bytes) == (1200 * 4, 1200 * 5 * 16)
    plain = estimate("train", None, found, {}).memory_bytes
    assert estimate("train", None, walks, {}).memory_bytes == plain + 1700 * 4 * 2 * 10 * 16
