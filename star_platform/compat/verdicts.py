"""Who reads what an older release has, and whether the new vectors may serve them: the `gate` part of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from star_platform.compat import parity
from star_platform.compat.candidates import Chosen
from star_platform.compat.cases import read_cases
from star_platform.compat.config import CompatConfig, CompatGate
from star_platform.compat.gate import (
    SERVABLE,
    GateConsumer,
    Judgement,
    judge_geometry,
    judge_scores,
    slice_verdict,
    worst,
)
from star_platform.compat.model import SpaceVectors
from star_platform.compat.scorers import open_scorer
from star_platform.compat.slices import Slicing
from star_platform.errors import CompatError

Report = Mapping[str, Any]
"""JSON."""


def measured(
    consumer: GateConsumer,
    new: SpaceVectors,
    chosen: Mapping[tuple[str, int], Chosen],
    missing: Mapping[str, str],
    slicings: Mapping[str, Sequence[Slicing]],
    config: CompatConfig,
) -> dict[str, Any]:
    """The entry of one consumer without its verdict; its own scorer is asked where it has one and every map exists.

    `missing`: node types that it reads and that have no map, with the reason.
    """
    entry: dict[str, Any] = {
        "consumer": consumer.name,
        "owner": consumer.owner,
        "release": consumer.release,
        "nodes": list(consumer.nodes),
        "need": consumer.need,
        "margin": consumer.margin,
        "asked": consumer.asked,
        "missing": dict(missing),
        "parity": None,
        "problem": None,
    }
    if consumer.scorer is None or consumer.cases is None or missing:
        return entry
    try:
        entry["parity"] = _parity(consumer, new, chosen, slicings, config)
    except CompatError as error:
        entry["problem"] = str(error)
        return entry
    for part in entry["parity"]["slices"]:
        part["verdict"] = slice_verdict(part, margin_of(entry, config.gate), config.gate)
    return entry


def margin_of(entry: Report, gate: CompatGate) -> float:
    """AUC that a consumer may lose: its own margin, or the project's as it is now."""
    return gate.epsilon if entry["margin"] is None else float(entry["margin"])


def _parity(
    consumer: GateConsumer,
    new: SpaceVectors,
    chosen: Mapping[tuple[str, int], Chosen],
    slicings: Mapping[str, Sequence[Slicing]],
    config: CompatConfig,
) -> dict[str, Any]:
    spec = consumer.cases or {}
    unread = sorted(set(spec["keys"]) - set(consumer.nodes))
    if unread:
        raise CompatError(
            "C034",
            f"the labelled set of {consumer.name} has keys of {', '.join(unread)}, which it does not read",
            hint="list the node type under `nodes`, or delete the key",
        )
    scorer = open_scorer(consumer.scorer or {}, consumer.root)
    cases = read_cases(spec, consumer.root)
    served = {
        node: parity.Served(
            chosen[node, consumer.release].map,
            new.nodes[node],
            chosen[node, consumer.release].split.judge.old,
            slicings[node],
        )
        for node in cases.keys
    }
    return parity.measure(scorer, cases, served, config.gate.resamples, config.seed)


def judge(entry: Report, maps: Sequence[Report], gate: CompatGate) -> Judgement:
    """The verdict on one consumer from the recorded figures; `maps` are those of the same report."""
    figures = {item["node"]: item["figures"] for item in maps if item["target"] == entry["release"]}
    parts = [Judgement("fail", (f"{node}: {reason}",)) for node, reason in entry["missing"].items()]
    scored: set[str] = set()
    if entry["parity"] is not None:
        scored = set(entry["parity"]["nodes"])
        parts.append(judge_scores(entry["parity"], margin_of(entry, gate), gate))
    elif entry["problem"] is not None:
        scored = set(entry["nodes"])
        parts.append(Judgement("inconclusive", (entry["problem"],)))
    parts += [
        judge_geometry(node, figures[node], gate) for node in entry["nodes"] if node in figures and node not in scored
    ]
    return worst(parts)


def failures(details: Report, config: CompatConfig) -> list[str]:
    """A sentence for each consumer that the release would break: who, which release, the figures, and what to do.

    Judged anew from the recorded figures, so that another gate or `keep` needs no new fit.
    """
    found = []
    for entry in details["gate"]["consumers"]:
        name = f"r{entry['release']}"
        if not entry["blocks"] or name in config.keep:
            continue
        judgement = judge(entry, details["maps"], config.gate)
        if judgement.verdict in SERVABLE:
            continue
        why = "; ".join(judgement.reasons)
        how = "would break" if judgement.verdict == "fail" else "is not shown to be safe"
        found.append(
            f"{entry['consumer']} ({entry['owner']}) reads {name} and {how} on the new vectors: {why}. "
            f"{_remedy(judgement, name, config)}"
        )
    return found


def _remedy(judgement: Judgement, name: str, config: CompatConfig) -> str:
    keep = f"keep {name} served as it is with `compat.keep: [{name}]`"
    if judgement.verdict == "inconclusive":
        return f"Give it more labelled rows, or {keep}"
    if config.mode == "joint-multi":
        return f"Raise `compat.align_weight`, or {keep} until it is trained on newer vectors"
    return f"Train with `compat.mode: joint-multi`, or {keep}"
