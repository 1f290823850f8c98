from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from star_platform.text.batching import padded_lengths, padding_share, plan

LIMIT = 512
LENGTHS = st.lists(st.integers(1, LIMIT), max_size=200).map(lambda values: np.array(values, np.int64))
BUDGETS = st.integers(1, 5000)


@given(LENGTHS, BUDGETS)
def test_every_text_once_within_the_budget(tokens: np.ndarray, budget: int) -> None:
    batches = list(plan(tokens, budget, LIMIT))
    order = np.concatenate([batch.positions for batch in batches]) if batches else np.zeros(0, int)
    assert sorted(order.tolist()) == list(range(len(tokens)))
    for batch in batches:
        assert len(batch.positions) * batch.length <= budget or len(batch.positions) == 1
        assert (tokens[batch.positions] <= batch.length).all()
    lengths = [batch.length for batch in batches]
    assert lengths == sorted(lengths, reverse=True)


@given(LENGTHS, BUDGETS, BUDGETS)
def test_padding_depends_on_the_text_alone(tokens: np.ndarray, budget: int, other: int) -> None:
    """The reason why companions cannot change a vector: whatever the batch, a text is padded to the same length."""
    alone = padded_lengths(tokens, LIMIT)
    for size in (budget, other):
        for batch in plan(tokens, size, LIMIT):
            assert (alone[batch.positions] == batch.length).all()


@given(LENGTHS, BUDGETS, st.data())
def test_the_plan_of_the_rest_is_the_rest_of_the_plan(tokens: np.ndarray, budget: int, data: st.DataObject) -> None:
    """A killed run has done some first batches; what it does after resuming is what it would have done."""
    batches = list(plan(tokens, budget, LIMIT))
    done = data.draw(st.integers(0, len(batches)))
    finished = np.concatenate([np.zeros(0, np.int64), *(batch.positions for batch in batches[:done])])
    left = np.setdiff1d(np.arange(len(tokens)), finished)
    again = [left[batch.positions].tolist() for batch in plan(tokens[left], budget, LIMIT)]
    assert again == [batch.positions.tolist() for batch in batches[done:]]


@given(LENGTHS)
def test_ladder(tokens: np.ndarray) -> None:
    padded = padded_lengths(tokens, LIMIT)
    assert (padded >= tokens).all()
    assert (padded <= LIMIT).all()
    assert (padded - tokens < np.maximum(8, tokens * 0.25)).all()
    assert 0.0 <= padding_share(tokens, LIMIT) < 0.9


def test_a_text_longer_than_the_budget_goes_alone() -> None:
    batches = list(plan(np.array([500, 3, 400]), 64, LIMIT))
    assert [batch.positions.tolist() for batch in batches] == [[0], [2], [1]]


def test_the_limit_is_the_last_step() -> None:
    assert padded_lengths(np.array([1, 8, 9, 250, 256, 500]), 250 + 6).tolist() == [8, 8, 16, 256, 256, 256]
    assert padded_lengths(np.array([249]), 250).tolist() == [250]
