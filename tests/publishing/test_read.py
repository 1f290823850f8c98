from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from star_platform.errors import PublishError
from star_platform.publishing.offline import as_matrix
from star_platform.publishing.read import Reader
from tests.publishing.conftest import AS_OF, DAY, Shop


@pytest.fixture(scope="module")
def reader(two_releases: Shop) -> Reader:
    return Reader(two_releases.repo)


def moments(*values: int) -> pd.DatetimeIndex:
    return pd.to_datetime(np.array(values, dtype="datetime64[us]"), utc=True)


def test_fetch_keeps_order_repeats_and_gaps(two_releases: Shop, reader: Reader) -> None:
    source = two_releases.vectors[2][0]
    fetched = reader.fetch(two_releases.state.releases[1], "member", ["2", -7, 10**6, 2, -4])
    assert (fetched.release, fetched.space, fetched.ids) == (2, "space-2", (2, -7, 10**6, 2, -4))
    assert fetched.found.tolist() == [True, True, False, True, True]
    assert fetched.vectors.dtype == np.float32
    assert np.array_equal(fetched.vectors[[0, 1, 3, 4]], source.vectors[[3, 0, 3, 1]])
    assert not fetched.vectors[2].any()
    table = fetched.table()
    assert table.column_names == ["member_id", "found", "embedding"]
    assert table["embedding"].to_pylist()[2] is None
    assert np.array_equal(as_matrix(table.filter(table["found"])["embedding"], 8), source.vectors[[3, 0, 3, 1]])


def test_more_ids_than_one_request_takes(two_releases: Shop, reader: Reader) -> None:
    source = two_releases.vectors[1][0]
    fetched = reader.fetch(two_releases.state.releases[0], "member", source.ids.to_pylist())
    assert fetched.found.all()
    assert fetched.vectors.tobytes() == source.vectors.tobytes()
    assert reader.fetch(two_releases.state.releases[0], "job", []).vectors.shape == (0, 8)
    assert reader.fetch(two_releases.state.releases[0], "job", ["nobody"]).table()["embedding"].null_count == 1


def test_what_cannot_be_read_says_why(two_releases: Shop, reader: Reader) -> None:
    release = two_releases.state.releases[0]
    for code, call in (
        ("F030", lambda: reader.fetch(release, "city", [1])),
        ("F031", lambda: reader.fetch(release, "member", ["anna"])),
        ("F034", lambda: reader.pins("nobody")),
        ("F033", lambda: reader.fetch(_with_dim(release, 9), "member", [-7])),
    ):
        with pytest.raises(PublishError) as caught:
            call()
        assert caught.value.code == code
        assert caught.value.hint


def _with_dim(release, dim):  # type: ignore[no-untyped-def]
    return replace(release, nodes={"member": replace(release.nodes["member"], dim=dim)})


def test_pins_come_from_the_feature_service(reader: Reader) -> None:
    assert reader.pins("ranker") == {"member": 1, "job": 1}
    assert reader.pins("mailer") == {"member": 2}


def test_the_historical_join_is_strict_and_keeps_every_row(two_releases: Shop, reader: Reader) -> None:
    source = two_releases.vectors[1][0]
    end = AS_OF + DAY
    asked = pd.DataFrame(
        {
            "member_id": [2, -7, 2, 10**6, 2, 2],
            "event_timestamp": moments(end + 1, end + DAY, end, end + DAY, end - 1, end + 1),
            "label": [1, 2, 3, 4, 5, 6],
        },
        index=[9, 8, 7, 6, 5, 4],
    )
    answer = reader.historical(two_releases.state.releases[0], "member", asked)
    assert answer.drop(columns="embedding").equals(asked.reset_index(drop=True))
    # the row at the end of the data itself, the one before, and the unknown member have nothing
    assert [value is None for value in answer["embedding"]] == [False, False, True, True, True, False]
    assert np.array_equal(np.stack(answer["embedding"][[0, 1, 5]].tolist()), source.vectors[[3, 0, 3]])
    assert reader.historical(two_releases.state.releases[0], "member", asked[:0]).columns.tolist() == [
        *asked.columns,
        "embedding",
    ]


def test_ten_thousand_rows_in_ten_thousand_out(two_releases: Shop, reader: Reader) -> None:
    """Half of them repeat another row's key and time, which Feast's default offline store drops."""
    source = two_releases.vectors[2][1]
    rows = np.random.default_rng(3).integers(0, 300, 10_000)
    early = np.arange(10_000) % 5 == 0
    times = np.where(early, AS_OF, AS_OF + 3 * DAY + np.arange(10_000) % 2)
    asked = pd.DataFrame(
        {"job_id": [f"job/{number}" for number in rows], "event_timestamp": moments(*times), "row": np.arange(10_000)}
    )
    answer = reader.historical(two_releases.state.releases[1], "job", asked)
    assert answer["row"].tolist() == list(range(10_000))
    assert np.array_equal(answer["embedding"].isna().to_numpy(), early)
    position = {key: number for number, key in enumerate(source.ids.to_pylist())}
    expected = source.vectors[[position[key] for key in asked["job_id"][~early]]]
    assert np.array_equal(np.stack(answer["embedding"][~early].tolist()), expected)


def test_a_store_that_drops_rows_is_caught(two_releases: Shop) -> None:
    """Feast's own default store, on the same files."""
    yaml = two_releases.repo / "feature_store.yaml"
    text = yaml.read_text()
    yaml.write_text(text.replace("type: duckdb", "type: dask"))
    try:
        asked = pd.DataFrame({"member_id": [2, 2], "event_timestamp": moments(AS_OF + 9 * DAY, AS_OF + 9 * DAY)})
        with pytest.raises(PublishError, match="F032"):
            Reader(two_releases.repo).historical(two_releases.state.releases[0], "member", asked)
    finally:
        yaml.write_text(text)
