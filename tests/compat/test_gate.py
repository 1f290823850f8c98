"""Verdicts follow from recorded figures by rules that can be read."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from star_platform.compat.cases import LabelledCases
from star_platform.compat.config import CompatGate
from star_platform.compat.gate import Judgement, judge_geometry, judge_scores, slice_verdict, worst
from star_platform.compat.geometry import mean_old
from star_platform.compat.geometry import measure as geometry
from star_platform.compat.model import Vectors
from star_platform.compat.pairs import pair
from star_platform.compat.parity import Served, _calibration, measure
from star_platform.compat.slices import Slicing
from star_platform.evaluation.auc import auc, delong

from .worlds import linear_map

GATE = CompatGate()
GOOD = {"n": 500, "r2": 0.97, "cosine_mean": 0.98, "cosine_p5": 0.9, "overlap_10": 0.7, "slices": []}
EXACT = {
    "rows": 10_000, "positives": 5_000, "negatives": 5_000, "clusters": None, "slices": [],
    "auc": {"old": 0.75, "mapped": 0.75, "difference": 0.0, "low": -0.0005, "high": 0.0005, "high_corrected": 0.001},
    "calibration": {"old": 1.0, "mapped": 1.0, "ratio": 1.0},
}  # fmt: skip


def scores(difference: float, half: float, **more: Any) -> dict[str, Any]:
    interval = {"difference": difference, "low": difference - half, "high": difference + half}
    return {**EXACT, "auc": {**EXACT["auc"], "mapped": 0.75 + difference, **interval}, **more}


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_good_geometry_is_servable_and_unproven() -> None:
    found = judge_geometry("member", GOOD, GATE)
    assert (found.verdict, found.servable) == ("unproven", True)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("r2", 0.85, "R2"), ("cosine_mean", 0.9, "mean"), ("cosine_p5", 0.7, "5th"), ("overlap_10", 0.1, "overlap@10")],
)
def test_each_figure_can_fail_alone(name: str, value: float, said: str) -> None:
    found = judge_geometry("member", {**GOOD, name: value}, GATE)
    assert (found.verdict, found.servable) == ("fail", False)
    assert said in found.reasons[0]
    assert len(found.reasons) == 1


def test_too_few_held_out_entities_are_inconclusive_with_the_number_needed() -> None:
    found = judge_geometry("member", {**GOOD, "n": 12}, GATE)
    assert found.verdict == "inconclusive"
    assert found.reasons == ("member: 12 held-out entities, and 50 are needed to judge its map",)


def test_a_slice_that_is_off_fails_and_one_too_small_to_tell_does_not() -> None:
    part = {"kind": "degree", "name": "0", "n": 60, "cosine_mean": 0.5}
    found = judge_geometry("member", {**GOOD, "slices": [part]}, GATE)
    assert found.verdict == "fail"
    assert "degree 0" in found.reasons[0]
    assert judge_geometry("member", {**GOOD, "slices": [{**part, "n": 20}]}, GATE).verdict == "unproven"


def test_the_default_figures_belong_to_one_quality_of_map() -> None:
    """Just above R2 = 0.9 everything passes, just below it does not: no limit hides behind another."""
    rng = np.random.default_rng(0)
    old = rng.normal(size=(20_000, 8)) @ rng.normal(size=(8, 32))
    shape = np.linalg.cholesky(np.cov(old.T) + 1e-9 * np.eye(32))
    verdicts = []
    for explained in (0.91, 0.88):
        error = rng.normal(size=old.shape) @ shape.T
        new = explained * old + np.sqrt(explained * (1 - explained)) * error
        ids = pa.array(np.arange(len(old)))
        both = pair(Vectors(ids, new.astype(np.float32)), Vectors(ids, old.astype(np.float32)), "member")
        figures = geometry(linear_map(2, 1, np.eye(32)), both, mean_old(both)).figures()
        verdicts.append(judge_geometry("member", figures, GATE))
    assert [each.verdict for each in verdicts] == ["unproven", "fail"]


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "half", "margin", "verdict"),
    [
        (0.0, 0.0005, 0.001, "pass"),
        (-0.0004, 0.0005, 0.001, "pass"),
        (-0.0006, 0.0005, 0.001, "fail"),  # narrow enough to tell, and a loss of the margin is not excluded
        (-0.0200, 0.0005, 0.001, "fail"),
        (-0.0200, 0.0050, 0.001, "fail"),  # wide, but the whole interval is beyond the margin
        (0.0, 0.0050, 0.001, "inconclusive"),
        (0.0200, 0.0050, 0.001, "inconclusive"),  # wider than the margin is never a pass
        (0.0, 0.0050, 0.010, "pass"),
        (-0.0040, 0.0050, 0.010, "pass"),
        (-0.0060, 0.0050, 0.010, "fail"),
    ],
)
def test_the_auc_may_fall_by_the_margin_at_most(difference: float, half: float, margin: float, verdict: str) -> None:
    assert judge_scores(scores(difference, half), margin, GATE).verdict == verdict


def test_an_inconclusive_interval_names_the_rows_that_would_tell() -> None:
    (reason,) = judge_scores(scores(0.0, 0.005), 0.001, GATE).reasons
    assert "about 250,000 rows like these 10,000 would tell" in reason


def test_too_few_positives_are_inconclusive_whatever_the_interval() -> None:
    found = judge_scores(scores(0.0, 0.0, positives=49), 0.001, GATE)
    assert found.verdict == "inconclusive"
    assert "49 positives" in found.reasons[0]
    assert "50 of each" in found.reasons[0]
    assert judge_scores(scores(0.0, 0.0, clusters=12), 0.001, GATE).verdict == "inconclusive"
    without = {**EXACT, "auc": {**EXACT["auc"], "low": None, "high": None}}
    assert judge_scores(without, 0.001, GATE).verdict == "inconclusive"


def test_calibration_that_moves_fails_and_scores_that_are_no_chances_have_none() -> None:
    moved = {"old": 1.0, "mapped": 1.03, "ratio": 1.03}
    found = judge_scores(scores(0.0, 0.0005, calibration=moved), 0.001, GATE)
    assert found.verdict == "fail"
    assert any("1.030" in reason for reason in found.reasons)
    assert judge_scores(scores(0.0, 0.0005, calibration=None), 0.001, GATE).verdict == "pass"


def test_a_slice_that_is_shown_to_be_broken_fails_the_whole() -> None:
    part = {"node": "member", "kind": "degree", "name": "1-2", "rows": 900, "difference": -0.05}
    bounds = {"low": -0.06, "high": -0.04, "high_corrected": -0.03}
    assert judge_scores(scores(0.0, 0.0005, slices=[{**part, **bounds}]), 0.001, GATE).verdict == "fail"
    assert slice_verdict({**part, **bounds}, 0.001, GATE) == "fail"
    unclear = {**part, "low": -0.06, "high": 0.04, "high_corrected": 0.06, "difference": -0.01}
    assert judge_scores(scores(0.0, 0.0005, slices=[unclear]), 0.001, GATE).verdict == "pass"
    assert slice_verdict(unclear, 0.001, GATE) == "unknown"
    assert slice_verdict({**part, "low": -0.0001, "high": 0.0001, "high_corrected": 0.0}, 0.001, GATE) == "pass"
    assert slice_verdict({**part, "rows": 10, "low": 0, "high": 0, "high_corrected": 0}, 0.001, GATE) == "unknown"


def test_the_worst_verdict_counts_with_the_reasons_against() -> None:
    found = worst([Judgement("unproven", ("a",)), Judgement("fail", ("b",)), Judgement("inconclusive", ("c",))])
    assert (found.verdict, found.reasons) == ("fail", ("b", "c"))
    assert worst([]).verdict == "pass"


# --- measuring --------------------------------------------------------------------------------------------------------


class Logistic:
    """Frozen on old vectors of members alone."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights

    def score(self, vectors: Any, columns: Any) -> Any:
        return 1 / (1 + np.exp(-(vectors["member"] @ self.weights)))


