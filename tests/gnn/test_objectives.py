from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score

from star_platform.gnn.objectives import UncertaintyWeights, auc, drawn_loss, labelled_loss, macro_auc


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


def test_uncertainty_weights_are_the_closed_form_at_the_optimum() -> None:
    losses = {"views": 0.7, "applied": 0.05, "seniority": 3.0}
    weights = UncertaintyWeights({"views": 1.0, "applied": 2.0, "seniority": 0.5})
    optimizer = torch.optim.LBFGS(weights.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def total() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weights({name: torch.tensor(value) for name, value in losses.items()})
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(total)
    s = dict(zip(weights.declared, weights.log_variances.tolist(), strict=True))
    assert s == pytest.approx({name: np.log(value) for name, value in losses.items()}, abs=1e-3)
    assert weights.learned() == pytest.approx({name: 1 / value for name, value in losses.items()}, rel=2e-3)
    lowest = sum(weights.declared[name] * (1 + np.log(value)) for name, value in losses.items())
    assert total().item() == pytest.approx(lowest, abs=1e-5)


def test_uncertainty_weights_begin_as_the_declared_ones() -> None:
    weights = UncertaintyWeights({"b": 2.0, "a": 0.5})
    loss = torch.tensor(0.3, requires_grad=True)
    assert weights({"b": loss}).item() == pytest.approx(0.6)
    weights({"b": loss}).backward()
    assert loss.grad is not None
    assert loss.grad.item() == pytest.approx(2.0)
    assert weights.log_variances.grad is not None
    assert weights.log_variances.grad.tolist() == pytest.approx([0.0, 2.0 * (1 - 0.3)])


def test_objectives_of_weight_0_are_left_out_of_uncertainty_weights() -> None:
    weights = UncertaintyWeights({"on": 1.0, "off": 0.0})
    assert weights.log_variances.shape == (1,)
    off = torch.tensor(9.0, requires_grad=True)
    both = weights({"on": torch.tensor(0.4), "off": off})
    assert both.item() == pytest.approx(0.4)
    both.backward()
    assert off.grad is None
    assert weights({"off": off}).item() == 0.0


def test_macro_auc_is_the_mean_of_one_against_the_rest() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(300, 4)).astype(np.float32), rng.integers(3, size=300)
    logits[np.arange(300), targets] += 1.0
    by_class = [roc_auc_score(targets == c, log_softmax(logits, axis=1)[:, c]) for c in range(3)]
    assert macro_auc(logits, targets) == pytest.approx(np.mean(by_class), abs=1e-6)
    assert macro_auc(logits, np.zeros(300, np.int64)) == 0.5
    assert macro_auc(np.zeros((2, 2), np.float32), np.array([0, 1])) == 0.5
