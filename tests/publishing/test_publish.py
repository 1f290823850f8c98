from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, FeatureView

from star_platform.errors import PublishError
from star_platform.publishing.foreign import version_key
from star_platform.publishing.model import ConsumerPin, NodeVectors, dataset_folder
from star_platform.publishing.projection import compare_state, open_store
from star_platform.publishing.publish import Publisher
from star_platform.publishing.writers import DirectWriter, fast_store
from tests.publishing.conftest import AS_OF, DAY, MAILER, RANKER, Shop, make_shop, vectors_of
from tests.publishing.nursery import Nursery

KEY = version_key
STOCK_CLIENT = """
import json, sys
import numpy as np
from feast import FeatureStore
repo, request = sys.argv[1], json.load(sys.stdin)
store = FeatureStore(repo_path=repo)
out = {}
for name, (features, key, ids) in request.items():
    rows = [{key: i} for i in ids]
    features = store.get_feature_service(features[1:]) if features.startswith("!") else [features]
    answer = store.get_online_features(features=features, entity_rows=rows, full_feature_names=True).to_dict()
    column = next(value for column, value in answer.items() if column.endswith("embedding"))
    out[name] = [None if v is None else np.asarray(v, "<f4").tobytes().hex() for v in column]
print("ANSWER" + json.dumps(out))
"""


def ask_stock_client(repo: Path, request: dict[str, tuple[str, str, list[object]]], cwd: Path) -> dict[str, list[str]]:
    """Another process, another folder, nothing of ours imported: only the feature repository is known."""
    done = subprocess.run(
        [sys.executable, "-c", STOCK_CLIENT, str(repo)],
        input=json.dumps(request),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.split("ANSWER")[1])  # type: ignore[no-any-return]


def hexes(source: NodeVectors) -> list[str]:
    return [row.tobytes().hex() for row in source.vectors]


def test_a_stock_client_in_another_process_reads_the_artefact_bit_for_bit(two_releases: Shop, tmp_path: Path) -> None:
    members = [two_releases.vectors[number][0] for number in (1, 2)]
    jobs = two_releases.vectors[1][1]
    ids = members[0].ids.to_pylist()
    answer = ask_stock_client(
        two_releases.repo,
        {
            "r1": ("member_embedding@v1:embedding", "member_id", [*ids, 1_000_000]),
            "r2": ("member_embedding@v2:embedding", "member_id", ids),
            "front": ("member_embedding:embedding", "member_id", ids[:20]),
            "jobs": ("job_embedding@v1:embedding", "job_id", [*jobs.ids.to_pylist(), "nobody"]),
            "service": ("!mailer", "member_id", ids[:20]),
        },
        tmp_path,
    )
    assert answer["r1"] == [*hexes(members[0]), None]
    assert answer["r2"] == hexes(members[1])
    assert answer["front"] == answer["service"] == hexes(members[1])[:20]
    assert answer["jobs"] == [*hexes(jobs), None]


def test_both_versions_are_counted_and_the_offline_files_are_whole(two_releases: Shop) -> None:
    with sqlite3.connect(two_releases.database) as connection:
        for release in (1, 2):
            for node, rows in (("member", 1_500), ("job", 300)):
                query = f'SELECT count(*) FROM "star_test_{node}_embedding_v{release}"'
                assert connection.execute(query).fetchone() == (rows,)
                table = pq.read_table(dataset_folder(two_releases.publisher.offline_root, release, node))
                assert table.num_rows == rows
                assert set(table["event_timestamp"].cast(pa.int64()).to_pylist()) == {AS_OF + release * DAY}


def test_publishing_again_changes_no_byte(shop: Shop) -> None:
    shop.publish(1)
    before = snapshot(shop)
    shop.publish(1)
    assert snapshot(shop) == before
    with pytest.raises(PublishError, match="F015"):
        shop.publish(1, vectors_of(9))
    assert snapshot(shop) == before


