"""Judge a release: every objective, on examples later than all of training, beside simple baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.evaluation import classification
from star_platform.evaluation.baselines import (
    FrozenMethod,
    Method,
    ModelMethod,
    Popularity,
    TextCosine,
    TextProfiles,
    train_without_neighbours,
)
from star_platform.evaluation.cases import Cases, build_cases
from star_platform.evaluation.config import Baseline, EvaluationConfig, Gate
from star_platform.evaluation.history import interactions_before
from star_platform.evaluation.measure import Comparison, choose_ranked, score_cases
from star_platform.gnn.classification import boundary_moments, classifications, split_labels
from star_platform.gnn.existence import Existence
from star_platform.gnn.inner_texts import as_read
from star_platform.gnn.scoring import Scorer
from star_platform.gnn.split import TimeSplit, link_predictions, split
from star_platform.graph.storage import Graph
from star_platform.progress import SILENT, Progress
from star_platform.signals.model import LinkPrediction, Objective

SCHEMA_VERSION = 1
RELEASE, FROZEN = "release", "release-frozen"
BUCKETS = (("0", 0, 0), ("1-2", 1, 2), ("3-9", 3, 9), ("10+", 10, np.iinfo(np.int64).max))
EDGES = [low for _, low, _ in BUCKETS]
ABOUT = {
    RELEASE: "the trained model; both nodes as they were strictly before the moment of the example",
    FROZEN: "the same model with all nodes as they were when the test begins, as a reader of vectors published then",
    "popularity": "edges of the objective into the destination strictly before",
    "text-cosine": "cosine of the source's texts and those of what it met strictly before, and the destination's text",
    "no-graph": "the same encoder, features, examples and training, without neighbours and activity counts",
    "no-neighbours": "as no-graph, with the counts of how often and how lately each node interacted",
}
FIGURES = {
    "auc": "chance that a positive scores above a negative",
    "auc_matched": (
        "the same, comparing only destinations that had interacted about as often before "
        f"({', '.join(label for label, _, _ in BUCKETS)}): telling new from old destinations earns nothing"
    ),
    "recall": "chance that the positive is among the first k of all candidates",
    "mrr": "expected 1 / rank of the positive among all candidates",
}


def evaluate(
    graph: Graph,
    model_dir: Path,
    objectives: Mapping[str, Objective],
    config: EvaluationConfig,
    work_dir: Path,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Measure the model in `model_dir` and the baselines of `config`; equal inputs give an equal report.

    `work_dir` holds the model that the `no-graph` baseline trains and its checkpoints: a killed run goes on there.

    Returns:
        JSON: per objective counts, AUC, AUC among destinations of like history, Recall@k and MRR of each method with
        95 % intervals by member-cluster bootstrap (and DeLong's beside that of AUC), paired differences release -
        baseline on the same resamples, the same by history and cohort, how negatives were drawn. Node classifications
        are under `classification`: accuracy and macro AUC beside the majority class.

    Raises:
        TrainingError: M001-M004, M013 for objectives that the graph cannot serve, M008, M009 for the model.
    """
    graph = as_read(graph, model_dir)
    scorer = Scorer(graph, model_dir)
    training = scorer.model.config
    trained = {name: objectives[name] for name in sorted(objectives) if objectives[name].weight > 0}
    splits = split(graph, dict(objectives), training)
    plain: dict[Baseline, Scorer] = {
        baseline: train_without_neighbours(graph, trained, training, baseline, work_dir, progress)
        for baseline in config.baselines
        if baseline in ("no-graph", "no-neighbours")
    }
    texts = TextProfiles(graph) if "text-cosine" in config.baselines else None
    notes = []
    if texts is not None and texts.dim == 0:
        notes.append("text-cosine was not measured: the graph has no text feature")
        texts = None
    report: dict[str, Any] = {}
    links = link_predictions(trained)
    with progress.task("evaluate", total=len(links) * (len(config.baselines) + 2), unit="methods") as task:
        for name, objective in links.items():
            part = splits[name]
            cases = build_cases(graph, name, objective, part, config)
            ranked = choose_ranked(cases, graph.num_nodes(part.edge.dst), config)
            created = Existence.of(graph, part.edge.dst, before=False).since
            scores = {}
            for method_name, method in _methods(graph, scorer, plain, texts, name, objective, part, config).items():
                scores[method_name] = score_cases(method, cases, ranked, created, config.k)
                task.advance()
            strata = np.digitize(interactions_before(graph, part.edge.dst, cases.dst, cases.times), EDGES)
            comparison = Comparison(cases, ranked, scores, strata, config)
            report[name] = _objective(graph, comparison, cases, part, config)
    return {
        "schema_version": SCHEMA_VERSION,
        "k": config.k,
        "figures": FIGURES,
        "about": {name: ABOUT[name] for name in ABOUT if any(name in each["methods"] for each in report.values())},
        "objectives": report,
        **_classification(graph, scorer, plain, objectives, trained, config),
        "notes": notes,
    }


