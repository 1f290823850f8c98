"""The `compat` stage of a release: a map to every older space that is still read, and who could live with it.

Leaves `maps.safetensors` and `maps.json`. Older releases are taken newest first, so that the maps of those in between
are there to be composed with. Equal inputs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from star_platform.compat import verdicts
from star_platform.compat.candidates import Chosen, Task, choose, split_pairs
from star_platform.compat.config import CompatConfig
from star_platform.compat.gate import GateConsumer, judge_geometry
from star_platform.compat.model import SpaceVectors, save_maps
from star_platform.compat.older import Older, reference
from star_platform.compat.pairs import Pairs
from star_platform.compat.slices import Slicing, degrees, graph_rows, slicings
from star_platform.graph.storage import Graph
from star_platform.progress import SILENT, Progress

__all__ = ["Older", "build_compat", "gate_failures"]

SCHEMA_VERSION = 1


def build_compat(
    new: SpaceVectors,
    older: Sequence[Older],
    learned: Mapping[tuple[str, int], NDArray[Any]],
    consumers: Sequence[GateConsumer],
    graph: Graph,
    config: CompatConfig,
    out_dir: Path,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Make the maps of a release, judge them, and write them into the existing folder `out_dir`.

    Args:
        new: the vectors of the release.
        older: releases that readers still ask for.
        learned: weights `[d_n, d_m]` that joint training has brought, by node type and older release.
        consumers: who is pinned to one of `older`.
        graph: of the new release; slices come from it.
        config: how to fit, and when a map is good enough.
        out_dir: where the maps go.
        progress: told about every map.

    Returns:
        JSON. `maps`: of each map its target, how it came about, all candidates, figures on held-out entities (also by
        degree, cohort and for the newest) and a verdict by geometry. `skipped`: what has no map and why. `warnings`.
        `gate.consumers`: verdict, reasons and figures of each consumer; `blocks` tells whether a bad one stops the
        release. `gate.not_judged`: consumers of releases that are not in `older`.

    Raises:
        CompatError: C010-C015 for vectors that cannot be joined, fitted or composed.
        DependencyMissing: D020 for a scorer in ONNX without onnxruntime.
    """
    work = _Work(new, graph, config)
    ordered = sorted(older, key=lambda each: -each.release)
    wanted = [
        (place, target, node) for place, target in enumerate(ordered) for node in _nodes(new, target, ordered[:place])
    ]
    with progress.task("compat", total=len(wanted) + len(consumers), unit="maps and consumers") as task:
        for place, target, node in wanted:
            if config.serve == "last" and place > 0:
                work.unserved.add(target.release)
                work.skip(node, target, "compat.serve is `last`, and a newer release is served")
            else:
                work.map(node, target, ordered[:place], learned)
            task.advance()
        save_maps(out_dir, [found.map for found in work.chosen.values()])
        details = work.report()
        known = {each.release for each in older}
        entries = []
        for consumer in consumers:
            if consumer.release in known:
                entries.append(work.judged(consumer, details["maps"]))
            task.advance()
    for warning in details["warnings"]:
        progress.line(f"compat: {warning}")
    names = sorted(consumer.name for consumer in consumers if consumer.release not in known)
    return {**details, "gate": {"consumers": entries, "not_judged": names}}


def gate_failures(details: Mapping[str, Any], config: CompatConfig) -> list[str]:
    """A sentence for each consumer that activation would break; see `verdicts.failures`."""
    return verdicts.failures(details, config)


def _nodes(new: SpaceVectors, target: Older, newer: Sequence[Older]) -> list[str]:
    """Node types of either side; once the old vectors are gone, those that a newer release maps to it."""
    if target.vectors is not None:
        return sorted({*new.nodes, *target.vectors.nodes})
    mapped = {known.node for each in newer for known in each.maps if known.target == target.release}
    return sorted({*new.nodes, *mapped})


