"""The stage from vectors to verdicts, on spaces whose relation is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_platform.compat.compose import compose
from star_platform.compat.config import CompatConfig, CompatGate
from star_platform.compat.gate import GateConsumer
from star_platform.compat.model import CompatMap, SpaceVectors, Vectors, load_maps
from star_platform.compat.stage import Older, build_compat, gate_failures
from star_platform.graph.storage import Graph

from .test_scorers import write_module
from .worlds import factors, linear_map, marketplace, seen, space

N, JOBS = 3000, 400
MEMBERS = np.arange(N)
HIDDEN, JOB_HIDDEN = factors(N, seed=1), factors(JOBS, seed=2)
JOB_IDS = [f"job-{i}" for i in range(JOBS)]
NOISY = np.random.default_rng(9).normal(size=(N, 12)).astype(np.float32)
CONSUMER = GateConsumer("feed-ranker", "feed@example.com", ("member", "job"), 1)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return marketplace(tmp_path_factory.mktemp("graph"), range(N), JOB_IDS)


def release(number: int, dims: tuple[int, int], noise: float = 0.05) -> SpaceVectors:
    """Members in an order of their own, so that a join by row would be noticed."""
    order = np.random.default_rng(number).permutation(N)
    return space(
        number,
        {
            "member": (MEMBERS[order], seen(HIDDEN, dims[0], number, noise)[order]),
            "job": (JOB_IDS, seen(JOB_HIDDEN, dims[1], number + 50, noise)),
        },
    )


R1, R2, R3 = release(1, (12, 10)), release(2, (16, 16)), release(3, (24, 20))


def older(vectors: SpaceVectors, maps: Sequence[CompatMap] = ()) -> Older:
    return Older(vectors.release, vectors.space, vectors, tuple(maps), live=True)


def build(
    graph: Graph,
    folder: Path,
    new: SpaceVectors,
    before: Sequence[Older],
    consumers: Sequence[GateConsumer] = (),
    config: CompatConfig | None = None,
    learned: Mapping[tuple[str, int], Any] | None = None,
) -> tuple[dict[tuple[str, int], CompatMap], dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    details = build_compat(new, before, learned or {}, consumers, graph, config or CompatConfig(), folder)
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    return {(each.node, each.target): each for each in load_maps(folder)}, details


# --- maps -------------------------------------------------------------------------------------------------------------


def test_another_dimension_is_mapped_and_shown_to_be_near(graph: Graph, tmp_path: Path) -> None:
    maps, details = build(graph, tmp_path, R2, [older(R1)], [CONSUMER])
    fitted = maps["member", 1]
    assert (fitted.dims, fitted.method, fitted.via, fitted.normalise) == ((16, 12), "ridge", "direct", False)
    new, old = R2.nodes["member"], R1.nodes["member"]
    mapped = dict(zip(new.ids.to_pylist(), fitted.apply(new.vectors), strict=True))
    stored = dict(zip(old.ids.to_pylist(), old.vectors, strict=True))
    off = np.array([mapped[each] - stored[each] for each in MEMBERS])
    assert np.square(off).mean() < 0.02 * old.vectors.var(axis=0).mean()
    assert fitted.fidelity["r2"] > 0.97
    (entry,) = [item for item in details["maps"] if item["node"] == "member"]
    assert entry["figures"]["r2"] == fitted.fidelity["r2"]
    assert entry["fitted_on"] + entry["figures"]["n"] == N
    assert entry["verdict"] == "unproven"
    kinds = {part["kind"] for part in entry["figures"]["slices"]}
    assert kinds == {"degree", "newest", "cohort region"}
    assert all(part["n"] > 0 for part in entry["figures"]["slices"])
    assert details["gate"]["consumers"][0]["verdict"] == "unproven"
    assert gate_failures(details, CompatConfig()) == []


def test_what_happened_since_is_not_taken_for_a_difference_of_spaces(graph: Graph, tmp_path: Path) -> None:
    """The new model sees today's data; as of the old release it saw what the old one saw."""
    rng = np.random.default_rng(4)
    moved = {
        node: Vectors(item.ids, item.vectors + rng.normal(0, item.vectors.std(), item.vectors.shape).astype(np.float32))
        for node, item in R2.nodes.items()
    }
    today = replace(R2, nodes=moved)
    maps, details = build(graph, tmp_path / "today", today, [older(R1)])
    then, judged = build(graph, tmp_path / "then", today, [replace(older(R1), then=R2)])
    undrifted, _ = build(graph, tmp_path / "undrifted", R2, [older(R1)])
    assert maps["member", 1].fidelity["r2"] < 0.8
    assert then["member", 1].fidelity["r2"] > 0.97
    np.testing.assert_array_equal(then["member", 1].weights, undrifted["member", 1].weights)
    assert [item["verdict"] for item in details["maps"]] == ["fail", "fail"]
    assert [item["verdict"] for item in judged["maps"]] == ["unproven", "unproven"]


