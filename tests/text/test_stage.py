from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.text import filling, stage
from star_platform.text.cache import TextCache
from star_platform.text.config import TextConfig
from star_platform.text.encoder import EncodedBatch, encode, open_encoder
from star_platform.text.huggingface import HuggingFaceEncoder
from star_platform.text.stage import encode_texts, fit_encoder
from star_platform.text.tfidf_svd import TfidfSvdEncoder

Make = Callable[..., Artefact]
TEXTS = [
    "we hire a nurse",
    None,
    "data engineer",
    " we  hire a\nnurse ",
    "",
    "  \u200b",
    "data engineer",
    "remote work",
]


class Counting(HuggingFaceEncoder):
    """The real encoder, and what it was asked for."""

    def __init__(self, folder: Path, **options: Any) -> None:
        from star_platform.text.models import locate

        config = TextConfig(encoder=str(folder), **options)
        super().__init__(config, locate(config, Path("/")))
        self.asked: list[str] = []

    def batches(self, texts: Sequence[str]) -> Iterator[EncodedBatch]:
        self.asked.extend(texts)
        return super().batches(texts)


@pytest.fixture
def cache(tmp_path: Path) -> TextCache:
    return TextCache(tmp_path / "text-cache")


def _values(artefact: Artefact) -> tuple[np.ndarray, np.ndarray]:
    return np.load(artefact.path / "values.npy"), np.load(artefact.path / "present.npy")


def test_each_distinct_text_once(tiny_bert: Path, make_texts: Make, cache: TextCache, store: ArtefactStore) -> None:
    encoder = Counting(tiny_bert)
    found = encode_texts(make_texts(TEXTS), encoder, cache, store, "v1")
    assert sorted(encoder.asked) == ["data engineer", "remote work", "we hire a nurse"]
    values, present = _values(found)
    assert values.dtype == np.float32
    assert present.tolist() == [True, False, True, True, False, False, True, True]
    assert not values[~present].any()
    expected = encode(encoder, ["we hire a nurse", "data engineer", "we hire a nurse", "data engineer", "remote work"])
    np.testing.assert_array_equal(values[present], expected)
    store.verify(found)


def test_manifest(tiny_bert: Path, make_texts: Make, cache: TextCache, store: ArtefactStore) -> None:
    details = encode_texts(make_texts(TEXTS), Counting(tiny_bert), cache, store, "v1").details
    assert details["encoder_kind"] == "encoder"
    assert {key: details[key] for key in ("dim", "rows", "distinct", "missing", "tokens")} == {
        "dim": 24,
        "rows": 8,
        "distinct": 3,
        "missing": 3,
        "tokens": 6 + 4 + 4,
    }
    assert details["padding_share"] == round(1 - 14 / 24, 4)
    assert details["at_token_limit"] == 0


def test_cached_texts_are_not_encoded_again(
    tiny_bert: Path, make_texts: Make, cache: TextCache, store: ArtefactStore
) -> None:
    encode_texts(make_texts(TEXTS), Counting(tiny_bert), cache, store, "v1")
    again = Counting(tiny_bert)
    encode_texts(make_texts(["remote work", "sales", "data  engineer "], "t2"), again, cache, store, "v2")
    assert again.asked == ["sales"]
    other = Counting(tiny_bert, prompt="query: ")
    encode_texts(make_texts(["remote work"], "t3"), other, cache, store, "v3")
    assert other.asked == ["remote work"]


def test_a_finished_artefact_is_found_again(
    tiny_bert: Path, make_texts: Make, cache: TextCache, store: ArtefactStore
) -> None:
    first = encode_texts(make_texts(TEXTS), Counting(tiny_bert), cache, store, "v1")
    again = Counting(tiny_bert)
    assert encode_texts(make_texts(TEXTS), again, cache, store, "v1") == first
    assert again.asked == []


def test_bytes_do_not_depend_on_what_was_cached(tiny_bert: Path, make_texts: Make, tmp_path: Path) -> None:
    """Nothing cached, some cached, all cached, another budget: the same files and the same manifest."""
    texts = [f"{a} {b} {c}" for a in ("nurse", "data", "sales") for b in ("for", "in") for c in ("city " * 9, "team")]
    source = make_texts(texts)
    manifests = []
    for run, (known, budget) in enumerate([(0, 4096), (5, 64), (7, 256), (len(texts), 64)]):
        store, cache = ArtefactStore(tmp_path / f"a{run}"), TextCache(tmp_path / f"c{run}")
        if known:
            early = make_texts(texts[-known:], f"early{run}")
            encode_texts(early, Counting(tiny_bert, token_budget=budget), cache, store, "early")
        found = encode_texts(source, Counting(tiny_bert, token_budget=4096), cache, store, "v1")
        manifests.append(json.dumps([found.files, found.details], sort_keys=True))
    assert len(set(manifests)) == 1


def test_no_rows_and_no_texts(tiny_bert: Path, make_texts: Make, cache: TextCache, store: ArtefactStore) -> None:
    values, present = _values(encode_texts(make_texts([]), Counting(tiny_bert), cache, store, "v1"))
    assert values.shape == (0, 24)
    assert present.shape == (0,)
    values, present = _values(encode_texts(make_texts(["", None], "t2"), Counting(tiny_bert), cache, store, "v2"))
    assert values.shape == (2, 24)
    assert not present.any()


