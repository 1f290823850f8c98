"""The `finetune:` section below `text:` of star.yaml. Free of torch and numpy: `validate` reads it.

Formulas: STAR (arXiv 2507.09797), section 3, as we read them. What the paper leaves open is a key here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

REFERENCE_WARM_UP, REFERENCE_BATCH = 30, 3172
"""STAR warms up for 30 steps of 3,172 examples, and for more steps when batches are smaller."""

Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
TextName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
"""`<node>.<feature>`."""
Pair = Literal["dp", "dc", "pc"]
"""Document with profile, document with resume, profile with resume."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tower(_Section):
    """One text that is encoded: the weights are shared, the prompt tells towers apart."""

    feature: TextName
    """A feature of `kind: text`."""
    prompt: str = ""
    max_tokens: Annotated[int, Field(ge=4)]


class DocumentTower(Tower):
    """What is looked for, a job."""

    max_tokens: Annotated[int, Field(ge=4)] = 1800


class ProfileTower(Tower):
    """The first part of the request."""

    max_tokens: Annotated[int, Field(ge=4)] = 1024


class ResumeTower(Tower):
    """The second part of the request; members without one are trained all the same."""

    max_tokens: Annotated[int, Field(ge=4)] = 1800


class Negatives(_Section):
    """Where pairs that did not end in an action come from: one of the three."""

    edge: str | None = None
    """Another edge type between the same nodes: skips, or views without an application."""
    label: str | None = None
    """A label column of the edge type of the positives: 1 acted, 0 did not."""
    uniform: Count | None = None
    """So many documents for each positive, at random, that the member never acted on."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in ("edge", "label", "uniform") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("name one of edge, label, uniform")
        return self


class SplitConfig(_Section):
    """Which examples are kept back to validate on."""

    by: Literal["time", "document"] = "time"
    """`time`: the latest; `document`: all of some documents, chosen at random, so that they are new to the model."""
    validation_share: Share = 0.1
    max_rows: Count = 20_000
    """More validation rows than this are thinned out at random, both classes alike."""


class LossWeights(_Section):
    """Weights of the three terms of eq. 1."""

    bce: NotNegative = 1.0
    profile: NotNegative = 1.0
    resume: NotNegative = 1.0

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.bce + self.profile + self.resume == 0:
            raise ValueError("one weight at least must be above 0")
        return self


class LossConfig(_Section):
    """Eqs. 1 to 4."""

    weights: LossWeights = LossWeights()
    temperature: Positive = 0.02
    contrastive_rows: Literal["positives", "all"] = "positives"
    """`all` pulls documents to requests that did not act as well: for ablation."""
    mask_same_entity: bool = True
    """Rows of the same member or the same document are no negatives."""
    pool: Literal["both", "own"] = "both"
    """Requests that negatives are mined from: profiles and resumes, or those of the term only."""
    margin: Positive | None = None
    """Only negatives less than this below the positive count."""
    no_semihard: Literal["skip", "easiest"] = "skip"
    """Without a semi-hard negative: no term, or the least similar one."""
    normaliser: Literal["positives", "mined"] = "positives"
    """What the sum is divided by: rows that have the term, or those of them that found a negative."""


class HeadConfig(_Section):
    """The layers that read Hadamard products: `hidden: 0` is a single linear layer."""

    pairs: Annotated[tuple[Pair, ...], Field(min_length=1)] = ("dp", "dc")
    hidden: Annotated[int, Field(ge=0, le=4096)] = 64
    activation: Literal["relu", "gelu", "tanh"] = "relu"
    lr: Positive = 1e-3


class BatchConfig(_Section):
    """How many examples a step has, and how they get through memory."""

    mode: Literal["cached", "accumulate", "plain"] = "cached"
    """`cached`: negatives from the whole batch (GradCache). `accumulate`: negatives from one micro-batch, as in the
    paper. `plain`: the whole batch at once."""
    size: Annotated[int, Field(ge=2)] = 512
    micro: Count = 16
    """Texts (`cached`) or examples (`accumulate`) in memory at once."""


class LoraConfig(_Section):
    """Low-rank adapters (Hu et al. 2021), one for all towers."""

    r: Count = 8
    """Rank of the product that is added to a layer."""
    alpha: Positive = 16.0
    """The product is scaled by `alpha / r`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of a layer's inputs that the product does not see, in training."""
    targets: Literal["auto"] | tuple[str, ...] = "auto"
    """Names of linear layers; `auto`: all of them in a transformer's blocks."""


class FineTuneConfig(_Section):
    """What `star-platform text finetune` learns from, and how."""

    document: DocumentTower
    profile: ProfileTower | None = None
    resume: ResumeTower | None = None
    positives: Annotated[str, Field(min_length=1)]
    """Edge type between members and documents: who acted on what, when."""
    negatives: Negatives
    until: datetime | None = None
    """Actions from this moment on (UTC unless it says otherwise) are left out: a release can be judged on them."""
    sampling: Literal["balanced", "all"] = "balanced"
    """`balanced`: as many negatives as positives, per day."""
    split: SplitConfig = SplitConfig()
    missing_resume: Literal["mask", "drop"] = "mask"
    """`mask`: no contrastive term and a block of zeros for what is missing; `drop`: no such example."""
    loss: LossConfig = LossConfig()
    head: HeadConfig = HeadConfig()
    batch: BatchConfig = BatchConfig()
    lora: LoraConfig = LoraConfig()
    lr: Positive = 1e-4
    weight_decay: NotNegative = 0.01
    warm_up: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Steps; `auto`: 30 x 3172 / batch, and never more than a fifth of all steps."""
    epochs: Count = 1
    validations: Count = 4
    """Per epoch."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = False
    """Recompute activations: less memory, a third more time."""
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _towers(self) -> Self:
        if self.profile is None and self.resume is None:
            raise ValueError("a request needs `profile`, `resume` or both")
        nodes = {tower.feature.partition(".")[0] for tower in (self.profile, self.resume) if tower is not None}
        if len(nodes) > 1:
            raise ValueError("profile and resume are features of one node type")
        absent = {letter for letter, part in (("p", self.profile), ("c", self.resume)) if part is None}
        if all(absent & set(pair) for pair in self.head.pairs):
            raise ValueError(f"head.pairs: none of {', '.join(self.head.pairs)} has both of its towers")
        return self

    @property
    def towers(self) -> dict[str, Tower]:
        """`document`, `profile`, `resume`, as far as there are."""
        named = {"document": self.document, "profile": self.profile, "resume": self.resume}
        return {name: tower for name, tower in named.items() if tower is not None}

    @property
    def until_us(self) -> int | None:
        """`until` in microseconds since 1970."""
        if self.until is None:
            return None
        moment = self.until if self.until.tzinfo is not None else self.until.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000_000)

    def warm_up_steps(self, total: int) -> int:
        """Steps of linear warm-up in a run of `total` steps."""
        if self.warm_up != "auto":
            return self.warm_up
        return min(round(REFERENCE_WARM_UP * REFERENCE_BATCH / self.batch.size), total // 5)
