"""The `evaluation:` section of star.yaml: what a release is compared with, and what stops it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Baseline = Literal["popularity", "text-cosine", "no-graph", "no-neighbours"]
"""`no-neighbours` is `no-graph` with the counts of how often and how lately each node interacted."""


class Gate(BaseModel):
    """What stops a release before anything is published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_auc: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """The lower end of the release's 95 % interval must reach this, for every objective."""
    beat_baselines: bool = False
    """The paired AUC difference to every baseline must exclude 0 from below."""


class EvaluationConfig(BaseModel):
    """Defaults compare every release with three simple baselines on edges later than all of training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baselines: tuple[Baseline, ...] = ("popularity", "text-cosine", "no-graph")
    k: Annotated[int, Field(ge=1, le=1000)] = 20
    negatives: Annotated[int, Field(ge=1, le=1000)] = 10
    """Negatives per test positive for AUC, where the objective has none of its own."""
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Of the member-cluster bootstrap."""
    max_examples: Annotated[int, Field(ge=1)] = 5_000
    """At most this many test positives per objective are scored, drawn evenly."""
    moments: Annotated[int, Field(ge=1, le=1000)] = 8
    """Moments of the test at which all candidates of the ranking are embedded; more is fresher, and costs more."""
    new_pairs_only: bool = True
    """Leave out test pairs that have met before: finding those again is easy and says little."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    gate: Gate = Gate()
