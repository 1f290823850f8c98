"""Every figure of the experiment: what the consumer and the release itself make of each way to serve r1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from chains import Chain, Experiment
from consumer import Ranker, Scene, Served, cut_to, served
from market import compile_graph
from releases import NODES, fidelity, still_running

from star_platform.compat.pairs import locate
from star_platform.demo.downstream import Impressions, read_impressions
from star_platform.evaluation.bootstrap import Interval
from star_platform.evaluation.cases import build_cases
from star_platform.evaluation.config import EvaluationConfig
from star_platform.evaluation.history import interactions_before
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.scoring import Scorer
from star_platform.gnn.split import split
from star_platform.graph.storage import Graph

OWN_WEEKS = "as of r1"
FEW = 3
"""A row has few interactions when its member or its job had fewer than this before."""


def report(experiment: Experiment) -> dict[str, Any]:
    """Every figure, as JSON."""
    chains = {
        "post-hoc": experiment.post_hoc(),
        "joint single": experiment.joint("single"),
        "joint multi": experiment.joint("multi"),
    }
    found: dict[str, Any] = {"consumer": {}, "own": {}, "fidelity": {}}
    for name, (scene, slices) in consumer_scenes(experiment, chains).items():
        for part, rows in slices.items():
            found["consumer"][f"{name}: {part}"] = {
                "rows": int(rows.sum()),
                "members": len(np.unique(scene.clusters[rows])),
                "methods": {
                    method: {
                        "auc": scene.auc(method, rows).as_json(),
                        "difference": scene.difference(method, "r1 vectors", rows).as_json(),
                        "to post-hoc": scene.difference(method, "post-hoc, direct", rows).as_json(),
                        "agreement": scene.agreement(method, "r1 vectors", rows),
                    }
                    for method in scene.scores
                },
            }
    own = {} if experiment.setting.same_day else own_scenes(chains, experiment.setting.training)
    for name, scene in own.items():
        found["own"][name] = {
            method: {
                "auc": scene.auc(method).as_json(),
                "difference": scene.difference(method, "post-hoc").as_json(),
            }
            for method in scene.scores
        }
    for name, chain in chains.items():
        for via, maps in chain.maps.items():
            found["fidelity"][f"{name}, {via}"] = fidelity(maps, chain.newest, experiment.first)
    return found


def show(found: Mapping[str, Any]) -> None:
    """The tables of README.md: AUC, its differences to r1 vectors and to the post-hoc map, agreement of scores."""
    for name, table in found["consumer"].items():
        print(f"\n{name}: {table['rows']:,} rows of {table['members']:,} members")
        for method, figures in table["methods"].items():
            differences = "  ".join(_cell(figures[what], "+") for what in ("difference", "to post-hoc"))
            print(f"  {method:22} {_cell(figures['auc'])}  {differences}  {figures['agreement']:.4f}")
    for name, methods in found["own"].items():
        print(f"\nr3's own test edges, {name}")
        for method, figures in methods.items():
            print(f"  {method:24} {_cell(figures['auc'])}  {_cell(figures['difference'], '+')}")
    print("\nR2 of the map r3 -> r1 on held-out entities")
    for name, values in found["fidelity"].items():
        print(f"  {name:24} " + "  ".join(f"{node} {value:.3f}" for node, value in values.items()))


def _cell(figure: Mapping[str, float | None], sign: str = "") -> str:
    known = Interval(**figure)
    if known.value is None or known.low is None or known.high is None:
        return f"{'undefined':24}"
    return f"{known.value:{sign}.4f} [{known.low:{sign}.4f}, {known.high:{sign}.4f}]"


# --- the consumer -----------------------------------------------------------------------------------------------------


def consumer_scenes(experiment: Experiment, chains: Mapping[str, Chain]) -> dict[str, tuple[Scene, dict[str, Any]]]:
    """The frozen ranker on its own test weeks (everything as of r1), and on the weeks after r3 (as served then)."""
    first, last = experiment.first, experiment.versions[-1]
    own, later = (read_impressions(experiment.data[number]) for number in (1, last.number))
    training = np.arange(len(own.applied)) < own.cut
    stored = {node: first.vectors(node) for node in NODES}
    ranker, bare = Ranker(own, training, stored), Ranker(own, training, None)
    scenes: list[tuple[Any, ...]] = [
        (OWN_WEEKS, own, ~training, stored, first.graph.as_of + 1, first.graph, first.version.as_of)
    ]
    if not experiment.setting.same_day:  # then nobody knows more, and there is no later day
        compiled = compile_graph(experiment.work, experiment.data[last.number], first.version.branches)
        kept = still_running(first, compiled, experiment.work)
        fresh = {node: kept.vectors(node) for node in NODES}
        scenes.append(("after r3", later, np.ones(len(later.applied), np.bool_), fresh, None, compiled[0], last.as_of))
    found = {}
    for name, impressions, rows, reference, moment, graph, at in scenes:
        scene = Scene(impressions.applied[rows], impressions.ids["member"][rows])
        scene.scores["own columns only"] = bare.scores(impressions, None)[rows]
        for method, vectors in _given(reference, chains, moment, first.version.dim).items():
            scene.scores[method] = ranker.scores(impressions, vectors)[rows]
        known = {node: _known(impressions, rows, node, first.graph) for node in NODES}
        there = {node: _known(impressions, rows, node, graph) for node in NODES}
        few = np.logical_or.reduce([_degrees(impressions, rows, node, graph, at) < FEW for node in NODES])
        both, old = (one["member"] & one["job"] for one in (there, known))
        slices = {"all": both, "few interactions": both & few}
        if name != OWN_WEEKS:
            slices |= {"new members": both & ~known["member"], "known to r1": old}
        found[name] = scene, slices
    return found


def _given(reference: Served, chains: Mapping[str, Chain], moment: int | None, dim: int) -> dict[str, Served]:
    """What the consumer is handed: vectors of r1, of r3 as they are, and of r3 through each map."""
    given = {"r1 vectors": reference}
    for name, chain in chains.items():
        vectors = {node: chain.newest.vectors(node, moment) for node in NODES}
        if name == "post-hoc":
            given["r3 unmapped"] = cut_to(vectors, dim)
        given |= {f"{name}, {via}": served(vectors, maps) for via, maps in chain.maps.items()}
    return given


def _known(impressions: Impressions, rows: Any, node: str, graph: Graph) -> Any:
    """Bool [rows]: whether a graph has the node of each row."""
    return locate(pa.array(impressions.ids[node][rows]), graph.ids(node), node) >= 0


def _degrees(impressions: Impressions, rows: Any, node: str, graph: Graph, at: int) -> Any:
    """int64 [rows]: interactions of each row's node before `at`; 0 for one that the graph does not have."""
    places = locate(pa.array(impressions.ids[node][rows]), graph.ids(node), node)
    moments = np.full(len(places), at, dtype=np.int64)
    return np.where(places >= 0, interactions_before(graph, node, np.maximum(places, 0), moments), 0)


# --- the release itself -----------------------------------------------------------------------------------------------


def own_scenes(chains: Mapping[str, Chain], training: TrainingConfig) -> dict[str, Scene]:
    """Link prediction of r3 on its own test edges, per objective, plain and joint on the same cases."""
    third = chains["post-hoc"].newest
    parts = split(third.graph, third.spec.objectives, training)
    found = {}
    for name, objective in third.spec.objectives.items():
        cases = build_cases(third.graph, name, objective, parts[name], EvaluationConfig())
        scene = found[name] = Scene(cases.labels, cases.src)
        for method, chain in chains.items():
            scorer = Scorer(third.graph, chain.newest.folder)
            scene.scores[method] = scorer.score(name, cases.src, cases.dst, cases.times).astype(np.float64)
    return found
