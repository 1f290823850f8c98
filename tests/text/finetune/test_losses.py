"""Eqs. 1 to 4 by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy, log_softmax

from star_platform.text.finetune.config import LossConfig
from star_platform.text.finetune.heads import Head
from star_platform.text.finetune.losses import contrast, objective
from star_platform.text.finetune.mining import NONE, allowed, mine

from .worlds import config, facts, vectors

SCORES = [[0.5, 0.4, 0.9], [0.2, 0.1, 0.3], [0.0, 0.6, 0.7]]
"""Rows are documents, columns requests; documents are unit axes, so these are the requests' columns."""
AXES = [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]
REQUESTS = [list(column) for column in zip(*SCORES, strict=True)]


def loss_of(labels: list[float] | None = None, **settings: Any) -> tuple[float, int, int]:
    given = LossConfig.model_validate({"temperature": 0.5} | settings)
    value, mined, of = contrast(vectors(AXES, REQUESTS), facts(labels or [1, 1, 1]), "profile", given)
    return value.item(), mined, of


def test_the_vector_worked_by_hand() -> None:
    term = math.log1p(math.exp(-0.2))
    assert term == pytest.approx(0.598139, abs=1e-6)
    assert loss_of() == (pytest.approx(2 * term / 3), 2, 3)
    assert loss_of()[0] == pytest.approx(0.398759, abs=1e-6)
    assert loss_of(normaliser="mined")[0] == pytest.approx(0.598139, abs=1e-6)
    easiest, mined, _ = loss_of(no_semihard="easiest")
    assert (easiest, mined) == (pytest.approx(0.664806, abs=1e-6), 3)  # row 2 takes .2: .798139


def test_what_each_row_picks() -> None:
    scores = torch.tensor(SCORES)
    may = allowed(torch.arange(3), torch.arange(3), mask_same_entity=True)
    assert mine(scores, scores.diag(), may).tolist() == [1, NONE, 1]
    assert mine(scores, scores.diag(), may, easiest=True).tolist() == [1, 0, 1]
    assert mine(scores, scores.diag(), may, margin=0.15).tolist() == [1, NONE, 1]
    assert mine(scores, scores.diag(), may, margin=0.05).tolist() == [NONE, NONE, NONE]


def test_ties_are_not_mined() -> None:
    scores = torch.tensor([[0.5, 0.5, 0.2], [0.1, 0.5, 0.5], [0.5, 0.5, 0.5]])
    may = allowed(torch.arange(3), torch.arange(3), mask_same_entity=True)
    assert mine(scores, scores.diag(), may).tolist() == [2, 0, NONE]


def test_rows_of_the_same_entity_are_no_negatives() -> None:
    scores = torch.tensor(SCORES)
    same_member = allowed(torch.tensor([7, 7, 8]), torch.arange(3), mask_same_entity=True)
    same_document = allowed(torch.arange(3), torch.tensor([7, 8, 8]), mask_same_entity=True)
    assert mine(scores, scores.diag(), same_member).tolist() == [NONE, NONE, 1]
    assert mine(scores, scores.diag(), same_document).tolist() == [1, NONE, 0]
    anyone = allowed(torch.tensor([7, 7, 7]), torch.tensor([7, 7, 7]), mask_same_entity=False)
    assert mine(scores, scores.diag(), anyone).tolist() == [1, NONE, 1]


def test_softplus_is_the_two_way_softmax() -> None:
    for positive, negative in ((0.5, 0.4), (0.99, -0.99), (-0.3, -0.4)):
        given = vectors([[1.0, 0], [0, 1.0]], [[positive, 0], [negative, 0]])
        value, _, _ = contrast(given, facts([1, 0]), "profile", LossConfig(temperature=0.02))
        logits = torch.tensor([positive, negative], dtype=torch.float64) / 0.02
        assert value.item() == pytest.approx(float(-log_softmax(logits, 0)[0]), abs=1e-12)


def test_rows_that_did_not_act_have_no_contrastive_gradient() -> None:
    given = vectors(AXES, REQUESTS)
    value, mined, of = contrast(given, facts([0, 1, 0]), "profile", LossConfig(temperature=0.5))
    assert (mined, of) == (0, 1)  # row 2 has no semi-hard negative
    assert value.item() == 0
    given = vectors(AXES, REQUESTS)
    value, mined, of = contrast(given, facts([1, 0, 0]), "profile", LossConfig(temperature=0.5))
    value.backward()
    assert given.documents.grad is not None
    assert given.documents.grad[1:].abs().sum() == 0
    assert given.documents.grad[0].abs().sum() > 0
    assert loss_of([1, 0, 0], contrastive_rows="all")[1:] == (2, 3)