def test_equal_vectors_give_equal_files(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_shop(tmp_path_factory.mktemp("other"))
    for each in (shop, other):
        each.publish(1)
    assert files(shop) == files(other)
    assert rows_online(shop) == rows_online(other)


def files(shop: Shop) -> dict[str, bytes]:
    root = shop.publisher.offline_root
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows_online(shop: Shop) -> dict[str, list[tuple[object, ...]]]:
    with sqlite3.connect(shop.database) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        return {name: connection.execute(f'SELECT * FROM "{name}" ORDER BY 1, 2').fetchall() for (name,) in tables}


def snapshot(shop: Shop) -> tuple[object, ...]:
    return files(shop), rows_online(shop), (shop.root / ".star" / "feast_registry.db").read_bytes()


def test_activation_and_rollback_repin(shop: Shop) -> None:
    shop.publish(1)
    shop.publish(2)
    assert front(shop) == 2  # nothing is active yet: the newest
    assert shop.set(1, RANKER)
    assert front(shop) == 1
    shop.publish(3)
    assert front(shop) == 1  # publishing does not activate
    assert shop.set(3, replace(RANKER, release=3), MAILER)
    assert (front(shop), pins(shop)) == (3, {"ranker": {3}, "mailer": {2}})
    assert shop.set(1, RANKER)
    assert (front(shop), pins(shop)) == (1, {"ranker": {1}})
    assert shop.set(1, RANKER) == ()


def front(shop: Shop) -> int:
    (number,) = {view.current_version_number for view in open_store(shop.repo).list_feature_views()}
    return int(number)


def pins(shop: Shop) -> dict[str, set[int]]:
    services = open_store(shop.repo).list_feature_services()
    return {item.name: {part.version_tag for part in item.feature_view_projections} for item in services}


def test_the_registry_is_rebuilt_from_ours(shop: Shop) -> None:
    shop.publish(1)
    shop.publish(2)
    shop.set(1, RANKER, MAILER)
    (shop.root / ".star" / "feast_registry.db").unlink()
    assert shop.publisher.reconcile(shop.state)
    assert compare_state(open_store(shop.repo), shop.state) == []
    shop.publisher.verify(shop.state.releases[0], shop.vectors[1])
    assert shop.publisher.reconcile(shop.state) == ()


def test_a_purged_release_and_a_moved_folder_are_followed(shop: Shop) -> None:
    shop.publish(1)
    shop.publish(2)
    shop.set(2, RANKER, MAILER)
    shop.state = replace(shop.state, releases=shop.state.releases[1:], consumers=(MAILER,))
    assert shop.publisher.reconcile(shop.state)
    assert [entry["version_number"] for entry in open_store(shop.repo).list_feature_view_versions("job_embedding")] == [
        2
    ]
    moved = shop.root / ".star" / "elsewhere"
    shop.publisher.offline_root.rename(moved)
    shop.state = replace(shop.state, offline_root=moved)
    assert shop.publisher.reconcile(shop.state)
    publisher = Publisher(shop.repo, moved, shard_rows=400)
    publisher.verify(shop.state.releases[0], shop.vectors[2])
    assert publisher.reconcile(shop.state) == ()


def test_a_registry_of_before_spaces_were_tagged_is_repaired(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from star_platform.publishing import foreign, objects

    made = objects.view
    shop.publish(1)
    (shop.root / ".star" / "feast_registry.db").unlink()

    def untagged(*args: object) -> object:
        view = made(*args)  # type: ignore[arg-type]
        view.tags = {}
        return view

    with monkeypatch.context() as patch:
        patch.setattr(objects, "view", untagged)
        patch.setattr(foreign, "version_key", lambda state, release, node: (*KEY(state, release, node)[:2], "", ""))
        patch.setattr("star_platform.publishing.projection.version_key", foreign.version_key)
        shop.set(1, RANKER)
    assert len(compare_state(open_store(shop.repo), shop.state)) == 2
    assert shop.publisher.reconcile(shop.state)
    assert compare_state(open_store(shop.repo), shop.state) == []
    assert open_store(shop.repo).get_feature_view("job_embedding").tags == {"star_space": "space-1", "star_dim": "8"}
    shop.publisher.verify(shop.state.releases[0], shop.vectors[1])


def test_a_pin_that_nothing_serves_is_refused_and_changes_nothing(shop: Shop) -> None:
    shop.publish(1)
    before = snapshot(shop)
    for pin in (replace(RANKER, release=9), replace(RANKER, nodes=("member", "city")), replace(RANKER, nodes=())):
        with pytest.raises(PublishError, match="F043"):
            shop.set(1, pin)
    assert snapshot(shop) == before


class Tampering(DirectWriter):
    """Our writer, and a store that loses or changes a row behind its back."""

    statement = ""

    def __init__(self, store: FeatureStore) -> None:
        super().__init__(store, fast_store(store.config))

    def count(self, view: FeatureView, keys: pa.Array) -> int | None:
        counted = super().count(view, keys)
        with sqlite3.connect(Path(self._store.config.repo_path, self._store.config.online_store.path)) as connection:
            connection.execute(self.statement)
        return counted if "UPDATE" in self.statement else super().count(view, keys)


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        # the last row of the last shard: in every sample
        ("UPDATE star_test_job_embedding_v1 SET value = zeroblob(length(value)) WHERE rowid = 1", "F022"),
        ("DELETE FROM star_test_job_embedding_v1 WHERE rowid = 1", "F021"),
    ],
)
def test_a_damaged_online_row_fails_the_release_and_the_next_try_heals_it(
    shop: Shop, statement: str, code: str
) -> None:
    if "UPDATE" in statement:  # another vector, of the right length and finite
        good = np.zeros(8, dtype="<f4")
        from star_platform.publishing.wire import value_prefix

        blob = (value_prefix(8) + good.tobytes()).hex()
        statement = statement.replace("zeroblob(length(value))", f"x'{blob}'")
    honest = shop.publisher
    shop.publisher = Publisher(
        shop.repo, honest.offline_root, shard_rows=400, writer=type("T", (Tampering,), {"statement": statement})
    )
    with pytest.raises(PublishError, match=code):
        shop.publish(1)
    assert open_store(shop.repo).list_feature_views() == []  # nothing became visible
    shop.publisher = honest
    assert shop.publish(1).nodes["job"].rows == 300


