"""Entities are cut by what the graph of the new release says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from star_platform.compat.slices import degrees, slicings

from .worlds import marketplace


def test_parts_by_degree_cohort_and_birth(tmp_path: Path) -> None:
    graph = marketplace(tmp_path, range(1000), [f"job-{i}" for i in range(40)])
    shuffled = np.random.default_rng(0).permutation(1000)[:900]
    by = {each.kind: each for each in slicings(graph, "member", pa.array([*shuffled.tolist(), 5000]))}
    assert set(by) == {"degree", "newest", "cohort region"}

    degree = degrees(graph, "member")
    assert degree.sum() == 5000
    labels = by["degree"].labels
    assert labels[0] == "0"
    for label, chosen in by["degree"].parts():
        low, _, high = label.partition("-")
        of = degree[shuffled[chosen[:900]]]
        assert ((of >= int(low)) & (of <= int(high or low))).all(), label
    assert (by["degree"].codes[:900] >= 0).all()
    assert by["degree"].codes[900] == -1  # not in the graph

    ((label, newest),) = by["newest"].parts()
    assert label == "last 10% to come"
    np.testing.assert_array_equal(newest[:900], shuffled >= 900)

    regions = dict(by["cohort region"].parts())
    np.testing.assert_array_equal(regions["north"][:900], shuffled % 3 == 1)
    assert by["cohort region"].codes.min() == -1


def test_deciles_hold_about_as_many_each(tmp_path: Path) -> None:
    graph = marketplace(tmp_path, range(3000), range(200))
    (degree, *_) = slicings(graph, "job", graph.ids("job"))
    sizes = [chosen.sum() for _, chosen in degree.parts()][1:]
    assert len(sizes) >= 8
    assert max(sizes) < 60


def test_a_type_without_edges_or_outside_the_graph_has_no_deciles(tmp_path: Path) -> None:
    graph = marketplace(tmp_path, range(100), range(10))
    assert slicings(graph, "course", pa.array([1, 2])) == ()