def test_the_same_space_is_mapped_by_identity_with_cosine_1(graph: Graph, tmp_path: Path) -> None:
    again = SpaceVectors(2, R1.space, R1.nodes)
    maps, details = build(graph, tmp_path, again, [older(R1)], [CONSUMER])
    assert maps["member", 1].method == "identity"
    assert maps["member", 1].fidelity["cosine_mean"] == pytest.approx(1.0, abs=1e-6)
    assert maps["member", 1].fidelity["overlap_10"] == 1.0
    vectors = R1.nodes["member"].vectors
    np.testing.assert_array_equal(maps["member", 1].apply(vectors), vectors)
    assert gate_failures(details, CompatConfig()) == []


def test_a_random_encoder_fails_and_nothing_of_noise_is_explained(graph: Graph, tmp_path: Path) -> None:
    noise = replace(R2, nodes={**R2.nodes, **space(2, {"member": (MEMBERS, NOISY)}).nodes})
    maps, details = build(graph, tmp_path, noise, [older(R1)], [CONSUMER])
    assert maps["member", 1].fidelity["r2"] == pytest.approx(0.0, abs=0.05)
    (sentence,) = gate_failures(details, CompatConfig())
    for said in ("feed-ranker (feed@example.com)", "r1", "member: R2", "joint-multi", "compat.keep: [r1]"):
        assert said in sentence
    assert "job:" not in sentence


def test_a_rotated_copy_is_found_by_procrustes(graph: Graph, tmp_path: Path) -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    vectors = (R1.nodes["member"].vectors @ rotation).astype(np.float32)
    rotated = space(2, {"member": (R1.nodes["member"].ids, vectors)})
    maps, _ = build(graph, tmp_path, rotated, [older(R1)], config=CompatConfig(method="procrustes"))
    assert maps["member", 1].fidelity["r2"] == pytest.approx(1.0, abs=1e-6)
    assert not maps["member", 1].bias.any()


@pytest.mark.parametrize("method", ["low-rank", "residual"])
def test_other_methods_serve_too(graph: Graph, tmp_path: Path, method: Any) -> None:
    config = CompatConfig(method=method, rank=9 if method == "low-rank" else None, residual_epochs=2, hidden=16)
    maps, details = build(graph, tmp_path, R2, [older(R1)], config=config)
    assert maps["member", 1].fidelity["r2"] > 0.95
    candidates = [each["method"] for each in next(i for i in details["maps"] if i["node"] == "member")["candidates"]]
    assert sorted(candidates) == (["low-rank"] if method == "low-rank" else ["residual", "ridge"])


def test_normalised_targets_are_noticed(graph: Graph, tmp_path: Path) -> None:
    member = R1.nodes["member"]
    unit = member.vectors / np.linalg.norm(member.vectors, axis=1, keepdims=True)
    maps, _ = build(graph, tmp_path, R2, [older(space(1, {"member": (member.ids, unit)}))])
    fitted = maps["member", 1]
    assert fitted.normalise
    lengths = np.linalg.norm(fitted.apply(R2.nodes["member"].vectors), axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)


def test_entities_with_many_neighbours_may_count_more(graph: Graph, tmp_path: Path) -> None:
    even, _ = build(graph, tmp_path / "even", R2, [older(R1)])
    weighted, _ = build(graph, tmp_path / "weighted", R2, [older(R1)], config=CompatConfig(weight="degree"))
    assert np.abs(even["member", 1].weights - weighted["member", 1].weights).max() > 1e-6
    assert weighted["member", 1].fidelity["r2"] > 0.97


