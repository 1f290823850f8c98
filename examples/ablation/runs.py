"""Compile a project, train a variant, score it on the test part; all of it is kept, and found again by a later call."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from variants import Variant

from star_platform.evaluation.baselines import ModelMethod
from star_platform.evaluation.cases import Cases, build_cases
from star_platform.evaluation.config import EvaluationConfig
from star_platform.evaluation.measure import Ranked, Scores, choose_ranked, score_cases
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.negatives import Existence
from star_platform.gnn.scoring import Scorer
from star_platform.gnn.split import link_predictions, split
from star_platform.gnn.trainer import train
from star_platform.graph.derive import derive
from star_platform.graph.derived import with_derived
from star_platform.graph.storage import Graph, open_graph
from star_platform.planning.canonical import digest
from star_platform.progress import SILENT, Progress
from star_platform.project import Project
from star_platform.registry.artefacts import ArtefactStore
from star_platform.release.build import BUILDERS, derived_spec
from star_platform.release.model import Run
from star_platform.signals.model import Objective

COMPILING = ("nodes", "edges", "features", "texts", "text", "cohorts", "graph")


def compile_project(project: Project, progress: Progress = SILENT) -> tuple[Graph, dict[str, Objective]]:
    """The compiled graph of a project's ready branches; what a release of them has made is used as it is."""
    request = project.plan()
    with closing(project.engine(request.spec.deny_columns)) as engine:
        run = Run(project.workshop(engine, progress), request, number=0, lease=None)  # nothing is released
        for stage in request.plan.stages:
            if stage.kind in COMPILING:
                found = project.store.find(stage.kind, stage.fingerprint)
                run.done[stage.name] = found or BUILDERS[stage.kind](run, stage)
    return open_graph(run.done["graph"].path), dict(request.spec.objectives)


@dataclass(frozen=True)
class Judged:
    """The test examples of one objective, the same for every run."""

    cases: Cases
    ranked: Ranked
    created: np.ndarray


@dataclass(frozen=True)
class Study:
    """One graph, what is predicted on it, and how every run is trained and judged."""

    graph: Graph
    objectives: Mapping[str, Objective]
    training: TrainingConfig
    evaluation: EvaluationConfig
    folder: Path

    @cached_property
    def judged(self) -> dict[str, Judged]:
        """By objective; neither a seed nor a variant has a part in it."""
        found = {}
        for name, part in split(self.graph, self.objectives, self.training).items():
            objective = link_predictions(self.objectives)[name]
            cases = build_cases(self.graph, name, objective, part, self.evaluation)
            ranked = choose_ranked(cases, self.graph.num_nodes(part.edge.dst), self.evaluation)
            found[name] = Judged(cases, ranked, Existence.of(self.graph, part.edge.dst, before=False).since)
        return found

    def place(self, variant: Variant, seed: int) -> Path:
        """The folder of a run; another graph, setting or objective has another one."""
        identity: list[Any] = [
            variant.shown(self.graph).content_hash,
            getattr(variant.view, "__name__", ""),
            variant.config(self.training, seed),
            dict(self.objectives),
            self.evaluation,
        ]
        if variant.text is not None:
            identity += [variant.text.mode, variant.text.cotrain, variant.text.encoder.fingerprint]
        key = digest(identity)
        return self.folder / f"{variant.name.replace(', ', '-').replace(' ', '-')}-{seed}-{key[:8]}"

    def result(self, variant: Variant, seed: int) -> dict[str, Any] | None:
        """What a finished run has found; None for one that is not finished."""
        path = self.place(variant, seed) / "run.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def scores(self, variant: Variant, seed: int) -> dict[str, Scores]:
        """Of a finished run, by objective."""
        with np.load(self.place(variant, seed) / "scores.npz") as found:
            parts = ("pairs", "recall", "reciprocal")
            return {name: Scores(*(found[f"{name}/{part}"] for part in parts)) for name in self.judged}

    def run(self, variant: Variant, seed: int, progress: Progress = SILENT) -> dict[str, Any]:
        """Train and score, or find again what an earlier call has found; a killed training goes on."""
        done = self.result(variant, seed)
        return self._run(variant, seed, progress) if done is None else done

    def _run(self, variant: Variant, seed: int, progress: Progress) -> dict[str, Any]:
        folder, config = self.place(variant, seed), variant.config(self.training, seed)
        folder.mkdir(parents=True, exist_ok=True)
        graph = variant.shown(self._extended(config))
        began = time.process_time()
        details = train(graph, self.objectives, config, folder / "scratch", folder, progress, text=variant.text)
        trained = time.process_time()
        scorer = Scorer(graph, folder)
        arrays, values = {}, {}
        for name, judged in self.judged.items():
            method = ModelMethod(scorer, name)
            scores = score_cases(method, judged.cases, judged.ranked, judged.created, self.evaluation.k)
            parts = {"pairs": scores.pairs, "recall": scores.recall, "reciprocal": scores.reciprocal}
            arrays |= {f"{name}/{part}": array for part, array in parts.items()}
            values[name] = {"recall": float(scores.recall.mean()), "mrr": float(scores.reciprocal.mean())}
        with (folder / "scores.npz").open("wb") as file:
            np.savez(file, **arrays)
        found = {
            "variant": variant.name,
            "seed": seed,
            "settings": config.model_dump(mode="json"),
            "training": details,
            "test": values,
            "cpu_seconds": {"training": trained - began, "scoring": time.process_time() - trained},
        }
        draft = folder / "run.json.partial"
        draft.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        draft.replace(folder / "run.json")
        shutil.rmtree(folder / "scratch")
        return found

    def _extended(self, config: TrainingConfig) -> Graph:
        """The graph with the derived edges that a variant asks for, computed once."""
        if config.strategy != "ppr" and not config.densify.neighbours:
            return self.graph
        spec = derived_spec(self.graph, self.objectives, config)
        store, key = ArtefactStore(self.folder / "derived"), digest([self.graph.content_hash, spec])
        if store.find("derive", key) is None:
            with store.create("derive", key) as draft:
                draft.details.update(derive(self.graph, spec, draft.path))
        return with_derived(self.graph, store.path("derive", key))


def run_all(study: Study, variants: Sequence[Variant], seeds: int, say: Any = print) -> None:
    """Every variant once, then again with the next seed: a table of few seeds is there early."""
    for seed in range(seeds):
        for variant in variants:
            if study.result(variant, seed) is None:
                found = study.run(variant, seed)
                taken = found["cpu_seconds"]
                auc = found["training"]["validation_auc"]
                say(
                    f"{variant.name}, seed {seed}: validation AUC {auc:.4f}, best epoch "
                    f"{found['training']['best_epoch']:g}; {taken['training']:.0f} + {taken['scoring']:.0f} s",
                    flush=True,
                )
