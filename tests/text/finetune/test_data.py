"""Point-in-time join, split, balance, tokens: no text of the future, and the same examples each time."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.errors import TextError
from star_platform.progress import SILENT
from star_platform.text.config import TextConfig
from star_platform.text.finetune import versions as versions_module
from star_platform.text.finetune.actions import Actions, uniform_negatives, without_pairs
from star_platform.text.finetune.data import Source, prepare
from star_platform.text.finetune.finetune import base_transformer
from star_platform.text.finetune.samples import Samples, balance, join, split
from star_platform.text.finetune.tokens import write_tokens
from star_platform.text.finetune.versions import NONE, TextVersions, open_versions

from .worlds import actions, config, planted, texts

DAY = 86_400_000_000


def text_at(found: TextVersions, node: int, time: int) -> str | None:
    row = int(found.rows_at(np.asarray([node]), np.asarray([time]))[0])
    return None if row == NONE else next(iter(found.read(np.asarray([row]))))[0]


def test_the_text_is_that_of_the_time(tmp_path: Path) -> None:
    rows = [(0, 10, "a"), (0, 20, "b"), (0, 30, ""), (0, 40, "d"), (2, None, "always"), (3, 50, "late")]
    found = texts(tmp_path / "t.parquet", rows)
    seen = {time: text_at(found, 0, time) for time in (9, 10, 19, 20, 29, 30, 39, 40, 99)}
    assert seen == {9: None, 10: "a", 19: "a", 20: "b", 29: "b", 30: None, 39: None, 40: "d", 99: "d"}
    assert text_at(found, 1, 99) is None
    assert text_at(found, 2, -(1 << 60)) == "always"
    assert (text_at(found, 3, 49), text_at(found, 3, 50)) == (None, "late")
    assert text_at(found, 7, 99) is None  # a node that the file does not reach
    assert found.nodes.tolist() == [0, 2, 3]
    assert found.versioned


def leaks(found: TextVersions, nodes: np.ndarray, times: np.ndarray) -> int:
    """How many rows became valid after the time that they are asked for."""
    rows = found.rows_at(nodes, times)
    return int((found.valid_from[rows] > times)[rows != NONE].sum())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), min_size=1, max_size=25), st.integers(0, 3))
def test_a_future_text_never_reaches_a_sample(pairs: list[tuple[int, int]], seed: int) -> None:
    ordered = sorted(pairs)
    nodes = np.asarray([node for node, _ in ordered])
    valid = np.asarray([time for _, time in ordered])
    indptr = np.searchsorted(nodes, np.arange(7))
    found = TextVersions(Path("unread"), indptr, valid, np.ones(len(nodes), np.bool_))
    rng = np.random.default_rng(seed)
    asked, times = rng.integers(0, 6, 40), rng.integers(-1, 32, 40)
    assert leaks(found, asked, times) == 0
    for node, time, row in zip(asked, times, found.rows_at(asked, times), strict=True):
        before = [k for k in range(len(nodes)) if nodes[k] == node and valid[k] <= time]
        assert row == (before[-1] if before else NONE)


def test_a_mutated_comparison_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`<=` turned round, or off by one version: the checks above see it."""
    found = texts(tmp_path / "t.parquet", [(0, 10, "a"), (0, 20, "b"), (1, 15, "c")])
    nodes, times = np.asarray([0, 0, 1]), np.asarray([12, 20, 14])
    right = versions_module._last_not_after

    def newest(valid_from: np.ndarray, first: np.ndarray, last: np.ndarray, times: np.ndarray) -> np.ndarray:
        return last - 1

    def strictly(valid_from: np.ndarray, first: np.ndarray, last: np.ndarray, times: np.ndarray) -> np.ndarray:
        return right(valid_from, first, last, times - 1)

    def later(valid_from: np.ndarray, first: np.ndarray, last: np.ndarray, times: np.ndarray) -> np.ndarray:
        return np.minimum(right(valid_from, first, last, times) + 1, last - 1)

    assert leaks(found, nodes, times) == 0
    for mutant, leaked in ((newest, 2), (later, 2), (strictly, 0)):
        monkeypatch.setattr(versions_module, "_last_not_after", mutant)
        assert leaks(found, nodes, times) == leaked
        assert text_at(found, 0, 20) != "b" or mutant is not strictly
        monkeypatch.setattr(versions_module, "_last_not_after", right)


