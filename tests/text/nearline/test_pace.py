"""Batches fit the latency target; metrics say what was done."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from star_platform.errors import TextError
from star_platform.text.nearline.exporter import exported
from star_platform.text.nearline.metrics import Metrics
from star_platform.text.nearline.model import Lag
from star_platform.text.nearline.pace import SHARE, Pace


def settled(pace: Pace, seconds_per_event: float, batches: int = 30) -> int:
    for _ in range(batches):
        pace.took(pace.size, pace.size * seconds_per_event)
    return pace.size


def test_two_batches_fit_the_target() -> None:
    size = settled(Pace(target=2.0, most=1_000), 0.01)
    assert size == int(SHARE * 2.0 / 0.01)
    assert 2 * size * 0.01 < 2.0


def test_a_batch_has_a_limit_and_is_never_empty() -> None:
    assert settled(Pace(2.0, 64), 1e-5) == 64
    assert settled(Pace(2.0, 64), 10.0) == 1


def test_it_grows_at_most_twofold_and_shrinks_at_once() -> None:
    pace = Pace(2.0, 1_000)
    first = pace.size
    pace.took(first, first * 1e-4)
    assert pace.size == 2 * first
    big = settled(pace, 1e-3)
    pace.took(big, big * 0.1)  # texts have become a hundred times as long
    assert pace.size == int(SHARE * 2.0 / 0.1)


def test_it_recovers_from_one_slow_batch() -> None:
    pace = Pace(2.0, 500)
    usual = settled(pace, 2e-3)
    pace.took(usual, 60.0)
    assert pace.size < usual
    assert settled(pace, 2e-3) == pytest.approx(usual, abs=1)


def filled() -> Metrics:
    metrics = Metrics(target=1.0)
    metrics.outcomes.update({"changed": 35, "unchanged": 60, "stale": 3, "repeated": 2, "dead": 4, "refused": 1})
    metrics.dead.update({"T041": 3, "T046": 1})
    metrics.done([0.01 * number for number in range(1, 101)] + [3.0] * 5)
    metrics.lag = Lag(17, 2, 5)
    return metrics


def test_the_record() -> None:
    record = filled().record()
    assert record["events"] == 105
    assert record["skip_share"] == pytest.approx(0.65)
    assert record["p50"] == pytest.approx(0.53)
    assert record["p99"] == pytest.approx(3.0)
    assert record["late"] == 5
    assert (record["waiting"], record["pending"], record["dead_by_code"]) == (17, 2, {"T041": 3, "T046": 1})
    assert "65 % skipped" in filled().line()
    assert "4 dead" in filled().line()
    assert Metrics(1.0).record()["p99"] is None


def test_prometheus_reads_it() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = {family.name: family for family in text_string_to_metric_families(filled().prometheus())}
    events = {sample.labels["outcome"]: sample.value for sample in families["star_text_events"].samples}
    assert (events["changed"], events["dead"]) == (35, 4)
    latency = {sample.labels.get("le"): sample.value for sample in families["star_text_latency_seconds"].samples}
    assert (latency["0.5"], latency["1"], latency["2"], latency["+Inf"]) == (50, 100, 100, 105)
    assert families["star_text_waiting"].samples[0].value == 17


def test_the_exporter_answers_while_it_is_open() -> None:
    metrics = filled()
    with exported(metrics, "127.0.0.1", 0) as port:
        metrics.outcomes["changed"] += 1
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert 'star_text_events_total{outcome="changed"} 36' in answer.read().decode()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/other")
        with pytest.raises(TextError) as caught, exported(metrics, "127.0.0.1", port):
            pass
        assert caught.value.code == "T051"
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")
