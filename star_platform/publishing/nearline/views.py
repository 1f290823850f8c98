"""Feast's objects of the near-line vectors: a project `<project>_text`, in `text/` of the feature repository.

They are kept apart from the releases because a release makes Feast's registry hold exactly what it knows. One view per
text feature; one version per embedding space, so that vectors of two encoders never mix:

    member_profile_text@v1: embedding (float32 [dim]), text_key
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from ruamel.yaml import YAML

from star_platform.errors import TextError
from star_platform.publishing.layout import DIM_TAG, SPACE_TAG
from star_platform.publishing.model import FIELD, KeyType, join_key
from star_platform.publishing.nearline.online import TAG_FIELD
from star_platform.publishing.wire import check_feast

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

FOLDER = "text"
TIME, ARRIVED = "event_timestamp", "arrived_at"
_ONLINE = "star_platform.publishing.nearline.online.TextRedisOnlineStore"
_OFFLINE = "star_platform.publishing.nearline.offline.TextDuckDBOfflineStore"
_OURS_ONLY = ("count_reads", "route_ttl_seconds")
_HEADER = """\
# Near-line text vectors, written by `star-platform text serve`. A stock client reads them with `type: redis` as well.
"""


@dataclass(frozen=True)
class TextView:
    """What a view is made of. space: fingerprint of the feature's encoder."""

    feature: str
    key_type: KeyType
    dim: int
    space: str

    @property
    def node(self) -> str:
        return self.feature.partition(".")[0]

    @property
    def name(self) -> str:
        return view_name(self.feature)


def view_name(feature: str) -> str:
    """`member.profile`: `member_profile_text`."""
    return f"{feature.replace('.', '_')}_text"


def write_repo(feature_repo: Path) -> Path:
    """The folder of the near-line project, whose feature_store.yaml is made from the releases' one if it is absent.

    Raises:
        TextError: T049 when the online store is not Redis.
    """
    folder = feature_repo / FOLDER
    target = folder / "feature_store.yaml"
    if target.exists():
        return folder
    yaml = YAML()
    settings = yaml.load((feature_repo / "feature_store.yaml").read_text(encoding="utf-8"))
    online = settings.get("online_store") or {}
    if "redis" not in str(online.get("type", "")).lower():
        raise TextError(
            "T049",
            f"near-line vectors need Redis as online store; {feature_repo / 'feature_store.yaml'} has"
            f" {online.get('type', 'none')}",
            hint=f"name a Redis there, or write {target} yourself; `star-platform explain T049` shows the lines",
        )
    settings["project"] = f"{settings['project']}_text"
    online["type"] = _ONLINE
    for name in _OURS_ONLY:
        online.pop(name, None)
    registry = settings["registry"]
    if isinstance(registry, str):
        settings["registry"] = registry = {"path": registry}
    registry["enable_online_feature_view_versioning"] = True
    if registry.get("registry_type", "file") == "file" and "://" not in str(registry["path"]):
        path = Path(str(registry["path"]))
        registry["path"] = str(Path("..") / path.with_name(f"{path.stem}_text{path.suffix}"))
    if str((settings.get("offline_store") or {}).get("type", "duckdb")) == "duckdb":
        settings["offline_store"] = {"type": _OFFLINE}
    text = io.StringIO()
    yaml.dump(settings, text)
    folder.mkdir(exist_ok=True)
    draft = target.with_suffix(".tmp")
    draft.write_text(_HEADER + text.getvalue(), encoding="utf-8")
    draft.rename(target)
    return folder