def test_equal_inputs_give_equal_bytes(graph: Graph, tmp_path: Path) -> None:
    for name in ("one", "other"):
        build(graph, tmp_path / name, R2, [older(R1)], [CONSUMER])
    for file in ("maps.safetensors", "maps.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


# --- chains -----------------------------------------------------------------------------------------------------------


def test_direct_and_composed_compete_on_held_out_entities(graph: Graph, tmp_path: Path) -> None:
    to_r1, _ = build(graph, tmp_path / "r2", R2, [older(R1)])
    maps, details = build(graph, tmp_path / "r3", R3, [older(R1), older(R2, list(to_r1.values()))])
    assert set(maps) == {("member", 1), ("job", 1), ("member", 2), ("job", 2)}
    entry = next(item for item in details["maps"] if (item["node"], item["target"]) == ("member", 1))
    ways = {each["via"]: each["r2"] for each in entry["candidates"]}
    assert set(ways) == {"direct", "composed"}
    assert entry["figures"]["r2"] == max(ways.values())
    assert entry["via"] == max(ways, key=lambda way: ways[way])


def test_a_purged_release_is_served_by_the_stored_product(graph: Graph, tmp_path: Path) -> None:
    to_r1, _ = build(graph, tmp_path / "r2", R2, [older(R1)])
    purged = Older(1, R1.space, None, (), live=False)
    maps, details = build(graph, tmp_path / "r3", R3, [older(R2, list(to_r1.values())), purged], [CONSUMER])
    for node in ("member", "job"):
        stored, step = maps[node, 1], maps[node, 2]
        assert stored.via == "composed"
        np.testing.assert_allclose(stored.weights, step.weights @ to_r1[node, 1].weights, atol=1e-6)
        sequential = to_r1[node, 1].apply(step.apply(R3.nodes[node].vectors))
        np.testing.assert_allclose(stored.apply(R3.nodes[node].vectors), sequential, atol=1e-4)
        np.testing.assert_allclose(stored.weights, compose(step, to_r1[node, 1]).weights, atol=1e-6)
    entry = next(item for item in details["maps"] if (item["node"], item["target"]) == ("member", 1))
    assert entry["compared_with"] == "r1 as r2 serves it"
    assert entry["figures"]["r2"] > 0.95
    assert details["gate"]["consumers"][0]["verdict"] == "unproven"


def test_a_purged_release_that_nobody_maps_to_is_said(graph: Graph, tmp_path: Path) -> None:
    purged = Older(1, R1.space, None, (), live=False)
    maps, details = build(graph, tmp_path, R3, [older(R2), purged], [CONSUMER])
    assert ("member", 1) not in maps
    skipped = {(each["node"], each["release"]): each["reason"] for each in details["skipped"]}
    assert "no release maps to it" in skipped["member", 1]
    assert details["gate"]["consumers"][0]["verdict"] == "fail"


def test_a_narrow_release_in_between_is_warned_of(graph: Graph, tmp_path: Path) -> None:
    narrow = release(2, (5, 16))
    to_r1, _ = build(graph, tmp_path / "r2", narrow, [older(R1)])
    _, details = build(graph, tmp_path / "r3", R3, [older(R1), older(narrow, list(to_r1.values()))])
    (warning,) = details["warnings"]
    assert "r2 has 5 dimensions" in warning
    entry = next(item for item in details["maps"] if (item["node"], item["target"]) == ("member", 1))
    assert entry["via"] == "direct"


def test_what_joint_training_learned_competes_too(graph: Graph, tmp_path: Path) -> None:
    """A matrix that beats what few entities can teach is kept."""
    few = np.arange(60)
    member = R2.nodes["member"].ids.to_numpy()
    truth = np.linalg.lstsq(R2.nodes["member"].vectors[np.argsort(member)], seen(HIDDEN, 12, 1))[0]
    old = space(1, {"member": (few, seen(HIDDEN, 12, 1)[few])})
    config = CompatConfig(mode="joint-single", bias=False, ridge=10.0)
    maps, _ = build(graph, tmp_path, R2, [older(old)], config=config, learned={("member", 1): truth})
    assert maps["member", 1].method == "joint"
    assert not maps["member", 1].bias.any()


def test_residual_maps_are_not_composed_and_the_linear_one_is_used_instead(graph: Graph, tmp_path: Path) -> None:
    config = CompatConfig(method="residual", residual_epochs=2, hidden=16)
    bent = np.concatenate([HIDDEN, np.abs(HIDDEN)], axis=1)
    r2 = space(2, {"member": (MEMBERS, seen(bent, 16, 2))})
    r1 = Older(1, "space-1", None, (), live=False)
    to_r1 = linear_map(2, 1, np.eye(16)[:, :12])
    maps, _ = build(graph, tmp_path, R3, [older(r2, [to_r1]), r1], config=config)
    assert maps["member", 2].method == "residual"
    assert (maps["member", 1].method, maps["member", 1].via) == ("ridge", "composed")


# --- what is missing --------------------------------------------------------------------------------------------------


def test_node_types_of_one_side_and_strangers_are_skipped_and_said(graph: Graph, tmp_path: Path) -> None:
    old = space(1, {"member": (MEMBERS + 10**6, NOISY), "course": ([1, 2], NOISY[:2])})
    maps, details = build(graph, tmp_path, R2, [older(old)], [replace(CONSUMER, nodes=("course",))])
    assert maps == {}
    reasons = {each["node"]: each["reason"] for each in details["skipped"]}
    assert "does not have this node type" in reasons["course"]
    assert reasons["job"] == "r1 does not have it"
    assert "too few" in reasons["member"]
    (sentence,) = gate_failures(details, CompatConfig())
    assert "course: the new release does not have this node type" in sentence


def test_few_entities_are_inconclusive_with_the_number_needed(graph: Graph, tmp_path: Path) -> None:
    old = space(1, {"member": (MEMBERS[:70], seen(HIDDEN, 12, 1)[:70])})
    _, details = build(graph, tmp_path, R2, [older(old)], [replace(CONSUMER, nodes=("member",))])
    entry = details["gate"]["consumers"][0]
    assert entry["verdict"] == "inconclusive"
    assert "50 are needed" in entry["reasons"][0]
    (sentence,) = gate_failures(details, CompatConfig())
    assert "is not shown to be safe" in sentence
    assert gate_failures(details, CompatConfig(gate=CompatGate(min_rows=10, min_cosine_p5=0.5))) == []


def test_new_and_gone_entities_are_counted(graph: Graph, tmp_path: Path) -> None:
    old = space(1, {"member": (MEMBERS[100:] + 50, seen(HIDDEN, 12, 1)[100:])})
    _, details = build(graph, tmp_path, R2, [older(old)])
    (entry,) = details["maps"]
    assert (entry["new_entities"], entry["gone_entities"]) == (150, 50)


def test_only_the_last_release_may_be_served(graph: Graph, tmp_path: Path) -> None:
    config = CompatConfig(serve="last")
    maps, details = build(graph, tmp_path, R3, [older(R1), older(R2)], [CONSUMER], config)
    assert {target for _, target in maps} == {2}
    assert gate_failures(details, config) == []
    assert details["gate"]["consumers"][0]["blocks"] is False


# --- consumers --------------------------------------------------------------------------------------------------------


def frozen(folder: Path, name: str, rows: int, clusters: bool = False) -> GateConsumer:
    """Trained on r1: a logistic of a member's and a job's vector, with a labelled set of `rows`."""
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=dim) / 4 for dim in (12, 10)]
    write_module(
        folder,
        name,
        f"member, job = np.array({weights[0].tolist()}), np.array({weights[1].tolist()})\n"
        "return 1 / (1 + np.exp(-(vectors['member'] @ member + vectors['job'] @ job)))",
    )
    member_rows, job_rows = rng.integers(N, size=rows), rng.integers(JOBS, size=rows)
    chance = R1.nodes["member"].vectors[member_rows] @ weights[0] + R1.nodes["job"].vectors[job_rows] @ weights[1]
    table = {
        "label": rng.random(rows) < 1 / (1 + np.exp(-chance)),
        "member_id": R1.nodes["member"].ids.take(pa.array(member_rows)),
        "job_id": R1.nodes["job"].ids.take(pa.array(job_rows)),
        "row": np.arange(rows),
    }
    pq.write_table(pa.table(table), folder / f"{name}.parquet")
    cases = {
        "path": f"{name}.parquet",
        "label": "label",
        "keys": {"member": "member_id", "job": "job_id"},
        "columns": [],
        "cluster": None if clusters else "row",
    }
    return replace(CONSUMER, scorer={"python": f"{name}:load"}, cases=cases, root=folder, margin=0.01)