def test_both_parts_are_mined_from() -> None:
    profiles = [[0.9, 0.0], [0.1, 0.9]]
    resumes = [[0.8, 0.0], [0.6, 0.8]]
    given = vectors([[1.0, 0], [0, 1.0]], profiles, resumes)
    seen = facts([1, 0])
    both, _, _ = contrast(given, seen, "profile", LossConfig(temperature=1))
    assert both.item() == pytest.approx(math.log1p(math.exp(0.6 - 0.9)))  # the other row's resume
    own, _, _ = contrast(given, seen, "profile", LossConfig(temperature=1, pool="own"))
    assert own.item() == pytest.approx(math.log1p(math.exp(0.1 - 0.9)))


def test_a_missing_resume_has_no_term_and_is_nobodys_negative() -> None:
    for filler in (0.6, -5.0):  # what stands in place of a missing vector is not read
        resumes = [[0.8, 0.0], [filler, 0.8]]
        given = vectors([[1.0, 0], [0, 1.0]], [[0.9, 0.0], [0.1, 0.9]], resumes, has_resume=[True, False])
        value, mined, of = contrast(given, facts([1, 1]), "resume", LossConfig(temperature=1))
        assert (mined, of) == (1, 1)
        assert value.item() == pytest.approx(math.log1p(math.exp(0.1 - 0.8)))  # the other row's profile


def test_cross_entropy_is_torchs() -> None:
    settings = config(head={"hidden": 3}, resume={"feature": "member.resume"})
    head = Head(settings.head, 3, frozenset({"document", "profile", "resume"}), seed=1).double()
    given = vectors(AXES, REQUESTS, AXES)
    seen = facts([1, 0, 1])
    loss = objective(given, seen, head, LossConfig.model_validate({"weights": {"profile": 0, "resume": 0}}))
    assert loss.total.item() == pytest.approx(binary_cross_entropy(head(given).sigmoid(), seen.labels).item())
    assert loss.contrastive == 0


def test_the_total_is_the_weighted_sum() -> None:
    settings = config(resume={"feature": "member.resume"})
    head = Head(settings.head, 3, frozenset({"document", "profile", "resume"}), seed=1).double()
    given, seen = vectors(AXES, REQUESTS, REQUESTS), facts([1, 1, 1])

    def total(bce: float, profile: float, resume: float) -> float:
        weights = {"bce": bce, "profile": profile, "resume": resume}
        loss = objective(given, seen, head, LossConfig.model_validate({"weights": weights, "temperature": 0.5}))
        return loss.total.item()

    assert total(1, 0, 0) != total(0, 1, 0)
    assert total(2, 3, 5) == pytest.approx(2 * total(1, 0, 0) + 3 * total(0, 1, 0) + 5 * total(0, 0, 1))


def test_a_block_with_a_missing_part_is_zero_and_said_to_be() -> None:
    settings = config(resume={"feature": "member.resume"}, head={"pairs": ["dp", "dc", "pc"], "hidden": 0})
    head = Head(settings.head, 2, frozenset({"document", "profile", "resume"}), seed=1).double()
    layer = head.layers
    assert isinstance(layer, torch.nn.Linear)
    given = vectors([[1.0, 2.0]], [[3.0, 5.0]], [[7.0, 11.0]], has_resume=[False])
    weights, bias = layer.weight[0], layer.bias[0]
    by_hand = 2 * (3 * weights[0] + 10 * weights[1]) + weights[2] + bias  # scaled by the width, 2; dc and pc are absent
    assert head(given).item() == pytest.approx(by_hand.item())
    whole = vectors([[1.0, 2.0]], [[3.0, 5.0]], [[7.0, 11.0]])
    dc = 2 * (7 * weights[3] + 22 * weights[4]) + weights[5]
    pc = 2 * (21 * weights[6] + 55 * weights[7]) + weights[8]
    assert head(whole).item() == pytest.approx((by_hand + dc + pc).item())
