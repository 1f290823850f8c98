"""What a compile function needs beyond its signal, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from star_platform.graph.engine import Engine
from star_platform.graph.privacy import Pseudonymiser
from star_platform.planning.spec import GraphSpec
from star_platform.progress import SILENT, Progress
from star_platform.registry.artefacts import Artefact, ArtefactStore


@dataclass(frozen=True)
class Compiler:
    """The spec, the engine that reads its sources, and the store that takes the results."""

    spec: GraphSpec
    engine: Engine
    store: ArtefactStore
    pseudonymiser: Pseudonymiser
    progress: Progress = SILENT


@dataclass(frozen=True)
class GraphParts:
    """The finished artefacts that one graph is assembled from, by signal name."""

    nodes: Mapping[str, Artefact]
    edges: Mapping[str, Artefact]
    features: Mapping[str, Artefact] = field(default_factory=dict)
    """Kind "features" (categorical, numeric, vector), by full name."""
    texts: Mapping[str, Artefact] = field(default_factory=dict)
    """Rendered texts (kind "texts"), by full name of the text feature."""
    vectors: Mapping[str, Artefact] = field(default_factory=dict)
    """Their vectors (kind "text": values.npy float32[m, dim]), by full name of the text feature."""
    cohorts: Mapping[str, Artefact] = field(default_factory=dict)