def test_a_consumer_with_a_scorer_is_judged_by_its_own_auc(graph: Graph, tmp_path: Path) -> None:
    consumer = frozen(tmp_path, "stage_good", 20_000)
    _, details = build(graph, tmp_path / "out", R2, [older(R1)], [consumer])
    entry = details["gate"]["consumers"][0]
    assert entry["verdict"] == "pass"
    assert entry["parity"]["auc"]["by"] == "delong"
    assert abs(entry["parity"]["auc"]["difference"]) < 0.005
    assert {part["kind"] for part in entry["parity"]["slices"]} == {"degree", "newest", "cohort region"}
    assert {part["verdict"] for part in entry["parity"]["slices"]} <= {"pass", "fail", "unknown"}
    assert {part["node"] for part in entry["parity"]["slices"]} == {"member", "job"}


def test_its_auc_decides_even_where_geometry_would_not(graph: Graph, tmp_path: Path) -> None:
    """Geometry of a map may be poor in directions that the consumer never looks at, and the other way round."""
    strict = CompatConfig(gate=CompatGate(min_r2=0.9999))
    consumer = frozen(tmp_path, "stage_decides", 20_000)
    without = replace(consumer, name="no-scorer", scorer=None)
    _, details = build(graph, tmp_path / "out", R2, [older(R1)], [consumer, without], strict)
    assert [each["verdict"] for each in details["gate"]["consumers"]] == ["pass", "fail"]


