"""Whether a consumer may be served through a map: a rule over recorded figures, so that it can be asked again.

With a scorer and labelled examples the consumer's own AUC and calibration decide. Its AUC on mapped vectors may be
lower by its margin at most, at 95 % confidence, which is a test of non-inferiority; where the interval is wider than
the margin on either side the answer is `inconclusive`, and that fails too. Without a scorer geometry decides, and what
it lets through is `unproven`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from star_platform.compat.config import CompatGate
from star_platform.planning.canonical import digest

Verdict = Literal["pass", "unproven", "inconclusive", "fail"]
SERVABLE: frozenset[Verdict] = frozenset({"pass", "unproven"})
_WORST: tuple[Verdict, ...] = ("pass", "unproven", "inconclusive", "fail")
LEAST_CLUSTERS = 30
"""Clusters below which a bootstrap interval is too narrow to be believed."""


@dataclass(frozen=True)
class GateConsumer:
    """A declared consumer that reads one older release."""

    name: str
    owner: str
    nodes: tuple[str, ...]
    release: int
    need: Literal["mapped", "exact"] = "mapped"
    margin: float | None = None
    """AUC that it may lose; None: `CompatGate.epsilon`."""
    scorer: Mapping[str, str] | None = None
    cases: Mapping[str, Any] | None = None
    root: Path = Path()
    """What the paths of `scorer` and `cases` are relative to."""

    @property
    def asked(self) -> str:
        """Identity of what its own model was asked; "" for a consumer without scorer or labelled set."""
        if self.scorer is None or self.cases is None:
            return ""
        return digest([self.nodes, self.release, self.scorer, self.cases])


@dataclass(frozen=True)
class Judgement:
    """A verdict and why, in words."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()

    @property
    def servable(self) -> bool:
        return self.verdict in SERVABLE


def worst(judgements: Iterable[Judgement]) -> Judgement:
    """The worst verdict, with the reasons of all that cannot be served if there are such; `pass` of nothing."""
    given = list(judgements)
    place = max((_WORST.index(each.verdict) for each in given), default=0)
    bad = [each for each in given if not each.servable] or given
    return Judgement(_WORST[place], tuple(reason for each in bad for reason in each.reasons))


def judge_geometry(node: str, figures: Mapping[str, Any], gate: CompatGate) -> Judgement:
    """`unproven`, `fail` or `inconclusive` from what `Geometry.figures` and `slices` say of one map."""
    n = int(figures["n"])
    if n < gate.min_rows:
        reason = f"{node}: {n} held-out entities, and {gate.min_rows} are needed to judge its map"
        return Judgement("inconclusive", (reason,))
    limits = (
        ("R2", "r2", gate.min_r2),
        ("mean cosine", "cosine_mean", gate.min_cosine),
        ("5th percentile of cosine", "cosine_p5", gate.min_cosine_p5),
        ("neighbour overlap@10", "overlap_10", gate.min_overlap),
    )
    measured = [limit for limit in limits if limit[1] != "overlap_10" or figures.get("overlap_10") is not None]
    unknown = [what for what, name, _ in measured if not _finite(figures.get(name))]  # few entities have no overlap
    low = [
        f"{node}: {what} {figures[name]:.3f} is below {limit:g}"
        for what, name, limit in limits
        if _finite(figures.get(name)) and figures[name] < limit
    ]
    low += [
        f"{node}: mean cosine {part['cosine_mean']:.3f} of the {part['n']} with {part['kind']} {part['name']} is below "
        f"{gate.min_slice_cosine:g}"
        for part in figures.get("slices", ())
        if part["n"] >= gate.min_rows and not part["cosine_mean"] >= gate.min_slice_cosine
    ]
    if unknown and not low:
        return Judgement("inconclusive", (f"{node}: {', '.join(unknown)} cannot be told from its held-out entities",))
    return Judgement("fail", tuple(low)) if low else Judgement("unproven", (f"{node}: judged by geometry alone",))


def _finite(figure: Any) -> bool:
    return figure is not None and math.isfinite(figure)


def judge_scores(figures: Mapping[str, Any], margin: float, gate: CompatGate) -> Judgement:
    """`pass`, `fail` or `inconclusive` from what `parity.measure` says of one consumer."""
    fewest = min(figures["positives"], figures["negatives"])
    if fewest < gate.min_rows:
        reason = (
            f"the labelled set has {figures['positives']} positives and {figures['negatives']} negatives that both "
            f"releases know, and {gate.min_rows} of each are needed"
        )
        return Judgement("inconclusive", (reason,))
    calibration = figures["calibration"]
    broken = []
    if calibration is not None and calibration["ratio"] is None:
        broken.append("scores on mapped vectors are no probabilities any more")
    elif calibration is not None and abs(calibration["ratio"] - 1.0) > gate.calibration:
        broken.append(
            f"observed / expected moves from {calibration['old']:.3f} to {calibration['mapped']:.3f}, more than "
            f"{gate.calibration:.0%}"
        )
    broken += [
        f"AUC falls by {-part['difference']:.4f} for {part['node']} {part['kind']} {part['name']} ({part['rows']} rows)"
        for part in figures["slices"]
        if part["high_corrected"] is not None and part["high_corrected"] < -margin and part["rows"] >= gate.min_rows
    ]
    by_auc = _judge_auc(figures, margin)
    if broken:
        return worst([by_auc, Judgement("fail", tuple(broken))])
    return by_auc


def _judge_auc(figures: Mapping[str, Any], margin: float) -> Judgement:
    auc = figures["auc"]
    low, high = auc["low"], auc["high"]
    if low is None or high is None:
        return Judgement("inconclusive", ("the AUC difference has no interval on these examples",))
    said = f"AUC {auc['old']:.4f} becomes {auc['mapped']:.4f}: {auc['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
    half = (high - low) / 2
    if high < -margin:
        return Judgement("fail", (f"{said}, beyond the margin of {margin:g}",))
    if half > margin:
        needed = math.ceil(figures["rows"] * (half / margin) ** 2)
        wide = f"{said} is too wide for the margin of {margin:g}"
        return Judgement("inconclusive", (f"{wide}: about {needed:,} rows like these {figures['rows']:,} would tell",))
    clusters = figures["clusters"]
    if clusters is not None and clusters < LEAST_CLUSTERS:
        reason = f"the labelled set holds {clusters} clusters of rows, and {LEAST_CLUSTERS} are needed for an interval"
        return Judgement("inconclusive", (reason,))
    if low <= -margin:
        return Judgement("fail", (f"{said} does not exclude a loss of {margin:g}",))
    return Judgement("pass", (f"{said}, within the margin of {margin:g}",))


def slice_verdict(part: Mapping[str, Any], margin: float, gate: CompatGate) -> str:
    """`pass`, `fail` or `unknown` of one slice: a slice that is too small to tell is never a pass."""
    low, high = part["low"], part["high"]
    if low is None or high is None or part["rows"] < gate.min_rows:
        return "unknown"
    if part["high_corrected"] is not None and part["high_corrected"] < -margin:
        return "fail"
    return "pass" if low > -margin and (high - low) / 2 <= margin else "unknown"
