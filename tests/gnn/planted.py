"""A small marketplace with a planted structure: members view jobs of a topic that no feature of theirs tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from star_platform.gnn.config import TrainingConfig
from star_platform.graph.storage import Graph
from star_platform.signals.model import LinkPrediction, Negatives
from tests.gnn.graphs import GraphWriter

START, DAY = 10**15, 86_400 * 10**6
MEMBERS, JOBS, TOPICS, VIEWS = 120, 90, 5, 1500

FAST = TrainingConfig(
    dim=16, fan_outs=(8, 4), heads=2, batch_size=128, max_epochs=5, lr=1e-2, negatives=64, validate_every=0.5, threads=1
)


def planted_graph(
    path: Path, seed: int = 0, extra: int = 0, at: int = START + 31 * DAY, created_at: np.ndarray | None = None
) -> Graph:
    """`extra` adds that many random views at one moment, without changing anything else."""
    rng = np.random.default_rng(seed)
    writer = GraphWriter(path)
    writer.node("job", [f"j{i}" for i in range(JOBS)], created_at=created_at)
    writer.node("member", list(range(MEMBERS)))
    writer.node("topic", [f"t{i}" for i in range(TOPICS)], "attribute")
    topic_of_job = np.arange(JOBS) % TOPICS
    likes = rng.integers(TOPICS, size=MEMBERS)
    src = rng.integers(MEMBERS - 1, size=VIEWS)  # the last member never views anything
    own = rng.random(VIEWS) < 0.9
    dst = np.where(own, likes[src] + TOPICS * rng.integers(JOBS // TOPICS, size=VIEWS), rng.integers(JOBS, size=VIEWS))
    times = START + np.sort(rng.integers(30 * DAY, size=VIEWS))
    applied = (own & (rng.random(VIEWS) < 0.9)).astype(np.int8)
    noise = np.random.default_rng(99)
    src = np.concatenate([src, noise.integers(MEMBERS, size=extra)])
    dst = np.concatenate([dst, noise.integers(JOBS, size=extra)])
    times = np.concatenate([times, np.full(extra, at)])
    applied = np.concatenate([applied, np.zeros(extra, np.int8)])
    writer.edge("member-views-job", "member", "job", (src, dst), times, labels={"applied": applied})
    writer.edge("job-topic", "job", "topic", (np.arange(JOBS), topic_of_job))
    features = np.random.default_rng(7)
    writer.feature("topic.id_embedding", "id", dim=8)
    writer.feature("member.profile", "numeric", features.normal(size=(MEMBERS, 3)))
    writer.feature("job.text", "text", features.normal(size=(JOBS, 6)), present=np.arange(JOBS) % 7 > 0)
    writer.feature("job.level", "categorical", np.arange(JOBS) % 4, dim=4)
    return writer.finish(f"planted-{seed}-{extra}-{at}")


def views(kind: str = "uniform", weight: float = 1.0) -> LinkPrediction:
    negatives = Negatives(kind=kind)  # type: ignore[arg-type]
    return LinkPrediction(kind="link-prediction", edge="member-views-job", negatives=negatives, weight=weight)


def applied(weight: float = 1.0) -> LinkPrediction:
    return LinkPrediction(
        kind="link-prediction",
        edge="member-views-job",
        label="applied",
        negatives=Negatives(kind="labelled"),
        weight=weight,
    )