def test_a_random_encoder_fails_the_frozen_consumer(graph: Graph, tmp_path: Path) -> None:
    consumer = frozen(tmp_path, "stage_bad", 5_000, clusters=True)
    noise = space(2, {"member": (MEMBERS, NOISY), "job": (JOB_IDS, NOISY[:JOBS])})
    _, details = build(graph, tmp_path / "out", noise, [older(R1)], [consumer])
    entry = details["gate"]["consumers"][0]
    assert entry["verdict"] == "fail"
    assert entry["parity"]["auc"]["by"] == "cluster bootstrap"
    assert entry["parity"]["auc"]["mapped"] == pytest.approx(0.5, abs=0.06)
    (sentence,) = gate_failures(details, CompatConfig())
    assert "AUC 0." in sentence
    assert "beyond the margin of 0.01" in sentence
    assert gate_failures(details, CompatConfig(keep=("r1",))) == []


def test_too_few_labelled_rows_are_inconclusive_and_say_how_many(graph: Graph, tmp_path: Path) -> None:
    consumer = replace(frozen(tmp_path, "stage_few", 400), margin=0.001)
    _, details = build(graph, tmp_path / "out", R2, [older(R1)], [consumer])
    entry = details["gate"]["consumers"][0]
    assert entry["verdict"] == "inconclusive"
    assert "rows like these 400 would tell" in entry["reasons"][0]
    (sentence,) = gate_failures(details, CompatConfig())
    assert "Give it more labelled rows" in sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scorer": {"python": "stage_no_such:load"}}, "C030"),
        ({"cases": {"path": "none.parquet", "label": "label", "keys": {"member": "member_id"}}}, "C032"),
        ({"nodes": ("member",)}, "C034"),
    ],
)
def test_a_consumer_that_cannot_be_asked_stops_the_release_by_name(
    graph: Graph, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    consumer = replace(frozen(tmp_path, "stage_broken", 200), **change)
    _, details = build(graph, tmp_path / "out", R2, [older(R1)], [consumer])
    assert details["gate"]["consumers"][0]["verdict"] == "inconclusive"
    (sentence,) = gate_failures(details, CompatConfig())
    assert said in sentence
    assert "feed-ranker" in sentence


def test_exact_consumers_and_maps_that_nobody_reads_never_stop_a_release(graph: Graph, tmp_path: Path) -> None:
    noise = space(2, {"member": (MEMBERS, NOISY)})
    exact, elsewhere = replace(CONSUMER, need="exact"), replace(CONSUMER, name="other", release=7)
    _, details = build(graph, tmp_path, noise, [older(R1)], [exact, elsewhere])
    assert [item["verdict"] for item in details["maps"]] == ["fail"]
    (entry,) = details["gate"]["consumers"]
    assert entry["blocks"] is False
    assert "has to stay served by its own" in entry["reasons"][-1]
    assert details["gate"]["not_judged"] == ["other"]
    assert gate_failures(details, CompatConfig()) == []


def test_a_looser_gate_needs_no_new_fit(graph: Graph, tmp_path: Path) -> None:
    noise = replace(R2, nodes={**R2.nodes, "member": release(2, (16, 16), noise=0.6).nodes["member"]})
    _, details = build(graph, tmp_path, noise, [older(R1)], [CONSUMER])
    assert len(gate_failures(details, CompatConfig())) == 1
    loose = CompatGate(min_r2=0.2, min_cosine=0.2, min_cosine_p5=0.0, min_overlap=0.0, min_slice_cosine=0.0)
    assert gate_failures(details, CompatConfig(gate=loose)) == []
