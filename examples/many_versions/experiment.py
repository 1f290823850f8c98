"""Three releases, one frozen consumer: `python examples/many_versions/experiment.py`; README.md has the table.

Everything is kept under `--work`: a run that was killed goes on, and a second one only prints the tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from consumer import Ranker, Scene, cut_to, served
from market import VERSIONS, Version, compile_graph, make_market
from releases import (
    NODES,
    Maps,
    Trained,
    align,
    composed,
    fidelity,
    learned_maps,
    ridge_maps,
    still_running,
    train_release,
)

from star_platform.demo.downstream import Impressions, read_impressions
from star_platform.demo.generate import Size
from star_platform.evaluation.bootstrap import Interval
from star_platform.evaluation.cases import build_cases
from star_platform.evaluation.config import EvaluationConfig
from star_platform.evaluation.history import interactions_before
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.scoring import Scorer
from star_platform.gnn.split import split
from star_platform.graph.storage import Graph
from star_platform.planning.spec import GraphSpec

WEIGHT = 16.0
"""Of the alignment term; chosen by `--choose`, on validation data."""
CHOICES = (1.0, 4.0, 16.0, 64.0)
FEW = 3
"""A member with fewer interactions before is of low degree."""
Compiled = tuple[Graph, GraphSpec]


@dataclass(frozen=True)
class Setting:
    """What a run of the experiment depends on."""

    work: Path
    members: int
    seed: int
    epochs: int

    @property
    def training(self) -> TrainingConfig:
        """That of the demo, but for more epochs; `dim` is each release's own."""
        return TrainingConfig(
            fan_outs=(20,),
            batch_size=256,
            negatives=256,
            lr=0.004,
            max_epochs=self.epochs,
            validate_every=1.0,
            seed=self.seed,
            threads=1,
        )


@dataclass(frozen=True)
class Chain:
    """r1, r2 and r3, trained in one way, and every map from r3 to r1 that they allow."""

    newest: Trained
    maps: Mapping[str, Maps]
    """`direct` and `composed`."""


class Experiment:
    """Data, graphs, and the trained chains."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.work = setting, setting.work
        self.data = make_market(self.work, Size(setting.members, setting.seed))
        self.first = self._train(VERSIONS[0])

    def _compiled(self, version: Version) -> Compiled:
        return compile_graph(self.work, self.data[version.number], version.branches)

    def _train(self, version: Version, *alignment: Any) -> Trained:
        """`alignment`: old release, mode, weight, maps from the old release to those before it."""
        compiled = self._compiled(version)
        chosen = align(*compiled, self.setting.training, *alignment) if alignment else None
        trained = train_release(self.work, version, compiled, self.setting.training, chosen)
        what = f"{trained.folder.name}: validation AUC {trained.details['validation_auc']:.4f}"
        print(f"{what} at epoch {trained.details['best_epoch']:g}", flush=True)
        return trained

    def post_hoc(self) -> Chain:
        """Trained without regard to each other; ridge maps afterwards."""
        second, third = self._train(VERSIONS[1]), self._train(VERSIONS[2])
        steps = ridge_maps(third, second), ridge_maps(second, self.first)
        return Chain(third, {"direct": ridge_maps(third, self.first), "composed": composed(*steps)})

    def joint(self, mode: str, weight: float = WEIGHT) -> Chain:
        """Each aligned to the one before; `direct` is a ridge map fitted to the same encoder afterwards."""
        second = self._train(VERSIONS[1], self.first, "single", weight)  # one older release: multi is single
        back = learned_maps(second, self.first)
        third = self._train(VERSIONS[2], second, mode, weight, (back,))
        maps = {"direct": ridge_maps(third, self.first), "composed": composed(learned_maps(third, second), back)}
        return Chain(third, maps)

    def choose(self) -> None:
        """Weights beside each other on r2: its own validation AUC, and R2 of the map to r1 on held-out entities."""
        plain = self._train(VERSIONS[1])
        print("  ridge", fidelity(ridge_maps(plain, self.first), plain, self.first))
        for weight in CHOICES:
            second = self._train(VERSIONS[1], self.first, "single", weight)
            print(f"  weight {weight:g}", fidelity(learned_maps(second, self.first), second, self.first))


# --- the consumer -----------------------------------------------------------------------------------------------------


def consumer_scenes(experiment: Experiment, chains: Mapping[str, Chain]) -> dict[str, tuple[Scene, dict[str, Any]]]:
    """The frozen ranker on its own test weeks (everything as of r1), and on the weeks after r3 (as served then)."""
    first, last = experiment.first, VERSIONS[-1]
    own, later = (read_impressions(experiment.data[number]) for number in (1, last.number))
    training = np.arange(len(own.applied)) < own.cut
    stored = {node: first.vectors(node) for node in NODES}
    ranker, bare = Ranker(own, training, stored), Ranker(own, training, None)
    compiled = compile_graph(experiment.work, experiment.data[last.number], VERSIONS[0].branches)
    kept = still_running(first, compiled, experiment.work)
    fresh = {node: kept.vectors(node) for node in NODES}
    found = {}
    for name, impressions, rows, reference, moment in (
        ("as of r1", own, ~training, stored, first.graph.as_of + 1),
        ("after r3", later, np.ones(len(later.applied), np.bool_), fresh, None),
    ):
        scene = Scene(impressions.applied[rows], impressions.ids["member"][rows])
        given = {"r1 vectors": reference}
        for chain_name, chain in chains.items():
            vectors = {node: chain.newest.vectors(node, moment) for node in NODES}
            if chain_name == "post-hoc":
                given["r3 unmapped"] = cut_to(vectors, first.version.dim)
            given |= {f"{chain_name}, {via}": served(vectors, maps) for via, maps in chain.maps.items()}
        scene.scores["own columns only"] = bare.scores(impressions, None)[rows]
        for method, vectors in given.items():
            scene.scores[method] = ranker.scores(impressions, vectors)[rows]
        graph, at = (first.graph, VERSIONS[0].as_of) if name == "as of r1" else (compiled[0], last.as_of)
        found[name] = scene, _slices(impressions, rows, graph, at, set(stored["member"].ids.to_pylist()))
    return found


def _slices(impressions: Impressions, rows: Any, graph: Graph, at: int, known: set[int]) -> dict[str, Any]:
    """Which rows are of members that joined since r1, and of members with few interactions."""
    members = impressions.ids["member"][rows]
    new = ~np.isin(members, np.array(sorted(known)))
    places = np.searchsorted(np.asarray(graph.ids("member")), members)
    degree = interactions_before(graph, "member", places, np.full(len(places), at, dtype=np.int64))
    slices = {"all": np.ones(len(members), np.bool_), "few interactions": degree < FEW, "new members": new}
    return {name: chosen for name, chosen in slices.items() if chosen.any()}


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
                        "loss": scene.difference(method, "r1 vectors", rows).as_json(),
                    }
                    for method in scene.scores
                },
            }
    for name, scene in own_scenes(chains, experiment.setting.training).items():
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
    """The tables of README.md."""
    for name, table in found["consumer"].items():
        print(f"\n{name}: {table['rows']:,} rows of {table['members']:,} members")
        for method, figures in table["methods"].items():
            print(f"  {method:24} {_cell(figures['auc'])}  {_cell(figures['loss'], '+')}")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(__file__).resolve().parent / ".star")
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="compare alignment weights on validation data, and stop")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(Setting(work, arguments.members, arguments.seed, arguments.epochs))
    if arguments.choose:
        experiment.choose()
        return
    found = report(experiment)
    (work / "report.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    show(found)


if __name__ == "__main__":
    main()
