"""The adaptive fan-out: grows, is capped, ends full, and goes on from any stored state."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.errors import TrainingError
from star_platform.gnn.adaptive import FanOutController, FanOutState, Hop, rows
from star_platform.gnn.config import AdaptiveConfig

K = AdaptiveConfig(enabled=True, start=2, grow=20, tolerance=0.01, decay=0.5)

hops = st.one_of(
    st.integers(1, 200),
    st.dictionaries(st.sampled_from(["views", "rev_views", "skill"]), st.integers(0, 60), min_size=1).filter(
        lambda hop: max(hop.values()) > 0
    ),
)
configs = st.builds(
    AdaptiveConfig,
    enabled=st.just(True),
    start=st.integers(1, 50),
    grow=st.integers(1, 60),
    tolerance=st.floats(0, 0.1),
    decay=st.floats(0.1, 1.0),
    full_share=st.floats(0.2, 1.0),
)
stretches = st.lists(st.tuples(st.integers(1, 40), st.floats(0.4, 1.0)), min_size=1, max_size=25)
"""Steps, and the metric of the validation after them."""


def numbers(hop: Hop) -> list[int]:
    return [hop] if isinstance(hop, int) else [hop[name] for name in sorted(hop)]


def played(
    controller: FanOutController, state: FanOutState, run: Sequence[tuple[int, float]]
) -> list[tuple[int, FanOutState, FanOutState]]:
    """Of every stretch its steps, the state that they had, and the state after the validation."""
    found = []
    for count, metric in run:
        during = controller.before(state, count)
        state = controller.after(during, count, metric)
        found.append((count, during, state))
    return found


def test_the_rule_of_the_paper() -> None:
    controller = FanOutController(K, (100, 10), total_steps=10_000)
    state = controller.start()
    assert controller.fan_outs(state) == (2, 2)
    state = controller.observe(state, 0.60, 100)
    assert (state.k, state.best, state.tolerance) == (2, 0.60, 0.005)  # nothing to compare with
    state = controller.observe(state, 0.62, 200)
    assert (state.k, state.best, state.tolerance) == (2, 0.62, 0.0025)
    state = controller.observe(state, 0.622, 300)  # better, but by no more than the tolerance
    assert (state.k, state.best) == (22, 0.622)
    assert controller.fan_outs(state) == (22, 10)
    state = controller.observe(state, 0.50, 400)
    assert (state.k, state.best) == (42, 0.622)


def test_a_number_per_relation_is_a_limit_of_its_own() -> None:
    full: tuple[Hop, ...] = ({"views": 30, "skill": 5, "none": 0}, 10)
    controller = FanOutController(K, full, total_steps=1000)
    assert controller.fan_outs(controller.start()) == ({"views": 2, "skill": 2, "none": 0}, 2)
    assert controller.fan_outs(controller.hurry(controller.start())) == full


def test_a_single_stretch_is_full_from_the_start() -> None:
    controller = FanOutController(K, (50,), total_steps=10)
    assert controller.fan_outs(controller.before(controller.start(), 10)) == (50,)
    assert controller.fan_outs(controller.before(controller.start(), 8)) == (2,)
    assert controller.fan_outs(controller.before(controller.start(), 9)) == (50,)


def test_without_neighbours_there_is_nothing_to_adapt() -> None:
    with pytest.raises(TrainingError, match="no fan-out to grow") as caught:
        FanOutController(K, (), total_steps=10)
    assert caught.value.code == "M035"


def test_patience_that_runs_out_early_does_not_end_training_at_a_small_fan_out() -> None:
    controller = FanOutController(K, (100,), total_steps=1000)
    state = controller.observe(controller.start(), 0.7, 400)
    assert not controller.may_stop(state)
    state = controller.hurry(state)
    assert controller.fan_outs(state) == (100,)
    assert not controller.may_stop(state)
    assert not controller.may_stop(controller.observe(state, 0.7, 499))
    assert controller.may_stop(controller.observe(state, 0.7, 500))  # 100 of 500


@given(configs, st.lists(hops, min_size=1, max_size=3), stretches)
def test_monotone_capped_and_full_at_the_end(
    config: AdaptiveConfig, full: list[Hop], run: list[tuple[int, float]]
) -> None:
    total = sum(count for count, _ in run)
    controller = FanOutController(config, tuple(full), total)
    limits = [number for hop in full for number in numbers(hop)]
    before, at_full = [0] * len(limits), 0
    for count, during, _ in played(controller, controller.start(), run):
        now = [number for hop in controller.fan_outs(during) for number in numbers(hop)]
        assert all(a <= b <= c for a, b, c in zip(before, now, limits, strict=True))
        at_full += count * (now == limits)
        before = now
    assert before == limits
    assert at_full >= config.full_share * total - 1e-6


@given(configs, hops, stretches, st.integers(0, 24))
def test_a_stored_state_goes_on_as_if_it_had_never_stopped(
    config: AdaptiveConfig, hop: Hop, run: list[tuple[int, float]], at: int
) -> None:
    total = sum(count for count, _ in run)
    whole = played(FanOutController(config, (hop,), total), FanOutController(config, (hop,), total).start(), run)
    at = min(at, len(run) - 1)
    stored = FanOutState.of(json.loads(json.dumps(whole[at][2].record())))
    rest = played(FanOutController(config, (hop,), total), stored, run[at + 1 :])
    assert rest == whole[at + 1 :]


@given(configs, st.integers(3, 200), stretches, st.integers(1, 6))
@settings(max_examples=200)
def test_training_that_is_cut_short_ends_full_as_well(
    config: AdaptiveConfig, most: int, run: list[tuple[int, float]], patience: int
) -> None:
    """As the trainer does it: patience, a controller that may object, and an end in any case."""
    controller = FanOutController(config, (most,), sum(count for count, _ in run))
    state, best, since, made, at_full = controller.start(), -1.0, 0, 0, 0
    for count, metric in run:
        state = controller.before(state, count)
        made += count
        at_full += count * (controller.fan_outs(state) == (most,))
        state = controller.after(state, count, metric)
        since = 0 if metric > best else since + 1
        best = max(best, metric)
        if since >= patience:
            if controller.may_stop(state):
                break
            state = controller.hurry(state)
    assert at_full >= config.full_share * made - 1e-6


@given(st.integers(1, 500), st.integers(0, 50), st.floats(0.2, 1.0))
def test_a_total_that_is_too_low_only_makes_more_steps_full(total: int, more: int, share: float) -> None:
    controller = FanOutController(AdaptiveConfig(enabled=True, full_share=share), (100,), total)
    run = [(1, 0.5 + 0.02 * place) for place in range(total + more)]
    full = sum(controller.fan_outs(during) == (100,) for _, during, _ in played(controller, controller.start(), run))
    assert full >= share * (total + more) - 1e-6


def test_the_log_has_a_row_per_validation() -> None:
    controller = FanOutController(K, (30, {"views": 8}), total_steps=100)
    entry = {"epoch": 0.5, "step": 10, "auc": 0.6, "seconds": 1.5, **controller.entry(controller.start())}
    assert rows([entry, {"epoch": 1.0, "auc": 0.7}]) == [
        {
            "step": 10,
            "epoch": 0.5,
            "fan_out": 2,
            "fan_outs": [2, {"views": 2}],
            "auc": 0.6,
            "tolerance": 0.01,
            "seconds": 1.5,
        }
    ]
