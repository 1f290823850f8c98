"""The stages of a release as values: what is built, why, from what, and at what cost.

`plan` prints this list, `release --explain` prints it, `release` runs it.

    nodes/<type>      signal, who opts out, edge types that create nodes of it
    edges/<name>      nodes of both ends
    features/<f>      nodes                        (categorical, numeric, vector; id features live in the model)
    texts/<f>         nodes                        (rendered text rows)
    text/<f>          texts/<f>, text settings     (their vectors)
    cohorts/<c>       nodes
    graph             all of the above
    train             graph, objectives, training settings
    embed             train, graph
    evaluate          embed, graph, evaluation settings
    publish           embed, publishing settings
    activate          publish, evaluate
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from star_platform.planning.estimate import NOTHING, Estimate

StageKind = Literal[
    "nodes",
    "edges",
    "features",
    "texts",
    "text",
    "cohorts",
    "graph",
    "train",
    "embed",
    "evaluate",
    "publish",
    "activate",
]
"""Also the kind of the artefact that the stage leaves; `publish` and `activate` leave none."""

Exists = Callable[[str, str], bool]
"""`(kind, fingerprint)`: is that artefact in the store?"""


@dataclass(frozen=True)
class Stage:
    """One step of a release.

    `inputs` are names of earlier stages. `subject` is the node type, edge type, feature or cohort that it builds.
    """

    name: str
    kind: StageKind
    subject: str | None
    fingerprint: str
    what: str
    why: str
    inputs: tuple[str, ...] = ()
    action: Literal["reuse", "build"] = "build"
    estimate: Estimate = NOTHING


@dataclass(frozen=True)
class StageSettings:
    """What besides signals and data decides the content of a release.

    `text_fingerprint` is that of the opened text encoder, `text` what to call it in a plan (encoder, dim). The
    mappings are JSON and hold seeds, so that equal settings mean equal bytes.
    """

    text_fingerprint: str
    text: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    publishing: Mapping[str, Any] = field(default_factory=dict)