def test_rows_without_a_text_are_counted_and_dropped(tmp_path: Path) -> None:
    towers = {
        "document": texts(tmp_path / "d.parquet", [(0, 10, "job"), (1, 10, "")]),
        "profile": texts(tmp_path / "p.parquet", [(0, 5, "me"), (1, 5, ""), (2, 50, "late")]),
        "resume": texts(tmp_path / "r.parquet", [(0, 5, ""), (1, 5, "cv"), (2, 50, "cv")]),
    }
    rows = actions([(0, 0, 20, True), (1, 0, 20, True), (2, 0, 20, False), (0, 1, 20, False), (0, 0, 9, True)])
    both = {"profile": {"feature": "member.text"}, "resume": {"feature": "member.resume"}}
    kept, dropped = join(rows, towers, config(**both))
    assert dropped == {"document": 2, "request": 1, "resume": 0}
    assert kept.actions.members.tolist() == [0, 1]
    assert kept.rows["profile"].tolist() == [0, NONE]
    assert kept.rows["resume"].tolist() == [NONE, 1]
    kept, dropped = join(rows, towers, config(**both, missing_resume="drop"))
    assert dropped == {"document": 2, "request": 1, "resume": 1}
    assert kept.actions.members.tolist() == [1]


def samples(rows: list[tuple[int, int, int | None, bool]]) -> Samples:
    found = actions(rows)
    return Samples(found, {"document": found.documents, "profile": found.members})


def test_the_split_is_by_time_and_seen_pairs_leave_the_test() -> None:
    rows = [(m, m % 3, 100 + m, m % 2 == 0) for m in range(8)] + [(0, 0, 200, True), (9, 1, 201, False)]
    training, validation, report = split(samples(rows), config(split={"validation_share": 0.2}).split, 0)
    assert training.actions.times.max() < validation.actions.times.min()
    assert len(training) == 8
    assert validation.actions.members.tolist() == [9]  # (0, 0) was seen in training
    assert report["seen_pairs_dropped"] == 1
    assert (report["by"], report["validation_from"]) == ("time", 200)


def test_documents_and_pairs_can_be_held_out() -> None:
    rows: list[tuple[int, int, int | None, bool]] = [
        (m, d, None, (m + d) % 3 == 0) for m in range(9) for d in range(10)
    ]
    training, validation, report = split(
        samples(rows), config(split={"by": "document", "validation_share": 0.2}).split, 4
    )
    assert not set(training.actions.documents.tolist()) & set(validation.actions.documents.tolist())
    assert len(set(validation.actions.documents.tolist())) == 2
    training, validation, report = split(samples(rows), config(split={"by": "time", "validation_share": 0.2}).split, 4)
    assert report["by"] == "pair"  # no times to split by
    assert without_pairs(validation.actions, training.actions).all()
    assert (len(training), len(validation)) == (72, 18)
    _, thinned, _ = split(samples(rows), config(split={"validation_share": 0.2, "max_rows": 7}).split, 4)
    assert len(thinned) == 7


def test_negatives_are_thinned_day_by_day() -> None:
    rows: list[tuple[int, int, int | None, bool]] = [(0, k, DAY + k, k < 3) for k in range(13)]
    rows += [(1, k, 2 * DAY + k, k < 2) for k in range(4)] + [(2, k, 3 * DAY + k, False) for k in range(5)]
    kept, report = balance(samples(rows), seed=1)
    day = kept.actions.times // DAY
    assert [(int((kept.labels & (day == d)).sum()), int((~kept.labels & (day == d)).sum())) for d in (1, 2, 3)] == [
        (3, 3),
        (2, 2),
        (0, 0),
    ]
    assert report["negative_rate"] == pytest.approx(5 / 17)
    assert report["natural_ratio"] == pytest.approx(17 / 5)
    assert report["logit_correction"] == pytest.approx(math.log(17 / 5))
    again, _ = balance(samples(rows), seed=1)
    assert np.array_equal(kept.actions.pairs, again.actions.pairs)
    other, _ = balance(samples(rows), seed=2)
    assert not np.array_equal(kept.actions.pairs, other.actions.pairs)


def test_drawn_negatives_are_none_that_the_member_acted_on() -> None:
    rows: list[tuple[int, int, int | None, bool]] = [(m, d, 7, True) for m in range(5) for d in range(9) if (m + d) % 3]
    positives = actions([*rows, *((5, d, 7, True) for d in range(9))])  # member 5 acted on everything
    drawn = uniform_negatives(positives, np.arange(9), 4, seed=0)
    assert without_pairs(drawn, positives).all()
    assert not drawn.labels.any()
    assert set(drawn.members.tolist()) == {0, 1, 2, 3, 4}
    assert (drawn.times == 7).all()
    assert len(drawn) == 4 * len(rows)
    born = np.asarray([0, 0, 0, 7, 7, 8, 8, 8, 8])
    assert uniform_negatives(positives, np.arange(9), 4, 0, born).documents.max() == 4  # the others came later
    with pytest.raises(TextError, match="T023"):
        uniform_negatives(positives, np.zeros(0, np.int64), 4, seed=0)


