"""Feast's Redis online store, which takes a vector only if no newer one is there: compare and set, per entity.

The records are Feast's own, so any stock client reads them. Beside them, in the same hash, lies one field per view with
the order and the tag of what is served, written in the same step as the vector: whoever dies when, the two agree.

    _star:<view>_v<N>     <event time, 20 digits>.<arrival, 20 digits>.<tag>      (microseconds; compared as text)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, _versioned_fv_name
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

from star_platform.text.nearline.model import Order, Row, State

if TYPE_CHECKING:
    from feast import FeatureView
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.repo_config import RepoConfig

    Record = tuple[EntityKey, dict[str, Value], datetime, datetime | None]

TAG_FIELD = "text_key"
"""The feature that says which text the vector is of."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ORDER_BYTES = 41
# KEYS: the hash. ARGV: state field, order, tag, number of fields to set, their names and values, fields to remove.
_PUT = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held and string.sub(held, 1, #ARGV[2]) >= ARGV[2] then return 0 end
local last = 4 + 2 * tonumber(ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '.' .. ARGV[3], unpack(ARGV, 5, last))
if #ARGV > last then redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1)) end
return 1
"""
# ARGV: state field, order, tag, timestamp field, timestamp.
_TOUCH = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held or string.sub(held, #ARGV[2] + 2) ~= ARGV[3] then return 0 end
if string.sub(held, 1, #ARGV[2]) < ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. '.' .. ARGV[3], ARGV[4], ARGV[5])
end
return 1
"""


class TextRedisOnlineStoreConfig(RedisOnlineStoreConfig):  # type: ignore[misc]
    """Feast's settings; `skip_dedup` has no say, since this store compares by itself."""

    type: Literal["star_platform.publishing.nearline.online.TextRedisOnlineStore"] = (
        "star_platform.publishing.nearline.online.TextRedisOnlineStore"
    )


class TextRedisOnlineStore(RedisOnlineStore):  # type: ignore[misc]
    """For views with a feature `text_key`; others are written as Feast does."""

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Record],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows; a row that is not newer than what is there changes nothing. A null value is removed."""
        if TAG_FIELD not in {feature.name for feature in table.features}:
            super().online_write_batch(config, table, data, progress)
            return
        names = _Names(config, table)
        put = self._get_client(config.online_store).register_script(_PUT)
        with self._get_client(config.online_store).pipeline(transaction=False) as pipe:
            for entity, values, time, arrival in data:
                written = {names.value[name]: blob for name, value in values.items() if (blob := _blob(value))}
                gone = [field for field in names.value.values() if field not in written]
                order = Order(_micros(time), _micros(arrival or time))
                fields = [item for pair in written.items() for item in pair]
                fields += [names.time, _stamp(order.time)]
                tag = values[TAG_FIELD].string_val
                put(
                    keys=[names.key(entity)],
                    args=[names.state, _sortable(order), tag, len(fields) // 2, *fields, *gone],
                    client=pipe,
                )
            pipe.execute()
        if progress:
            progress(len(data))

    def touch(self, config: RepoConfig, view: FeatureView, keys: Iterable[Any], rows: Sequence[Row]) -> list[bool]:
        """Move the event time of entities whose text stays; False where another text is served."""
        names = _Names(config, view)
        script = self._get_client(config.online_store).register_script(_TOUCH)
        with self._get_client(config.online_store).pipeline(transaction=False) as pipe:
            for key, row in zip(keys, rows, strict=True):
                args = [names.state, _sortable(row.order), row.tag, names.time, _stamp(row.order.time)]
                script(keys=[names.key(key)], args=args, client=pipe)
            return [bool(answer) for answer in pipe.execute()]

    def states(self, config: RepoConfig, view: FeatureView, keys: Iterable[Any]) -> list[State | None]:
        """What is served of the entities."""
        names = _Names(config, view)
        with self._get_client(config.online_store).pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(names.key(key), names.state)
            return [_state(blob) if blob else None for blob in pipe.execute()]


class _Names:
    """The names that one version of a view has in Redis."""

    def __init__(self, config: RepoConfig, view: FeatureView) -> None:
        storage = _versioned_fv_name(view, config)
        self._config = config
        self.state = f"_star:{storage}".encode()
        self.time = f"_ts:{storage}".encode()
        self.value: dict[str, bytes] = {item.name: _mmh3(f"{storage}:{item.name}") for item in view.features}

    def key(self, entity: EntityKey) -> bytes:
        return bytes(
            _redis_key(
                self._config.project,
                entity,
                entity_key_serialization_version=self._config.entity_key_serialization_version,
            )
        )


def _blob(value: Value) -> bytes:
    return bytes(value.SerializeToString())


def _stamp(micros: int) -> bytes:
    """As Feast stores an event time."""
    stamp = Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
    return bytes(stamp.SerializeToString())


def _micros(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _sortable(order: Order) -> bytes:
    return f"{order.time:020d}.{order.arrival:020d}".encode()


def _state(blob: bytes) -> State:
    return State(Order(int(blob[:20]), int(blob[21:_ORDER_BYTES])), blob[_ORDER_BYTES + 1 :].decode())
