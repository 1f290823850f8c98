from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_platform.errors import TextError
from star_platform.text.cache import CacheSpace, TextCache, text_keys
from star_platform.text.shards import Rows

DIM = 5


def _rows(texts: list[str], fingerprint: str = "e") -> Rows:
    keys, md5 = text_keys(fingerprint, texts)
    vectors = np.array([[hash_number(text) + i for i in range(DIM)] for text in texts], np.float32).reshape(-1, DIM)
    return Rows(keys, md5, np.array([len(text) for text in texts], np.int32), vectors)


def hash_number(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big") / 100


def _read(space: CacheSpace, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    slots = space.find(text_keys("e", texts)[0])
    vectors = np.empty((len(texts), DIM), np.float32)
    return space.read(slots, vectors), vectors


def _space(folder: Path) -> CacheSpace:
    return TextCache(folder).space("e", DIM)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.lists(st.lists(st.text(min_size=1, max_size=6), max_size=20, unique=True), max_size=6),
    asked=st.lists(st.text(min_size=1, max_size=6), max_size=20),
)
def test_returns_exactly_what_was_put(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[str]], asked: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    space = _space(folder)
    for group in groups:
        space.put(_rows(group))
    known = sorted({text for group in groups for text in group})
    for reader in (space, _space(folder)):
        found = reader.find(text_keys("e", asked)[0]) >= 0
        assert found.tolist() == [text in known for text in asked]
        tokens, vectors = _read(reader, known)
        expected = _rows(known)
        np.testing.assert_array_equal(vectors, expected.vectors)
        np.testing.assert_array_equal(tokens, expected.tokens)


def test_keys_follow_encoder_and_text() -> None:
    keys, md5 = text_keys("e", ["a", "b", "a"])
    other, same_md5 = text_keys("f", ["a", "b", "a"])
    assert (keys[0] == keys[2]).all()
    assert (keys[0] != keys[1]).any()
    assert (keys[0] != other[0]).any()
    assert md5[0].tobytes() == hashlib.md5(b"a").digest() == same_md5[0].tobytes()


def test_keys_that_share_their_first_half(tmp_path: Path) -> None:
    """Never seen in practice; the look-up must still tell them apart."""
    keys = np.zeros((4, 16), np.uint8)
    keys[:, 15] = [1, 2, 3, 9]
    space = _space(tmp_path)
    rows = Rows(keys[:3], keys[:3], np.arange(3, dtype=np.int32), np.ones((3, DIM), np.float32))
    space.put(rows)
    slots = space.find(keys)
    assert (slots >= 0).tolist() == [True, True, True, False]
    assert space.read(slots[:3], None).tolist() == [0, 1, 2]


def test_encoders_do_not_see_each_other(tmp_path: Path) -> None:
    cache = TextCache(tmp_path)
    cache.space("e", DIM).put(_rows(["a"]))
    assert (cache.space("f", DIM).find(text_keys("e", ["a"])[0]) < 0).all()
    assert len(cache.beside(tmp_path / "rebuild").space("e", DIM)) == 0


@pytest.mark.parametrize("damage", ["flip", "cut", "header", "empty", "dim"])
def test_a_damaged_shard_is_set_aside(tmp_path: Path, damage: str) -> None:
    space = _space(tmp_path)
    space.put(_rows(["a", "b"]))
    (shard,) = (tmp_path / "e").glob("*.vectors")
    space.put(_rows(["c"]))
    content = bytearray(shard.read_bytes())
    if damage == "flip":
        content[-1] ^= 1
    elif damage == "cut":
        content = content[:-4]
    elif damage == "header":
        content[0] ^= 1
    elif damage == "empty":
        content = bytearray()
    else:
        content[16] = DIM + 1
    shard.write_bytes(content)
    reader = _space(tmp_path)
    assert (reader.find(text_keys("e", ["a", "b", "c"])[0]) >= 0).tolist() == [False, False, True]
    assert len(reader.damaged) == 1
    assert shard.name in reader.damaged[0]
    assert shard.with_suffix(".damaged").exists()
    reader.put(_rows(["a", "b"]))
    np.testing.assert_array_equal(_read(reader, ["a", "b", "c"])[1], _rows(["a", "b", "c"]).vectors)


def test_scratch_of_a_killed_writer_is_not_read(tmp_path: Path) -> None:
    space = _space(tmp_path)
    (space.folder / ".0123.tmp").write_bytes(b"half")
    space.put(_rows(["a"]))
    assert len(_space(tmp_path)) == 1


def test_many_small_shards_become_one(tmp_path: Path) -> None:
    space, reader = _space(tmp_path), _space(tmp_path)
    texts = [f"text {i}" for i in range(60)]
    for text in texts:
        space.put(_rows([text, "in every shard"]))
    assert len(list(space.folder.glob("*.vectors"))) == 60
    slots = reader.find(text_keys("e", texts)[0])
    space.compact()
    assert len(list(space.folder.glob("*.vectors"))) == 1
    assert len(space) == 61
    np.testing.assert_array_equal(_read(space, texts)[1], _rows(texts).vectors)
    kept = np.empty((60, DIM), np.float32)
    reader.read(slots, kept)  # another process that had found them before
    np.testing.assert_array_equal(kept, _rows(texts).vectors)
    np.testing.assert_array_equal(_read(reader, texts)[1], _rows(texts).vectors)


def test_few_shards_are_left_alone(tmp_path: Path) -> None:
    space = _space(tmp_path)
    space.put(_rows(["a"]))
    space.put(_rows(["b"]))
    space.compact()
    assert len(list(space.folder.glob("*.vectors"))) == 2


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    space = _space(tmp_path)
    space.folder.rmdir()
    with pytest.raises(TextError) as caught:
        space.put(_rows(["a"]))
    assert caught.value.code == "T008"


def _write(folder: Path, who: int) -> None:
    space = _space(folder)
    for i in range(8):
        space.put(_rows([f"{who} {i}", f"shared {i}"]))
        space.compact()
        assert (space.find(text_keys("e", [f"{who} {j}" for j in range(i + 1)])[0]) >= 0).all()


def test_processes_write_and_compact_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write, args=(tmp_path, who)) for who in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    texts = [f"{who} {i}" for who in range(4) for i in range(8)] + [f"shared {i}" for i in range(8)]
    space = _space(tmp_path)
    np.testing.assert_array_equal(_read(space, texts)[1], _rows(texts).vectors)
    assert not space.damaged