def test_the_order_of_actions_does_not_depend_on_how_they_came() -> None:
    rows = [(3, 1, 5, True), (0, 2, 5, False), (1, 1, 2, True), (0, 2, 5, True)]
    one, other = Actions.joined(actions(rows)), Actions.joined(actions(rows[2:]), actions(rows[:2]))
    for name in ("members", "documents", "times", "labels"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_tokens_are_those_of_the_encoder(tmp_path: Path, tiny_bert: Path) -> None:
    transformer = base_transformer(TextConfig(encoder=str(tiny_bert)), tmp_path)
    found = texts(tmp_path / "t.parquet", [(k, None, "we hire a nurse " * (k + 1)) for k in range(7)])

    def tokenise(given: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return transformer.tokenise(given, "query: ", 12)

    rows = np.asarray([5, NONE, 0, 5, 3])
    table = write_tokens(tmp_path / "tokens", found, rows, tokenise, SILENT)  # type: ignore[arg-type]
    assert table.rows.tolist() == [0, 3, 5]
    assert table.slots(rows).tolist() == [2, NONE, 0, 2, 1]
    ids, offsets = transformer.tokenise(["we hire a nurse"], "query: ", 12)
    assert np.array_equal(table[0], ids[: offsets[1]])
    assert table.lengths.tolist() == [8, 12, 12]
    assert not table.ids.flags.writeable  # mapped, not read
    again = write_tokens(tmp_path / "tokens", found, rows, lambda _: pytest.fail("tokenised twice"), SILENT)  # type: ignore[arg-type]
    assert np.array_equal(again.ids, table.ids)


def test_prepared_data_says_what_became_of_the_actions(tmp_path: Path, tiny_bert: Path) -> None:
    source = planted(tmp_path, resumes=True)
    transformer = base_transformer(TextConfig(encoder=str(tiny_bert)), tmp_path)
    settings = config(resume={"feature": "member.resume", "max_tokens": 8})
    data = prepare(source, settings, transformer, tmp_path / "work")
    report = data.report
    assert report["actions"] == 4 * len(source.actions)
    counts = report["training"]
    assert counts["positives"] == counts["negatives"]
    assert counts["without_resume"] > 0
    assert report["validation"]["negatives"] > report["validation"]["positives"]  # the natural ratio
    assert report["sampling"]["logit_correction"] == pytest.approx(-math.log(report["sampling"]["negative_rate"]))
    assert report["point_in_time"] == {"document": False, "profile": False, "resume": False}
    assert report["texts"]["resume"]["longest"] <= 8
    same = prepare(source, settings, transformer, tmp_path / "work2")
    assert data.fingerprint == same.fingerprint
    prompted = config(resume={"feature": "member.resume", "max_tokens": 8, "prompt": "cv: "})
    assert prepare(source, prompted, transformer, tmp_path / "work3").fingerprint != data.fingerprint


def test_nothing_from_until_on_is_looked_at(tmp_path: Path, tiny_bert: Path) -> None:
    source = planted(tmp_path)
    times = 1_400_000_000_000_000 + 3_600_000_000 * np.arange(len(source.actions))
    source = replace(source, actions=replace(source.actions, times=times))
    transformer = base_transformer(TextConfig(encoder=str(tiny_bert)), tmp_path)
    middle = datetime.fromtimestamp(int(times[len(times) // 2]) / 1e6, UTC)
    for until in (middle.isoformat(), middle.replace(tzinfo=None).isoformat()):
        data = prepare(source, config(until=until), transformer, tmp_path / "work")
        latest = max(int(part.actions.times.max()) for part in (data.training, data.validation))
        assert latest < times[len(times) // 2]
        assert data.training.actions.labels.any()


def test_nothing_to_train_on_is_said(tmp_path: Path, tiny_bert: Path) -> None:
    source = planted(tmp_path)
    transformer = base_transformer(TextConfig(encoder=str(tiny_bert)), tmp_path)
    future = texts(tmp_path / "late.parquet", [(k, 1000, "we hire") for k in range(20)])
    early = Source(actions([(0, 0, 10, True), (1, 1, 20, False)]), {**source.texts, "document": future})
    with pytest.raises(TextError, match="T023"):
        prepare(early, config(negatives={"edge": "skips"}), transformer, tmp_path / "work")


def test_damaged_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"nothing")
    with pytest.raises(TextError, match="T022"):
        open_versions(tmp_path / "t.parquet")
    with pytest.raises(TextError, match="T022"):
        texts(tmp_path / "u.parquet", [(1, 5, "a"), (0, 5, "b")])
    with pytest.raises(TextError, match="T022"):
        texts(tmp_path / "v.parquet", [(0, 6, "a"), (0, 5, "b")])
