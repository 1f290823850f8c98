from __future__ import annotations

import numpy as np
import pytest
import torch

from star_platform.gnn.objectives import auc, drawn_loss, labelled_loss


def test_labelled_loss_is_equation_6() -> None:
    logits, labels = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([1.0, 0.0, 0.0])
    p = torch.sigmoid(logits)
    expected = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    assert torch.allclose(labelled_loss(logits, labels), expected)


def test_forbidden_negatives_change_nothing() -> None:
    positive = torch.tensor([1.0, 2.0])
    negative = torch.tensor([[0.5, 9.0], [9.0, 9.0]])
    allowed = torch.tensor([[True, False], [False, False]])
    bce = drawn_loss(positive, negative, allowed, None, "bce")
    one = torch.nn.functional.softplus
    expected = (one(-positive).sum() + one(torch.tensor(0.5))) / 2
    assert torch.allclose(bce, expected)
    softmax = drawn_loss(positive, negative, allowed, None, "softmax")
    assert torch.allclose(softmax, -torch.log_softmax(torch.tensor([1.0, 0.5]), 0)[0])


def test_log_q_correction_recovers_the_uniform_preference() -> None:
    # One source, two destinations, one 9 times as often drawn as a negative as the other; both are equally often
    # positive. Corrected, the scores that minimise the loss are those of a uniform draw: equal.
    scores = torch.zeros(2, requires_grad=True)
    log_q = torch.tensor([0.9 * 2, 0.1 * 2]).log()
    draws = torch.tensor([0] * 9 + [1])
    optimizer = torch.optim.SGD([scores], lr=1.0)
    for _ in range(800):
        optimizer.zero_grad()
        q = torch.cat([log_q, log_q[draws]])
        loss = drawn_loss(scores, scores[draws].repeat(2, 1), torch.ones(2, 10, dtype=torch.bool), q, "bce")
        loss.backward()
        optimizer.step()
    assert scores[0].item() == pytest.approx(scores[1].item(), abs=1e-2)


def test_auc_counts_ties_half() -> None:
    positive, negative = np.array([0.5, 0.9], np.float32), np.array([0.1, 0.5, 1.0], np.float32)
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auc(positive, negative) == pytest.approx(np.mean(wins))
    assert auc(positive, negative[:0]) == 0.5
