"""Everything that decides how a model is trained; it enters the fingerprint of the model and is stored beside it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class TrainingConfig(BaseModel):
    """The `training:` section of star.yaml. Defaults suit graphs of up to some ten million edges on one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # --- encoder
    dim: Annotated[int, Field(ge=4, le=4096)] = 128
    """Length of every published vector and of every hidden state."""
    fan_outs: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(max_length=4)] = (20, 10)
    """Neighbours per node and hop, nearest hop first. Empty: features only, no graph."""
    strategy: Literal["uniform", "latest"] = "uniform"
    """Which neighbours earlier than the example are taken when there are more than the fan-out."""
    budget: Literal["joint", "per-relation"] = "joint"
    """Whether a fan-out counts the neighbours of a node over all relations together, or of each relation."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    dropout: Share = 0.1
    id_dropout: Share = 0.1
    """Share of learned id rows replaced by the shared row in training, so that the row of unseen nodes is trained."""
    age_encoding: bool = True
    """Let attention see how long before the example an edge happened."""
    activity: bool = True
    """Let a node see how often, and how long before the example, it last interacted in each relation."""
    identity_codes: Annotated[int, Field(ge=0, le=1024)] = 0
    """Width of a fixed random code per attribute node, a hash of its id: nodes unseen in training stay apart."""

    # --- decoder and loss
    decoder: Literal["dot", "cosine"] = "dot"
    """`cosine`: vectors have length 1, so that their dot product is the cosine."""
    loss: Literal["bce", "softmax"] = "bce"
    """For drawn negatives: binary cross-entropy, or cross-entropy of the positive among the negatives."""
    negatives: Annotated[int, Field(ge=1, le=65_536)] = 512
    """Uniform negatives drawn per step; all positives of the step share them."""
    repeats: Literal["first", "all"] = "first"
    """`first`: of several edges between the same two nodes only the first is an example; the others are history."""

    # --- split by time
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    test_share: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.15

    # --- optimisation
    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    batch_size: Annotated[int, Field(ge=1)] = 1024
    """Positives per step."""
    max_epochs: Annotated[int, Field(ge=1)] = 20
    patience: Annotated[int, Field(ge=1)] = 6
    """Validations without a better mean AUC before training stops."""
    validate_every: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """In epochs; a checkpoint is written at each validation."""
    validation_examples: Annotated[int, Field(ge=1)] = 20_000
    """At most this many validation positives per objective are scored."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    """Torch threads. Part of the configuration because it decides the order of floating-point sums."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if self.validation_share + self.test_share >= 1.0:
            raise ValueError("validation_share and test_share leave nothing to train on")
        return self