def _classification(
    graph: Graph,
    scorer: Scorer,
    plain: Mapping[Baseline, Scorer],
    objectives: Mapping[str, Objective],
    trained: Mapping[str, Objective],
    config: EvaluationConfig,
) -> dict[str, Any]:
    """The section on node classifications; nothing where there are none."""
    if not classifications(trained):
        return {}
    training = scorer.model.config
    parts = split_labels(graph, trained, training, boundary_moments(graph, objectives, training))
    scorers: dict[str, Scorer] = {RELEASE: scorer, **{str(name): each for name, each in plain.items()}}
    return {
        "classification": {
            "figures": classification.FIGURES,
            "objectives": {
                name: classification.judge(
                    name,
                    part,
                    {method: classification.classifier(each, name, part.node) for method, each in scorers.items()},
                    config,
                )
                for name, part in parts.items()
            },
        }
    }


def _methods(
    graph: Graph,
    scorer: Scorer,
    plain: Mapping[Baseline, Scorer],
    texts: TextProfiles | None,
    name: str,
    objective: LinkPrediction,
    part: TimeSplit,
    config: EvaluationConfig,
) -> dict[str, Method]:
    methods: dict[str, Method] = {RELEASE: ModelMethod(scorer, name)}
    if len(part.test):
        methods[FROZEN] = FrozenMethod(scorer.frozen(part.test_start), name)
    if "popularity" in config.baselines:
        methods["popularity"] = Popularity(graph, part.edge, objective.label)
    if texts is not None:
        methods["text-cosine"] = TextCosine(texts, part.edge, graph.num_nodes(part.edge.dst))
    methods |= {baseline: ModelMethod(trained, name) for baseline, trained in plain.items()}
    return methods


def _objective(
    graph: Graph, comparison: Comparison, cases: Cases, part: TimeSplit, config: EvaluationConfig
) -> dict[str, Any]:
    ranked = comparison.ranked
    return {
        "edge": list(part.edge),
        "members_are": part.edge.src,
        "test_start": part.test_start,
        "test": {
            "available": cases.available,
            "met_before": cases.met_before,
            "scored": cases.positives,
            "new_pairs_only": config.new_pairs_only,
        },
        "negatives_are": negatives_text(cases, config),
        "ranking": {
            "k": config.k,
            "candidates": graph.num_nodes(part.edge.dst),
            "moments": len(ranked.groups),
            "text": (
                "every positive among all destinations that existed, but for known pairs of its source; candidates are "
                f"seen at {len(ranked.groups)} moments of the test, none later than the query; ties count as on average"
            ),
        },
        **comparison.figures(),
        "groups": _groups(graph, comparison, cases, part),
    }


def negatives_text(cases: Cases, config: EvaluationConfig) -> str:
    """How negatives came about, and whether some of them may be positives that nobody saw."""
    if not cases.drawn:
        return "rows that carry a negative label (or edges declared as negatives); none was drawn"
    known = "joined by any edge at any time" if config.new_pairs_only else "of the objective's own edge at any time"
    return (
        f"{config.negatives} per positive, uniform over destinations that existed then, seen at the positive's moment; "
        f"pairs {known} are never drawn, but a pair that nobody observed may still be a match"
    )


def _groups(graph: Graph, comparison: Comparison, cases: Cases, part: TimeSplit) -> dict[str, Any]:
    """The same figures by how much is known of either side, and by cohort of either side.

    Drawn negatives belong to the group of their positive.
    """
    edge, owner = part.edge, cases.example if cases.drawn else np.arange(len(cases.src))
    groups: dict[str, Any] = {}
    for side, node, nodes in (("source", edge.src, cases.src), ("destination", edge.dst, cases.dst)):
        history = interactions_before(graph, node, nodes, cases.times)[owner]
        groups[f"{side} interactions before"] = {
            label: comparison.figures((history >= low) & (history <= high)) for label, low, high in BUCKETS
        }
        for cohort, (codes, names) in sorted(graph.cohorts(node).items()):
            of_rows: NDArray[np.int32] = np.asarray(codes)[nodes][owner]
            groups[f"{side} cohort {cohort}"] = {
                label: comparison.figures(of_rows == code)
                for code, label in [*enumerate(names), (-1, "unknown")]
                if (of_rows == code).any()
            }
    return groups


def gate_failures(report: Mapping[str, Any], gate: Gate) -> list[str]:
    """What of the gate a report does not pass, in sentences; the gate may change without measuring again."""
    return [
        failure
        for name, objective in report["objectives"].items()
        for failure in _objective_failures(name, objective, gate)
    ]


def _objective_failures(name: str, objective: Mapping[str, Any], gate: Gate) -> list[str]:
    failures = []
    figure = objective["methods"][RELEASE]["auc"]
    if gate.min_auc is not None and (figure["low"] is None or figure["low"] < gate.min_auc):
        low = "undefined" if figure["low"] is None else f"{figure['low']:.4f}"
        failures.append(f"{name}: the lower end of the AUC is {low}, below {gate.min_auc}")
    if gate.beat_baselines:
        for baseline, difference in sorted(objective["differences"].items()):
            low = difference["auc"]["low"]
            if baseline != FROZEN and (low is None or low <= 0.0):
                failures.append(f"{name}: the release is not shown to beat {baseline} in AUC")
    return failures
