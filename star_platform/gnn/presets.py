"""Named sets of training settings, after the rows of the papers' tables.

STAR is arXiv 2507.09797 (tables 3 and 9), LiGNN arXiv 2402.11139, LTGNN arXiv 2402.13973, GraphSAGE arXiv 1706.02216.
A preset is shorthand: it is replaced by its settings when star.yaml is read, keys beside it win, and its name is
neither stored nor part of a fingerprint. Published figures are of their authors' data and say nothing about yours.
Where a paper leaves a setting open the preset's note says what was chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings that differ from the defaults, and when to choose them."""

    row: str
    """Which row of which table it follows."""
    figure: str
    """What was published there."""
    choose: str
    """When to choose it."""
    note: str
    """What the figure does not say, and what had to be chosen."""
    settings: Mapping[str, Any]

    @property
    def about(self) -> str:
        """In one line."""
        return f"{self.row}: {self.figure}"


_NOT_YOURS = "Their data: 500 M examples of one company."
_STAR: dict[str, Any] = {
    "encoder": "attention",
    "dim": 200,
    "heads": 4,
    "fan_outs": (100, 10),
    "norm": "batch",
    "decoder": "cosine",
    "lr": 1e-4,
    "batch_size": 4096,
    "max_epochs": 1,
    "patience": 10,
    "validate_every": 0.1,
}
"""STAR, section 3 and table 9: up to 100 neighbours, batch norm, vectors of length 1 (L2), one epoch, validated ten
times. A second hop of 10, 4 heads and the cosine are chosen here."""
_DUAL = {**_STAR, "towers": "dual"}
_LIGNN: dict[str, Any] = {**_STAR, "fan_outs": (200, 10)}
"""LiGNN draws up to 200 neighbours: 3.2 % better than 20 in its ablation."""