def world(rows: int = 4000, entities: int = 5000, error: float = 0.0, *, repeat: int = 1, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(entities, 6)).astype(np.float32)
    new = old + error * rng.normal(size=old.shape).astype(np.float32)
    weights = rng.normal(size=6) / 2
    members = np.repeat(rng.permutation(entities)[: rows // repeat], repeat)
    labels = (rng.random(entities) < 1 / (1 + np.exp(-(old @ weights)))).astype(np.int8)[members]
    ids = pa.array(np.arange(entities))
    slicing = Slicing("cohort parity", ("even", "odd"), (np.arange(entities) % 2).astype(np.int32))
    served = {"member": Served(linear_map(2, 1, np.eye(6)), Vectors(ids, new), Vectors(ids, old), [slicing])}
    clusters = members if repeat > 1 else None
    return Logistic(weights), LabelledCases(labels, {"member": pa.array(members)}, {}, clusters), served


def test_the_same_vectors_pass_with_an_interval_of_no_width() -> None:
    for repeat in (1, 4):
        found = measure(*world(repeat=repeat), resamples=200, seed=0)
        assert found["auc"]["difference"] == found["auc"]["low"] == found["auc"]["high"] == 0.0
        assert found["calibration"]["ratio"] == 1.0
        assert found["ks"] == 0.0
        assert judge_scores(found, 0.001, GATE).verdict == "pass"


def test_figures_are_those_of_the_same_rows() -> None:
    scorer, cases, served = world(error=0.3)
    found = measure(scorer, cases, served, resamples=200, seed=0)
    members = cases.keys["member"].to_numpy()
    old, new = (
        scorer.score({"member": each.vectors[members]}, {}) for each in (served["member"].old, served["member"].new)
    )
    assert found["auc"]["old"] == auc(cases.labels, old)
    assert found["auc"]["mapped"] == pytest.approx(auc(cases.labels, new), abs=1e-6)
    paired = delong(cases.labels, np.stack([new, old]))
    assert paired is not None
    low, high = paired.difference().interval or (0, 0)
    assert (found["auc"]["low"], found["auc"]["high"]) == pytest.approx((low, high), abs=1e-6)
    assert found["auc"]["by"] == "delong"
    assert found["calibration"]["ratio"] == pytest.approx(old.sum() / new.sum(), abs=1e-6)
    assert found["ks"] > 0.0
    even, odd = found["slices"]
    chosen = members % 2 == 0
    assert (even["rows"], odd["rows"]) == (chosen.sum(), (~chosen).sum())
    assert even["old"] == auc(cases.labels[chosen], old[chosen])


def test_rows_of_one_member_widen_the_interval() -> None:
    scorer, cases, served = world(error=0.5, repeat=8)
    clustered = measure(scorer, cases, served, resamples=500, seed=0)
    alone = measure(scorer, LabelledCases(cases.labels, cases.keys, {}, None), served, resamples=500, seed=0)
    assert clustered["auc"]["by"] == "cluster bootstrap"
    assert clustered["clusters"] == 500
    width, narrow = (each["auc"]["high"] - each["auc"]["low"] for each in (clustered, alone))
    assert width > 2 * narrow
    assert clustered["auc"]["difference"] == alone["auc"]["difference"]


def test_entities_that_are_new_or_gone_are_told_apart() -> None:
    scorer, cases, served = world(entities=4000)
    each = served["member"]
    old = Vectors(each.old.ids.slice(0, 3900), each.old.vectors[:3900])
    new = Vectors(each.new.ids.slice(200), each.new.vectors[200:])
    codes = Slicing("x", ("all",), np.zeros(3800, dtype=np.int32))
    part = {"member": Served(each.map, new, old, [codes])}
    unknown = pa.array([*cases.keys["member"].to_pylist()[:-2], None, 99_999])
    found = measure(scorer, LabelledCases(cases.labels, {"member": unknown}, {}, None), part, 200, 0)
    assert found["gone"] in range(198, 201)
    assert found["new_entities"]["rows"] in range(98, 101)
    assert found["rows"] + found["gone"] + found["new_entities"]["rows"] == 3998
    assert found["new_entities"]["auc"] > 0.6
    assert found["slices"][0]["rows"] == found["rows"]


def test_no_row_in_common_is_inconclusive_and_no_crash() -> None:
    scorer, cases, served = world()
    keys = {"member": pa.array(cases.keys["member"].to_numpy() + 10**6)}
    found = measure(scorer, LabelledCases(cases.labels, keys, {}, None), served, 200, 0)
    assert found["rows"] == 0
    assert judge_scores(found, 0.001, GATE).verdict == "inconclusive"


def test_the_rows_that_it_asks_for_do_tell() -> None:
    """A set that is too small names a number; a set of that size is about as sure as the margin asks."""
    small = measure(*world(rows=500, entities=60_000, error=0.1), resamples=200, seed=0)
    (reason,) = judge_scores(small, 0.005, GATE).reasons
    needed = int(re.findall(r"about ([\d,]+) rows", reason)[0].replace(",", ""))
    assert 500 < needed < 60_000
    large = measure(*world(rows=needed, entities=60_000, error=0.1), resamples=200, seed=0)
    assert (large["auc"]["high"] - large["auc"]["low"]) / 2 == pytest.approx(0.005, rel=0.3)


def test_figures_that_cannot_be_told_prove_nothing() -> None:
    nan = float("nan")
    undefined = {"n": 500, "r2": nan, "cosine_mean": nan, "cosine_p5": nan, "overlap_10": nan, "slices": []}
    assert judge_geometry("member", undefined, CompatGate()).verdict == "inconclusive"
    assert judge_geometry("member", {**undefined, "r2": None}, CompatGate()).verdict == "inconclusive"
    good = {"n": 500, "r2": 0.99, "cosine_mean": 0.99, "cosine_p5": 0.99, "overlap_10": 0.9}
    strange = [{"kind": "cohort", "name": "a", "n": 500, "cosine_mean": nan}]
    assert judge_geometry("member", {**good, "slices": strange}, CompatGate()).verdict == "fail"
    assert judge_geometry("member", {**good, "slices": []}, CompatGate()).verdict == "unproven"


def test_scores_that_stop_being_probabilities_lose_their_calibration() -> None:
    labels = np.array([0, 1] * 200, dtype=np.int8)
    old = np.where(labels > 0, 0.9, 0.05)
    mapped = old.copy()
    mapped[0] = 1.01
    found = _calibration(labels, old, mapped)
    assert found is not None
    assert found["ratio"] is None
    assert _calibration(labels, old * 3, old) is None, "logits were never calibrated"
