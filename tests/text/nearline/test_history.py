"""The offline half: appended files, merged later, and read by a stock client; and the settings it all stands on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_platform.errors import TextError
from star_platform.publishing.nearline.offline import append, compact
from star_platform.publishing.nearline.sink import FeastSink
from star_platform.publishing.nearline.views import TextView, open_text_store, write_repo
from star_platform.text.nearline.model import Order, Row
from tests.publishing.stores import use_store

from .world import START, Spec, World, event, stock_repo


def table(number: int) -> pa.Table:
    return pa.table({"id": pa.array([number, number + 1]), "value": pa.array([[1.0], None], pa.list_(pa.float32()))})


def test_the_same_rows_are_one_file(tmp_path: Path) -> None:
    first = append(tmp_path, table(1))
    assert append(tmp_path, table(1)) == first
    assert append(tmp_path, table(2)) != first
    assert len(list(tmp_path.iterdir())) == 2


def test_files_are_merged_and_deleted_only_when_nobody_reads_them(tmp_path: Path) -> None:
    for number in range(0, 20, 2):
        append(tmp_path, table(number))
    assert compact(tmp_path, above=10, grace=60) == 0
    append(tmp_path, table(20))
    assert compact(tmp_path, above=10, grace=60) == 11
    assert len(list(tmp_path.glob("rows-*.parquet"))) == 11
    assert compact(tmp_path, above=10, grace=60) == 0  # they are merged already, and may still be read
    append(tmp_path, table(22))
    (merged,) = tmp_path.glob("merged-*.parquet")
    os.utime(merged, (1, 1))
    assert compact(tmp_path, above=10, grace=60) == 11
    left = pa.concat_tables([pq.read_table(path) for path in tmp_path.glob("*.parquet")])
    assert sorted(left.column("id").to_pylist()) == list(range(24))


def test_one_process_merges(tmp_path: Path) -> None:
    import fcntl

    for number in range(0, 20, 2):
        append(tmp_path, table(number))
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert compact(tmp_path, above=1, grace=0) == 0
    assert compact(tmp_path, above=1, grace=0) == 10


def joined(world: World, repo: Path, seconds: list[int]) -> pd.DataFrame:
    from feast import FeatureStore

    moments = pd.to_datetime([START + 1000 * at for at in seconds], unit="ms", utc=True)
    frame = pd.DataFrame({"member_id": [7] * len(seconds), "event_timestamp": moments})
    store = FeatureStore(repo_path=str(repo))
    answer = store.get_historical_features(frame, ["member_profile_text@v1:embedding"]).to_df()
    return answer.sort_values("event_timestamp").reset_index(drop=True)


def test_a_stock_client_joins_over_files_that_repeat_rows(world: World) -> None:
    """As after a crash, and while merged files are still there."""
    world.send(event(7, "nurse", 10))
    world.drain()
    world.send(event(7, "teacher", 20))
    world.drain()
    folder = Path(world.sink._views["member.profile"].batch_source.path)
    assert compact(folder, above=1, grace=60) > 0
    answer = joined(world, stock_repo(world.spec.repo / "text"), [5, 15, 25])
    assert len(answer) == 3
    assert answer.embedding[0] is None
    np.testing.assert_allclose(answer.embedding[1], world.vector("nurse"), atol=1e-6)
    np.testing.assert_allclose(answer.embedding[2], world.vector("teacher"), atol=1e-6)


def test_of_equal_event_times_a_join_takes_the_later_arrival(world: World) -> None:
    world.send(event(7, "teacher", 10))
    world.send(event(7, "nurse", 10))
    world.drain()
    assert len(world.history("member.profile")) == 2
    answer = joined(world, world.spec.repo / "text", [15])
    np.testing.assert_allclose(answer.embedding[0], world.vector("nurse"), atol=1e-6)


def test_vectors_pass_through_bit_for_bit(world: World) -> None:
    vector = np.random.default_rng(5).standard_normal(24).astype(np.float32)
    row = Row(7, Order(START * 1000 + 123_457, 3), "ab", vector)
    world.sink.append("member.profile", [row])
    world.sink.put("member.profile", [row])
    (stored,), _ = world.served("member.profile", [7])
    assert np.asarray(stored, np.float32).tobytes() == vector.tobytes()
    kept = world.history("member.profile")
    assert np.asarray(kept.embedding[0], np.float32).tobytes() == vector.tobytes()
    assert kept.event_timestamp.astype("int64").tolist() == [row.order.time]


def test_a_frame_of_nulls_is_written(world: World) -> None:
    rows = [Row(entity, Order(1, 1), "deleted", None) for entity in range(3)]
    world.sink.append("member.profile", rows)
    world.sink.put("member.profile", rows)
    assert len(world.history("member.profile")) == 3
    assert all(state is not None for state in world.sink.states("member.profile", [0, 1, 2]))


def test_the_repository_is_made_once_and_is_the_owners(spec: Spec) -> None:
    folder = write_repo(spec.repo)
    path = folder / "feature_store.yaml"
    text = path.read_text()
    assert "_text\n" in text.split("provider")[0]
    assert "../../.star/feast_registry_text.db" in text
    path.write_text(text + "# mine\n")
    write_repo(spec.repo)
    assert path.read_text().endswith("# mine\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("enable_online_feature_view_versioning: true", "enable_online_feature_view_versioning: false"),
        ("star_platform.publishing.nearline.online.TextRedisOnlineStore", "redis"),
    ],
)
def test_settings_that_do_not_fit_are_refused(spec: Spec, old: str, new: str) -> None:
    path = write_repo(spec.repo) / "feature_store.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(TextError) as caught:
        open_text_store(path.parent)
    assert caught.value.code == "T053"


def test_an_online_store_that_cannot_compare_is_refused(spec: Spec) -> None:
    use_store(spec.repo, "star-sqlite")
    with pytest.raises(TextError) as caught:
        write_repo(spec.repo)
    assert caught.value.code == "T049"
    assert not (spec.repo / "text").exists()


def test_two_features_with_one_view_are_refused(world: World, tmp_path: Path) -> None:
    views = [TextView(name, "int64", 8, "space") for name in ("member.a_b", "job.text", "member_a.b")]
    with pytest.raises(TextError, match=r"member\.a_b and member_a\.b") as caught:
        FeastSink(world.sink._store, views, tmp_path)
    assert caught.value.code == "T056"