PRESETS: dict[str, Preset] = {
    "star-dim-100": Preset(
        "STAR table 3, dim 100",
        "validation AUC 0.8258 (0.8215 on 300 M examples)",
        "The start of a search, or when stores and readers pay per number of a vector.",
        f"{_NOT_YOURS} Its batch and rate suit some 100 M examples; on few, raise `lr` and `max_epochs`.",
        {**_STAR, "dim": 100},
    ),
    "star-dim-200": Preset(
        "STAR table 3, dim 200",
        "validation AUC 0.8341, 0.0083 over dim 100",
        "Enough examples, and room for twice the vector: the largest single gain of the table after more data.",
        f"{_NOT_YOURS} The second hop of 10 and the 4 heads are our reading.",
        _STAR,
    ),
    "star-ppr-50-5": Preset(
        'STAR table 3, PPR "50 5"',
        "validation AUC 0.8338, beside 0.8341 without",
        "Graphs whose few strongest paths matter more than direct neighbours; measure it beside star-dim-200.",
        f"{_NOT_YOURS} The two numbers are not defined there; here: the best 50 are kept, 5 in the second hop.",
        {**_STAR, "strategy": "ppr", "ppr": {"top_k": 50}, "fan_outs": (50, 5)},
    ),
    "star-ppr-200-5": Preset(
        'STAR table 3, PPR "200 5"',
        "validation AUC 0.8336, beside 0.8341 without",
        "As star-ppr-50-5, with lists four times as long.",
        f"{_NOT_YOURS} The longer lists gained nothing there; the numbers are read as for star-ppr-50-5.",
        {**_STAR, "strategy": "ppr", "ppr": {"top_k": 200}, "fan_outs": (200, 5)},
    ),
    "star-dual": Preset(
        "STAR table 3, dual encoder",
        "validation AUC 0.8347, 0.0006 over one encoder",
        "Source and destination of an objective are of very different kinds, and examples are plenty.",
        f"{_NOT_YOURS} Twice the layers for a small gain; LiGNN reports 2.5 % for the same idea on its own data.",
        _DUAL,
    ),
    "star-multiplier-2": Preset(
        "STAR table 3, dual encoder with unit multiplier 2",
        "validation AUC 0.8363, 0.0016 over multiplier 1",
        "Training time is no concern and vectors must not grow.",
        f"{_NOT_YOURS} The multiplier is read as the inner width of a layer; vectors keep their length.",
        {**_DUAL, "multiplier": 2},
    ),
    "star-multiplier-4": Preset(
        "STAR table 3, unit multiplier 4 with self-attention and LeakyReLU",
        "validation AUC 0.8378 (0.8424 on 800 M examples)",
        "The best of the table at equal data, and its slowest.",
        f"{_NOT_YOURS} Three changes at once: which brought the gain is not said. LeakyReLU is always on here.",
        {**_DUAL, "multiplier": 4, "target_in_attention": True},
    ),
    "star-attention": Preset(
        "STAR table 3, self-attention on 1 B examples",
        "validation AUC 0.8470, 0.0020 over the mean",
        "Nodes have many neighbours of unequal use: attention chooses among them.",
        "Their data: 1 B examples of one company. Whether the row has a multiplier is not said: none here.",
        {**_DUAL, "target_in_attention": True},
    ),
    "star-mean": Preset(
        "STAR table 3, mean pooling on 1 B examples",
        "validation AUC 0.8450, 0.0020 below attention",
        "The cheapest step that still reads a graph; a baseline that attention has to beat.",
        "Their data: 1 B examples of one company.",
        {**_DUAL, "encoder": "mean"},
    ),
    "star-temporal": Preset(
        "LiGNN's ablation, temporal sampling, with STAR's settings",
        "+5.8 % over the model without (second-hand)",
        "What a node did last tells more than what it ever did: short-lived jobs, changing intents.",
        "The figure is of LiGNN's whole temporal model; this preset only changes which neighbours are drawn.",
        {**_STAR, "strategy": "latest"},
    ),
    "lignn-dense": Preset(
        "LiGNN's densification, 50 similar nodes",
        "+0.5 % (second-hand)",
        "Many cold nodes whose texts or vectors say something.",
        "Needs a text or vector feature. Judge it by the rows of few neighbours in the report: others hardly change.",
        {**_LIGNN, "densify": {"neighbours": 50, "low": 0.3, "high": 0.9}},
    ),
    "lignn-ids": Preset(
        "LiGNN's ablation, id embeddings",
        "+15.3 % on a feed (second-hand), its largest gain",
        "Nodes that live long and are met often; tables too large to move at every step.",
        "Declare features of `kind: id`: the preset only trains them. New nodes share one row and gain nothing.",
        {**_LIGNN, "id_optimizer": "sparse", "id_dropout": 0.1},
    ),
    "lignn-temporal-encoder": Preset(
        "LiGNN section 3.5, temporal encoder with long-term loss",
        "AUC 0.71978 to 0.76176 with all its parts",
        "Order and recency of a member's activities matter, and members have tens of them.",
        "Their data; encoder .75204, positions .75277, prefix mask .75316, destination's neighbours .75978.",
        {
            **_LIGNN,
            "encoder": "mean",
            "strategy": "latest",
            "sequence": {"activities": 100, "tokens": 4, "heads": 4, "long_term": 10, "long_term_weight": 0.1},
        },
    ),
    "ltgnn": Preset(
        "LTGNN, Amazon-Large",
        "Recall@20 0.0294, NDCG@20 0.0259",
        "Collaborative signal from far away at a cost linear in edges; few features, mostly ids.",
        "Their test split also chose their settings. The negatives of a step are ours.",
        {
            "encoder": "ltgnn",
            "dim": 64,
            "fan_outs": (15,),
            "lr": 1.5e-3,
            "batch_size": 2048,
            "id_optimizer": "sparse",
            "ltgnn": {"alpha": 0.45, "neighbours": 15, "validation_steps": 3},
        },
    ),
    "graphsage": Preset(
        "GraphSAGE-mean, Hamilton et al. 2017, table 1",
        "micro-F1 0.950 on Reddit posts, supervised",
        "A baseline that everybody knows.",
        "Another task and another loss than link prediction; here its sampler, widths and mean.",
        {
            "encoder": "mean",
            "dim": 128,
            "fan_outs": (25, 10),
            "batch_size": 512,
            "decoder": "cosine",
            "norm": "none",
            "age_encoding": False,
            "activity": False,
        },
    ),
    "job-board": Preset(
        "this project, examples/job_board",
        "test AUC 0.969 [0.964, 0.974] on 1,338 later views",
        "Some ten thousand nodes and edges, and minutes of two cores.",
        "These are the defaults of that release, written out: they stay when defaults change.",
        {
            "encoder": "attention",
            "dim": 128,
            "heads": 4,
            "fan_outs": (20, 10),
            "batch_size": 1024,
            "negatives": 512,
            "lr": 1e-3,
            "dropout": 0.1,
            "norm": "layer",
            "decoder": "dot",
            "max_epochs": 20,
            "patience": 6,
            "validate_every": 0.5,
        },
    ),
    "tiny": Preset(
        "this project, its own tests",
        "none",
        "To see that everything runs, in seconds.",
        "Learns next to nothing.",
        {
            "dim": 16,
            "heads": 2,
            "fan_outs": (4,),
            "batch_size": 64,
            "negatives": 32,
            "max_epochs": 2,
            "validate_every": 1.0,
            "threads": 1,
        },
    ),
}
"""By name."""


def expand(given: dict[str, Any]) -> dict[str, Any]:
    """`given` over the settings of the preset that it names; a section is merged key by key.

    Raises:
        ValueError: for a preset that is not known.
    """
    name = given.get("preset")
    if name is None:
        return given
    if name not in PRESETS:
        close = get_close_matches(str(name), PRESETS, n=1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"no preset {name!r}; {meant}there are {', '.join(sorted(PRESETS))}")
    merged = dict(PRESETS[name].settings)
    for key, value in given.items():
        inner = merged.get(key)
        merged[key] = {**inner, **value} if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
