"""Everything that decides how a model is trained; it enters the fingerprint of the model and is stored beside it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from star_platform.gnn.presets import expand

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
FanOut = Annotated[int, Field(ge=0, le=1000)]
Days = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*d$")]
_DAY = 86_400_000_000


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdaptiveConfig(_Section):
    """A fan-out that starts small and grows when validation stops improving (STAR algorithm 1; LiGNN section 4.1)."""

    enabled: bool = False
    start: Annotated[int, Field(ge=1, le=1000)] = 2
    """Neighbours per hop at the beginning; a hop whose fan-out is smaller keeps its own."""
    grow: Annotated[int, Field(ge=1, le=1000)] = 20
    """Added to every hop when validation did not beat its best by the tolerance; never beyond `fan_outs`."""
    tolerance: Annotated[float, Field(ge=0.0)] = 0.01
    """In AUC."""
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """The tolerance is multiplied by this at every validation."""
    full_share: Annotated[float, Field(ge=0.2, le=1.0)] = 0.2
    """The last steps, as a share of all, have the full fan-out whatever validation says."""


class PprConfig(_Section):
    """Neighbours by personalised PageRank, computed once per graph by forward push; used by `strategy: ppr`."""

    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """Chance that a walk starts again."""
    epsilon: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-4
    """Residual per neighbour below which nothing is pushed on."""
    top_k: Annotated[int, Field(ge=1, le=1000)] = 50
    """Neighbours kept per node and channel."""
    channels: tuple[tuple[str, ...], ...] = ()
    """Edge types that walks may take, a list per channel; empty: one channel over all of them."""
    snapshots: Annotated[int, Field(ge=1, le=64)] = 4
    """Moments at which scores are computed anew, from edges strictly earlier; an example sees the latest before it."""


class DensifyConfig(_Section):
    """Edges from nodes with few neighbours to well-connected ones with similar content (LiGNN, cold start)."""

    neighbours: Annotated[int, Field(ge=0, le=1000)] = 0
    """Similar nodes per node; 0: none are added."""
    low: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    """Nodes up to this quantile of degree receive edges."""
    high: Annotated[float, Field(ge=0.0, le=1.0)] = 0.9
    """Nodes from this quantile of degree on give them."""
    nodes: tuple[str, ...] = ()
    """Node types; empty: every entity with a text or vector feature."""


class SequenceConfig(_Section):
    """The temporal encoder: a node's latest activities through a prefix-causal transformer (LiGNN section 3.5)."""

    activities: Annotated[int, Field(ge=0, le=1000)] = 0
    """Latest interactions read per example; 0: no temporal encoder."""
    tokens: Annotated[int, Field(ge=1, le=16)] = 4
    """Tokens that the graph encoder's vector is cut into."""
    layers: Annotated[int, Field(ge=1, le=8)] = 1
    heads: Annotated[int, Field(ge=1, le=16)] = 4
    long_term: Annotated[int, Field(ge=0, le=100)] = 0
    """Each activity also predicts this many later ones; 0: no long-term loss."""
    long_term_weight: Annotated[float, Field(ge=0.0)] = 0.1


class LtgnnConfig(_Section):
    """Linear-time implicit propagation (LTGNN, Zhang et al. 2024); used by `encoder: ltgnn`."""

    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.45
    """Share of a node's own input in its fixed point."""
    neighbours: Annotated[int, Field(ge=1, le=1000)] = 15
    """Sampled per node and step; the rest is remembered."""
    validation_steps: Annotated[int, Field(ge=1, le=50)] = 3
    """Full propagation steps when vectors are read out."""


