"""Signals to artefacts: one function per signal kind, then the graph that links them together.

Every function is idempotent: an artefact of the same kind and fingerprint that is already in the store is returned
as it is. The fingerprint is the caller's (planning knows what an artefact depends on):

    nodes/<fp>      the node, the edges that may create nodes of it (`creators`), its opt-outs (`opt_outs_of`)
    edges/<fp>      the edge, label columns of the objectives over it (`label_columns`), both node artefacts
    features/<fp>   the feature (categorical, numeric, vector; an id feature has no array), its node artefact
    texts/<fp>      the same for kind text: rendered rows, not vectors
    cohorts/<fp>    the cohort, its node artefact
    graph/<fp>      all of the above, the text vectors, and the declarations of id features

    build_nodes(compiler, node, fingerprint)                  -> Artefact
    build_edges(compiler, edge, src, dst, fingerprint)        -> Artefact    src, dst: the nodes of its endpoints
    build_feature(compiler, feature, nodes, fingerprint)      -> Artefact    nodes: those of the feature's node type
    build_texts(compiler, feature, nodes, fingerprint)        -> Artefact
    build_cohort(compiler, cohort, nodes, fingerprint)        -> Artefact
    assemble_graph(compiler, parts, fingerprint)              -> Artefact
"""

from __future__ import annotations

from star_platform.graph.assemble import assemble_graph
from star_platform.graph.cohorts import build_cohort
from star_platform.graph.edges import build_edges
from star_platform.graph.features import build_feature
from star_platform.graph.inputs import Compiler, GraphParts
from star_platform.graph.needs import creators, label_columns, opt_outs_of
from star_platform.graph.nodes import build_nodes
from star_platform.graph.texts import build_texts

__all__ = [
    "Compiler",
    "GraphParts",
    "assemble_graph",
    "build_cohort",
    "build_edges",
    "build_feature",
    "build_nodes",
    "build_texts",
    "creators",
    "label_columns",
    "opt_outs_of",
]