def test_a_missing_or_changed_offline_row_is_found_and_healed(shop: Shop) -> None:
    release = shop.publish(1)
    part = dataset_folder(shop.publisher.offline_root, 1, "member") / "part-00003.parquet"
    whole = part.read_bytes()
    table = pq.read_table(part)
    flipped = table["embedding"].to_pylist()
    flipped[5][2] += 1e-6
    for damaged in (
        table.slice(0, table.num_rows - 1),
        table.set_column(1, "embedding", pa.array(flipped, pa.list_(pa.float32()))),
    ):
        pq.write_table(damaged, part)
        with pytest.raises(PublishError, match="F020"):
            shop.publisher.verify(release, shop.vectors[1])
        shop.publish(1)
        assert part.read_bytes() == whole
    part.unlink()
    with pytest.raises(PublishError, match="F020"):
        shop.publisher.verify(release, shop.vectors[1])
    with pytest.raises(PublishError, match="F016"):
        shop.publish(2, [replace(vectors_of(2)[0], ids=pa.array([str(number) for number in range(1_500)]))])


def test_rows_left_by_another_try_are_gone(shop: Shop) -> None:
    """A release whose first try had more members (and died before it was registered) ends with its own alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "star_platform.publishing.publish.apply_state", lambda *_: (_ for _ in ()).throw(KeyError("power"))
        )
        with pytest.raises(KeyError):
            shop.publish(1, vectors_of(1, members=2_100))
    shop.publish(1, vectors_of(1, members=900))
    with sqlite3.connect(shop.database) as connection:
        assert connection.execute("SELECT count(*) FROM star_test_member_embedding_v1").fetchone() == (900,)


@pytest.mark.parametrize("setting", ["versioning", "keys", "missing"])
def test_settings_that_lose_vectors_are_refused(shop: Shop, setting: str) -> None:
    path = shop.repo / "feature_store.yaml"
    text = path.read_text()
    if setting == "versioning":
        path.write_text(text.replace("versioning: true", "versioning: false"))
    elif setting == "keys":
        path.write_text(text.replace("  enable_online_feature_view_versioning: true\n", ""))
    else:
        path.unlink()
    with pytest.raises(PublishError, match="F004" if setting == "missing" else "F003"):
        shop.publish(1)


def test_an_empty_node_type_publishes(shop: Shop) -> None:
    empty = NodeVectors("course", pa.array([], pa.int64()), np.empty((0, 8), dtype=np.float32))
    release = shop.publish(1, [*vectors_of(1, 20, 10), empty])
    assert release.nodes["course"].rows == 0
    shop.set(1, ConsumerPin("reader", "x@example.com", ("course",), 1))
    shop.publisher.verify(release, shop.vectors[1])


@pytest.mark.parametrize(("where", "count"), [("shard", 2), ("batch", 3), ("ack", 1), ("registry", 3), ("swap", 0)])
def test_a_killed_publish_goes_on_and_ends_with_the_same_bytes(
    two_releases: Shop, shop: Shop, nursery: Nursery, where: str, count: int
) -> None:
    assert nursery.run(shop.root / "log", "publish", shop.root, where, count) == signal.SIGKILL
    assert open_store(shop.repo).list_feature_views() == []
    shop.publish(1)
    expected = {name: data for name, data in files(two_releases).items() if name.startswith("r1/")}
    assert files(shop) == expected
    online = rows_online(two_releases)
    assert rows_online(shop) == {name: rows for name, rows in online.items() if name.endswith("_v1")}