class TrainingConfig(_Section):
    """The `training:` section of star.yaml. Defaults suit graphs of up to some ten million edges on one machine."""

    preset: str | None = Field(default=None, exclude=True)
    """A named set of defaults, after a row of the papers' tables; `star-platform train --presets` lists them."""

    # --- encoder
    encoder: Literal["attention", "mean", "ltgnn"] = "attention"
    """How neighbours are mixed: multi-head attention, their mean (GraphSAGE), or LTGNN's implicit propagation."""
    dim: Annotated[int, Field(ge=4, le=4096)] = 128
    """Length of every published vector and of every hidden state."""
    multiplier: Literal[1, 2, 4] = 1
    """Inner width of a layer in units of `dim`."""
    fan_outs: Annotated[tuple[FanOut | dict[str, FanOut], ...], Field(max_length=4)] = (20, 10)
    """Neighbours per node and hop, nearest hop first; a mapping gives a fan-out per edge type. Empty: features only."""
    strategy: Literal["uniform", "latest", "weighted", "ppr"] = "uniform"
    """Which neighbours earlier than the example are taken when there are more than the fan-out."""
    window: Days | None = None
    """How far back a neighbour may lie, such as `180d`; undated edges always count."""
    budget: Literal["joint", "per-relation"] = "joint"
    """Whether a fan-out counts the neighbours of a node over all relations together, or of each relation."""
    moment: Literal["example", "step"] = "example"
    """When neighbourhoods are seen: at each example's own time, or at the earliest of its step, which samples less."""
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    target_in_attention: bool = False
    """Let a node attend to itself beside its neighbours."""
    towers: Literal["single", "dual"] = "single"
    """`dual`: source and destination side of an objective have layers of their own."""
    norm: Literal["layer", "batch", "none"] = "layer"
    dropout: Share = 0.1
    id_dropout: Share = 0.1
    """Share of learned id rows replaced by the shared row in training, so that the row of unseen nodes is trained."""
    id_buckets: Annotated[int, Field(ge=0)] = 0
    """Rows of each of the two tables of a hashed id (quotient and remainder); 0: a row per node."""
    id_optimizer: Literal["dense", "sparse"] = "dense"
    """`sparse`: only the rows of a step's nodes are updated, for tables of millions of rows."""
    age_encoding: bool = True
    """Let attention see how long before the example an edge happened."""
    activity: bool = True
    """Let a node see how often, and how long before the example, it last interacted in each relation."""
    identity_codes: Annotated[int, Field(ge=0, le=1024)] = 0
    """Width of a fixed random code per attribute node, a hash of its id: nodes unseen in training stay apart."""
    ppr: PprConfig = PprConfig()
    densify: DensifyConfig = DensifyConfig()
    sequence: SequenceConfig = SequenceConfig()
    ltgnn: LtgnnConfig = LtgnnConfig()

    # --- decoder and loss
    decoder: Literal["dot", "cosine", "hadamard", "mlp"] = "dot"
    """`cosine`: vectors have length 1. `hadamard`, `mlp`: for models that are scored here and not by a reader."""
    loss: Literal["bce", "softmax"] = "bce"
    """For drawn negatives: binary cross-entropy, or cross-entropy of the positive among the negatives."""
    negatives: Annotated[int, Field(ge=1, le=65_536)] = 512
    """Negatives drawn per step; all positives of the step share them."""
    objective_weights: Literal["fixed", "uncertainty"] = "fixed"
    """`uncertainty`: weights of objectives are learned (Kendall et al. 2018); declared ones multiply them."""
    repeats: Literal["first", "all"] = "first"
    """`first`: of several edges between the same two nodes only the first is an example; the others are history."""
    grouping: bool = False
    """Put the examples of one source node into the same step, where they share its neighbourhood."""

    # --- split by time
    validation_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    test_share: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.15

    # --- optimisation
    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    batch_size: Annotated[int, Field(ge=1)] = 1024
    """Positives per step."""
    gradient_batches: Annotated[int, Field(ge=1, le=1024)] = 1
    """Steps whose gradients are averaged before the weights move."""
    mlp_init: Annotated[int, Field(ge=0, le=100)] = 0
    """Epochs without edges first, whose weights the graph encoder starts from (MLPInit, Han et al. 2023)."""
    adaptive: AdaptiveConfig = AdaptiveConfig()
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
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where torch finds one."""
    precision: Literal["float32", "bf16"] = "float32"
    """`bf16`: matrix products and hidden states in bfloat16, weights and losses in float32."""
    compile: bool = False
    """Run the layers through `torch.compile` on a GPU; those of the CPU are compiled anyway."""

    # --- inference
    inference: Literal["sampled", "layer-wise"] = "sampled"
    """Published vectors: from sampled neighbourhoods as in training, or layer by layer from all neighbours."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        return expand(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        if self.validation_share + self.test_share >= 1.0:
            raise ValueError("validation_share and test_share leave nothing to train on")
        if self.budget == "joint" and any(isinstance(hop, dict) for hop in self.fan_outs):
            raise ValueError("a fan-out per edge type needs `budget: per-relation`")
        if self.encoder == "ltgnn" and (self.adaptive.enabled or self.mlp_init or self.sequence.activities):
            raise ValueError("`encoder: ltgnn` has no `adaptive`, `mlp_init` or `sequence`")
        if any(hop == 0 for hop in self.fan_outs):
            raise ValueError("a fan-out is at least 1; leave `fan_outs` empty for a model without neighbours")
        return self

    @property
    def hops(self) -> int:
        return len(self.fan_outs)

    @property
    def window_us(self) -> int | None:
        """The look-back window in microseconds."""
        return None if self.window is None else int(self.window[:-1]) * _DAY
