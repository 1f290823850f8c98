"""How much of the AUC is knowing what is new: the active release among jobs of equal freshness.

`python examples/job_board/equally_fresh.py`, after `make -C examples/job_board`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from star_platform.evaluation.baselines import Method, ModelMethod, Popularity, TextCosine, TextProfiles
from star_platform.evaluation.bootstrap import ClusterBootstrap, interval, stratified_auc
from star_platform.evaluation.cases import build_cases
from star_platform.evaluation.config import EvaluationConfig
from star_platform.gnn.scoring import Scorer
from star_platform.gnn.split import split
from star_platform.graph.storage import open_graph
from star_platform.project import Project
from star_platform.signals.model import LinkPrediction

OBJECTIVE = "member-views-job"
DAY = 86_400_000_000


def main() -> None:
    project = Project.open(Path(__file__).resolve().parent)
    release = project.registry.active()
    if release is None:
        raise SystemExit("no active release: run `make -C examples/job_board` first")
    parts = {part.stage: part for part in project.registry.artefacts(release.number)}
    graph = open_graph(project.store.path("graph", parts["graph"].fingerprint))
    scorer = Scorer(graph, project.store.path("train", parts["train"].fingerprint))
    objective = LinkPrediction(kind="link-prediction", edge=OBJECTIVE)
    part = split(graph, {OBJECTIVE: objective}, scorer.model.config)[OBJECTIVE]
    cases = build_cases(graph, OBJECTIVE, objective, part, EvaluationConfig(negatives=30))

    popularity = Popularity(graph, part.edge, None)
    methods: dict[str, Method] = {
        "popularity": popularity,
        "text cosine": TextCosine(TextProfiles(graph), part.edge, graph.num_nodes("job")),
        "release": ModelMethod(scorer, OBJECTIVE),
    }
    views = popularity.score(cases.src, cases.dst, cases.times).astype(np.int64)
    edges = graph.edges_named(OBJECTIVE)
    assert edges.timestamps is not None
    latest = np.asarray(edges.timestamps)[np.maximum(np.asarray(edges.indptr)[cases.dst] + views - 1, 0)]
    age = np.where(views == 0, 0, 1 + np.digitize((cases.times - latest) / DAY, [0.01, 0.1, 0.5, 1, 2, 4, 8, 16, 32]))
    created = graph.created_at("job")
    assert created is not None
    posted = np.digitize((cases.times - created[cases.dst]) / DAY, [1, 2, 4, 8, 16, 32, 64])
    strata = {
        "any two jobs": np.zeros_like(views),
        "viewed equally often before": np.minimum(views, 20),
        "... last viewed and posted about as long ago": np.minimum(views, 6) * 1000 + age * 10 + posted,
    }

    positive = cases.labels > 0
    print(f"not viewed before: {(views[positive] == 0).mean():.1%} of the right jobs, ", end="")
    print(f"{(views[~positive] == 0).mean():.1%} of the others")
    bootstrap = ClusterBootstrap(cases.src)
    rows = np.arange(len(cases.src))
    for name, method in methods.items():
        scores = method.score(cases.src, cases.dst, cases.times)
        for what, groups in strata.items():
            found = interval(
                stratified_auc(cases.labels, scores, groups), bootstrap.auc(cases.labels, scores, rows, groups)
            )
            print(f"{name:12} {what:46} {found.value:.4f} [{found.low:.4f}, {found.high:.4f}]")


if __name__ == "__main__":
    main()