def open_text_store(folder: Path) -> FeatureStore:
    """A client of the near-line project.

    Raises:
        PublishError: F001 for another Feast. TextError: T053 when its settings do not fit.
    """
    check_feast()
    from feast import FeatureStore
    from feast.repo_config import load_repo_config

    config = load_repo_config(folder, folder / "feature_store.yaml")
    wrong = []
    if not config.registry.enable_online_feature_view_versioning:
        wrong.append("registry.enable_online_feature_view_versioning must be true")
    if not type(config.online_store).__name__.startswith("TextRedis"):
        wrong.append(f"online_store.type must be {_ONLINE}")
    elif config.online_store.redis_type.value == "redis_cluster":
        wrong.append("online_store.redis_type must be redis or redis_sentinel")
    if wrong:
        raise TextError(
            "T053", f"{folder / 'feature_store.yaml'}: {'; '.join(wrong)}", hint="remove the file and start again"
        )
    if config.registry.registry_type == "file" and "://" not in config.registry.path:
        Path(folder, config.registry.path).parent.mkdir(parents=True, exist_ok=True)
    return FeatureStore(repo_path=str(folder), config=config)


def ensure_view(store: FeatureStore, item: TextView, offline_root: Path) -> FeatureView:
    """The view of the feature in the space of its encoder; a new space is a new version. Call it under a lease."""
    from feast.errors import FeatureViewNotFoundException

    try:
        known = store.get_feature_view(item.name)
    except FeatureViewNotFoundException:
        known = None
    if known is not None and known.tags.get(SPACE_TAG) == item.space and _key_type(known) == item.key_type:
        return known
    number = int(known.current_version_number) + 1 if known is not None else 1
    folder = offline_root.resolve() / item.name / f"v{number}"
    _empty_dataset(folder, item)
    store.apply(_objects(item, number, folder))
    return store.get_feature_view(item.name)


def _key_type(view: FeatureView) -> KeyType:
    return "string" if str(view.entity_columns[0].dtype) == "String" else "int64"


def _objects(item: TextView, number: int, folder: Path) -> list[Any]:
    """Entity, sources and view."""
    from feast import Entity, FeatureView, Field, FileSource, PushSource
    from feast.data_format import ParquetFormat
    from feast.types import Array, Float32, Int64, String
    from feast.value_type import ValueType

    whole = item.key_type == "int64"
    entity = Entity(
        name=item.node, join_keys=[join_key(item.node)], value_type=ValueType.INT64 if whole else ValueType.STRING
    )
    batch = FileSource(
        name=f"{item.name}_v{number}",
        path=str(folder),
        file_format=ParquetFormat(),
        timestamp_field=TIME,
        created_timestamp_column=ARRIVED,  # of two rows with one event time, a join takes the later event
    )
    push = PushSource(name=push_name(item.name, number), batch_source=batch)
    view = FeatureView(
        name=item.name,
        entities=[entity],
        schema=[
            Field(name=join_key(item.node), dtype=Int64 if whole else String),
            Field(name=FIELD, dtype=Array(Float32)),
            Field(name=TAG_FIELD, dtype=String),
        ],
        source=push,
        ttl=timedelta(0),
        tags={SPACE_TAG: item.space, DIM_TAG: str(item.dim)},
        version=f"v{number}",
    )
    view.current_version_number = number
    return [entity, batch, push, view]


def push_name(view: str, number: int) -> str:
    """The push source of one version: who still encodes for an older one is refused, not mixed in."""
    return f"{view}_push_v{number}"


def _empty_dataset(folder: Path, item: TextView) -> None:
    """A file without rows, so that the dataset can be read, and appended to, before the first event."""
    from star_platform.publishing.nearline.offline import append

    folder.mkdir(parents=True, exist_ok=True)
    append(folder, rows_schema(item).empty_table())


def rows_schema(item: TextView) -> pa.Schema:
    """The columns of the history."""
    return pa.schema(
        [
            pa.field(join_key(item.node), pa.int64() if item.key_type == "int64" else pa.string()),
            pa.field(FIELD, pa.list_(pa.float32())),
            pa.field(TAG_FIELD, pa.string()),
            pa.field(TIME, pa.timestamp("us", tz="UTC")),
            pa.field(ARRIVED, pa.timestamp("us", tz="UTC")),
        ]
    )


def moments(micros: list[int]) -> Any:
    """Microseconds since the epoch as pandas takes them."""
    import pandas as pd

    return pd.to_datetime(np.asarray(micros, dtype="datetime64[us]"), utc=True)