@dataclass(eq=False)
class _Work:
    """What one run of the stage has found so far."""

    new: SpaceVectors
    graph: Graph
    config: CompatConfig
    chosen: dict[tuple[str, int], Chosen] = field(default_factory=dict)
    through: dict[tuple[str, int], int | None] = field(default_factory=dict)
    skipped: dict[tuple[str, int], str] = field(default_factory=dict)
    unserved: set[int] = field(default_factory=set)
    """Releases that shall have no map: nobody is served anew, so nobody can break."""
    slicings: dict[str, tuple[Slicing, ...]] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def skip(self, node: str, target: Older, reason: str) -> None:
        self.skipped[node, target.release] = reason

    def map(
        self, node: str, target: Older, newer: Sequence[Older], learned: Mapping[tuple[str, int], NDArray[Any]]
    ) -> None:
        """Choose the map of one node type to one release, or note why there is none."""
        if node not in self.new.nodes:
            return self.skip(node, target, "the new release does not have this node type")
        compared = reference(target, node, newer)
        if compared is None:
            gone = target.vectors is None
            return self.skip(
                node,
                target,
                "its vectors are gone, and no release maps to it" if gone else f"r{target.release} does not have it",
            )
        task = Task(node, self.new, target, compared)
        split = split_pairs(task, self.config)
        before = [
            (each, self.chosen[node, each.release].linear) for each in newer if (node, each.release) in self.chosen
        ]
        found = choose(task, split, before, learned.get((node, target.release)), self.config, self._weigh(node))
        if found is None:
            return self.skip(node, target, f"{len(split.fit)} entities are common, too few to fit a map")
        self.chosen[node, target.release] = found
        self.through[node, target.release] = compared.through
        if node not in self.slicings:
            self.slicings[node] = slicings(self.graph, node, self.new.nodes[node].ids)
        return None

    def _weigh(self, node: str) -> Any:
        if self.config.weight == "uniform":
            return lambda _pairs: None
        if node not in self.weights:
            rows = graph_rows(self.graph, node, self.new.nodes[node].ids)
            degree = np.where(rows >= 0, degrees(self.graph, node)[np.maximum(rows, 0)], 0)
            self.weights[node] = 1.0 + np.log1p(degree)
        weights = self.weights[node]

        def of(pairs: Pairs) -> Any:
            return lambda part: weights[pairs.rows[part]]

        return of

    def report(self) -> dict[str, Any]:
        """Everything but the consumers."""
        warnings = [warning for found in self.chosen.values() for warning in found.warnings]
        return {
            "schema_version": SCHEMA_VERSION,
            "mode": self.config.mode,
            "maps": [self._entry(key, found) for key, found in sorted(self.chosen.items())],
            "skipped": [
                {"node": node, "release": release, "reason": reason}
                for (node, release), reason in sorted(self.skipped.items())
            ],
            "warnings": list(dict.fromkeys(warnings)),
        }

    def _entry(self, key: tuple[str, int], found: Chosen) -> dict[str, Any]:
        node, release = key
        through = self.through[key]
        figures = {**found.geometry.figures(), "slices": self._slices(node, found)}
        judgement = judge_geometry(node, figures, self.config.gate)
        return {
            "node": node,
            "target": release,
            "method": found.map.method,
            "via": found.map.via,
            "dims": list(found.map.dims),
            "normalise": found.map.normalise,
            "compared_with": f"r{release}" if through is None else f"r{release} as r{through} serves it",
            "fitted_on": len(found.split.fit),
            "new_entities": found.split.new,
            "gone_entities": found.split.gone,
            "candidates": list(found.candidates),
            "figures": figures,
            "verdict": judgement.verdict,
            "reasons": list(judgement.reasons),
        }

    def _slices(self, node: str, found: Chosen) -> list[dict[str, Any]]:
        rows = found.split.judge.rows
        return [
            {"kind": slicing.kind, "name": label, **found.geometry.figures(chosen)}
            for slicing in (each.at(rows) for each in self.slicings[node])
            for label, chosen in slicing.parts()
            if chosen.any()
        ]

    def judged(self, consumer: GateConsumer, maps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The entry of a consumer of one of the older releases."""
        absent = {
            node: self.skipped.get((node, consumer.release), "no release has this node type")
            for node in consumer.nodes
            if (node, consumer.release) not in self.chosen
        }
        entry = verdicts.measured(consumer, self.new, self.chosen, absent, self.slicings, self.config)
        entry["blocks"] = consumer.need == "mapped" and consumer.release not in self.unserved
        judgement = verdicts.judge(entry, maps, self.config.gate)
        reasons = list(judgement.reasons)
        if consumer.need == "exact":
            reasons.append(f"it needs the exact vectors: r{consumer.release} has to stay served by its own")
        return {**entry, "verdict": judgement.verdict, "reasons": reasons}
