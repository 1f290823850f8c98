"""The `compat:` section of star.yaml: which older releases get a map, how it is made, and when it is good enough."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Share = Annotated[float, Field(ge=0.0, le=1.0)]
ReleaseName = Annotated[str, StringConstraints(pattern=r"^r[1-9][0-9]*$")]


class CompatGate(BaseModel):
    """What a map must reach before a consumer of the older release may be served through it.

    A consumer with a scorer and labelled examples is judged by its own AUC and calibration; geometry decides for all
    others. The geometric defaults belong together: they are what a map leaves that explains 0.9 of the variance of the
    old vectors and is wrong in every direction alike. A score that is linear in such a vector keeps sqrt(0.9) of its
    signal, which takes an AUC of 0.75 down by about 0.014 (at 0.99 by 0.002, at 0.95 by 0.007, at 0.5 by 0.075). There
    the mean cosine of centred vectors is 0.94, its 5th percentile 0.84 to 0.91, and of the 10 nearest among 20,000 a
    share of 0.2 (vectors that vary in 8 directions) to 0.37 (in 64) stays. So 0.9 suits a consumer that can lose a
    point of AUC; one that searches by nearness should ask for 0.99, where 0.66 to 0.77 of the neighbours stay. The
    floor of slices guards those whom a mean forgets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_r2: Annotated[float, Field(le=1.0)] = 0.9
    """Share of the variance of the old vectors that the map explains, on held-out entities."""
    min_cosine: Share = 0.94
    """Mean cosine of mapped and old vector."""
    min_cosine_p5: Share = 0.8
    """Its 5th percentile."""
    min_overlap: Share = 0.2
    """Mean share of the 10 nearest neighbours that stay, among held-out entities."""
    min_slice_cosine: Share = 0.8
    """Mean cosine within every degree bucket, cohort and the newest entities, where there are enough of them."""
    min_rows: Annotated[int, Field(ge=10)] = 50
    """Held-out entities, or positives and negatives of a labelled set, below which nothing is concluded."""
    epsilon: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.001
    """AUC that a consumer may lose, unless it sets a margin of its own."""
    calibration: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.02
    """How far observed / expected may move from what it is on the old vectors, as a share of it."""
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Of the cluster bootstrap, where rows of a labelled set belong together."""


class CompatConfig(BaseModel):
    """Defaults fit a ridge map to every older space that is still served, after training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["none", "post-hoc", "joint-single", "joint-multi"] = "post-hoc"
    """`joint-*`: the encoder is trained to stay mappable as well, to the last space or through it to all before."""
    serve: Literal["last", "transitive"] = "transitive"
    """Which older releases get a map: the last one, or all that are still served."""
    keep: tuple[ReleaseName, ...] = ()
    """Releases that stay served as they are today, by their own vectors, whatever the gate says of their new map."""

    # --- maps that are fitted after training
    method: Literal["ridge", "procrustes", "low-rank", "residual"] = "ridge"
    """`procrustes` keeps dot products, for those who search; `residual` adds a small network, never composed."""
    bias: bool = True
    """Let the map shift vectors too; `procrustes` never does, for a shift changes dot products."""
    scale: bool = False
    """Let `procrustes` stretch all vectors by one factor."""
    ridge: Annotated[float, Field(ge=0.0)] = 1e-3
    """Penalty, relative to the mean variance of the new vectors' columns."""
    rank: Annotated[int, Field(ge=1)] | None = None
    """Of `low-rank`; None: a quarter of the smaller dimension."""
    hidden: Annotated[int, Field(ge=1, le=8192)] = 256
    """Width of the network of `residual`."""
    residual_epochs: Annotated[int, Field(ge=1)] = 40
    residual_lr: Annotated[float, Field(gt=0.0)] = 1e-3
    residual_batch: Annotated[int, Field(ge=1)] = 1024
    residual_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """At most this many entities teach the network; they are held in memory."""
    weight: Literal["uniform", "degree"] = "uniform"
    """`degree`: an entity counts 1 + log(1 + number of neighbours), for those that are read most tend to have most."""
    holdout: Annotated[float, Field(gt=0.0, lt=0.9)] = 0.1
    """Share of the common entities that no map is fitted on; up to a half where it would be under `gate.min_rows`."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    # --- joint training
    align_weight: Annotated[float, Field(ge=0.0)] = 16.0
    """Of the alignment term beside the objectives."""
    align_batch: Annotated[int, Field(ge=1)] = 512
    """Entities aligned per step."""

    gate: CompatGate = CompatGate()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rank is not None and self.method != "low-rank":
            raise ValueError(f"rank belongs to method low-rank, and method is {self.method}")
        return self