_KILLED = """
import sys
from pathlib import Path
from star_platform.registry.artefacts import ArtefactStore
from star_platform.text import filling, stage
from star_platform.text.cache import TextCache
from star_platform.text.config import TextConfig
from star_platform.text.encoder import open_encoder

filling.COMMIT_SECONDS = 0.0
folder, root = sys.argv[1:]
store = ArtefactStore(Path(root) / "artefacts")
encoder = open_encoder(TextConfig(encoder=folder, token_budget=128), Path("/"))
stage.encode_texts(store.open("texts", "t1"), encoder, TextCache(Path(root) / "text-cache"), store, "v1")
"""


def test_killed_and_resumed_gives_the_same_bytes(
    tiny_bert: Path, make_texts: Make, cache: TextCache, store: ArtefactStore, tmp_path: Path
) -> None:
    texts = [f"{'data ' * (i % 50)} nurse {chr(97 + i % 26)} {i}" for i in range(400)]
    source = make_texts(texts)
    child = subprocess.Popen([sys.executable, "-c", _KILLED, str(tiny_bert), str(tmp_path)])
    try:
        _wait_for(lambda: len(list(cache.root.glob("*/*.vectors"))) >= 3, child)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert store.find("text", "v1") is None
    left = Counting(tiny_bert, token_budget=128)
    resumed = encode_texts(source, left, cache, store, "v1")
    assert 0 < len(left.asked) < len(set(texts))
    undisturbed = encode_texts(
        source, Counting(tiny_bert), TextCache(tmp_path / "c2"), ArtefactStore(tmp_path / "a2"), "v1"
    )
    assert (resumed.files, resumed.details) == (undisturbed.files, undisturbed.details)


def _wait_for(condition: Callable[[], bool], child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert child.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_damaged_cache_heals(tiny_bert: Path, make_texts: Make, cache: TextCache, store: ArtefactStore) -> None:
    first = encode_texts(make_texts(TEXTS), Counting(tiny_bert), cache, store, "v1")
    (shard,) = cache.root.glob("*/*.vectors")
    content = bytearray(shard.read_bytes())
    content[-2] ^= 64
    shard.write_bytes(content)
    healing = Counting(tiny_bert)
    second = encode_texts(make_texts(TEXTS), healing, cache, store, "v2")
    assert len(healing.asked) == 3
    assert second.files == first.files


class TestTfidfSvd:
    def test_one_space_for_the_release(self, make_texts: Make, cache: TextCache, store: ArtefactStore) -> None:
        members, jobs = make_texts(["nurse in the ward", "sql data"], "t1"), make_texts(["ward nurse", ""], "t2")
        encoder = fit_encoder(TfidfSvdEncoder(8), [members, jobs])
        one = encode_texts(members, encoder, cache, store, "v1")
        other = encode_texts(jobs, encoder, cache, store, "v2")
        assert one.details["encoder"]["fingerprint"] == other.details["encoder"]["fingerprint"]
        assert one.details["encoder_kind"] == "tfidf_svd"
        (a, _), (b, present) = _values(one), _values(other)
        assert a[0] @ b[0] > 0.5 > a[1] @ b[0]
        assert present.tolist() == [True, False]
        assert not cache.root.exists()

    def test_fitted_on_its_own_texts_where_nobody_fitted(
        self, make_texts: Make, cache: TextCache, store: ArtefactStore
    ) -> None:
        details = encode_texts(make_texts(TEXTS), TfidfSvdEncoder(8), cache, store, "v1").details
        again = encode_texts(make_texts(["something else"], "t2"), TfidfSvdEncoder(8), cache, store, "v2").details
        assert details["encoder"]["fingerprint"] != again["encoder"]["fingerprint"]
        assert not (store.root / ".work" / "text-v1").exists()

    def test_a_text_it_knows_nothing_about_is_missing(
        self, make_texts: Make, cache: TextCache, store: ArtefactStore
    ) -> None:
        encoder = TfidfSvdEncoder(8).fitted(["nurse", "teacher"])
        _, present = _values(encode_texts(make_texts(["nurse", "ζζζ"]), encoder, cache, store, "v1"))
        assert present.tolist() == [True, False]


def test_frozen_encoders_need_no_fitting(tiny_bert: Path, make_texts: Make) -> None:
    encoder = open_encoder(TextConfig(encoder=str(tiny_bert)), Path("/"))
    assert fit_encoder(encoder, [make_texts(["a"])]) is encoder


def test_progress_tells_texts_and_rate(
    tiny_bert: Path, make_texts: Make, cache: TextCache, store: ArtefactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "COMMIT_SECONDS", 0.0)
    told: dict[str, Any] = {"done": 0}

    class Recorder:
        def advance(self, amount: int = 1) -> None:
            told["done"] += amount

        def note(self, **figures: float | str) -> None:
            told.update(figures)

        def line(self, text: str) -> None:
            told["line"] = text

        @contextmanager
        def task(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Recorder]:
            told.update(name=name, total=total, unit=unit)
            yield self

    encode_texts(make_texts(TEXTS), Counting(tiny_bert), cache, store, "v1", Recorder())
    assert (told["name"], told["total"], told["done"], told["unit"]) == ("encode member.profile", 3, 3, "texts")
    assert (told["cached"], told["to_encode"]) == (0, 3)
    assert float(told["texts_per_s"]) > 0


def test_error_pages_cover_every_code() -> None:
    from star_platform.text.error_pages import ERROR_PAGES

    folder = Path(stage.__file__).parent
    raised = {code for path in folder.glob("*.py") for code in re.findall(r'"([TD]0\d\d)"', path.read_text())}
    assert raised == set(ERROR_PAGES)
