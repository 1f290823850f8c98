"""Redis Streams with a consumer group as the stream of events (Redis 6.2 or newer).

Each entry has one field, `event`, with the JSON. An entry that a worker was handed stays in the group's list of pending
entries until it is acknowledged; entries of a silent worker are claimed by another one (XAUTOCLAIM).
Dead letters go to `<stream>:dead`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from star_platform.errors import DependencyMissing, TextError
from star_platform.text.nearline.config import ServeConfig
from star_platform.text.nearline.model import DeadLetter, Lag, Message

if TYPE_CHECKING:
    from redis import Redis

FIELD = b"event"
_KEPT_BYTES = 1 << 16
_COUNTED = 10_000
_TIMEOUTS: dict[str, Any] = {"socket_timeout": 30, "socket_connect_timeout": 10}
# Redis 6.2 does not say how many entries a group has still to read; counted in the server, up to a limit.
_WAITING = """
local last = '0-0'
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local field = {}
  for at = 1, #group, 2 do field[group[at]] = group[at + 1] end
  if field['name'] == ARGV[1] then last = field['last-delivered-id'] end
end
local rows = redis.call('XRANGE', KEYS[1], '(' .. last, '+', 'COUNT', ARGV[2])
return {#rows, rows[1] and rows[1][1] or ''}
"""
# Names that have nothing pending, in one step: Redis forgets what is pending for a name that is removed.
_REMOVE_IDLE = """
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local field = {}
  for at = 1, #consumer, 2 do field[consumer[at]] = consumer[at + 1] end
  local meant = ARGV[2] == '' or ARGV[2] == field['name']
  if meant and field['pending'] == 0 and field['idle'] >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field['name'])
  end
end
"""
_FORGET_MS = 3_600_000


class RedisStream:
    """One worker's view of a stream."""

    def __init__(self, client: Redis, config: ServeConfig) -> None:
        self._client, self._config = client, config
        self._stream, self._dead = config.stream.encode(), config.stream.encode() + b":dead"
        with _answering():
            self._join()
        self._waiting = client.register_script(_WAITING)
        self._remove_idle = client.register_script(_REMOVE_IDLE)
        self._after = b"0-0"

    def recover(self, count: int) -> list[Message]:
        """Entries pending for this name; each call gives the next ones."""
        with _answering():
            found = self._read(count, None, self._after)
            if not found:
                return []
            self._after = found[-1][0]
            return self._with_deliveries(found)

    def claim(self, count: int) -> list[Message]:
        idle = int(self._config.claim_after * 1000)
        with _answering():
            found = self._client.xautoclaim(
                self._stream, self._config.group, self._config.worker, min_idle_time=idle, start_id="0-0", count=count
            )[1]
            if any(key is None for key, _ in found):  # trimmed while pending; 6.2 does not say which
                self._with_deliveries(self._read(_COUNTED, None, b"0-0"))
            return self._with_deliveries([(key, fields) for key, fields in found if key is not None])

    def read(self, count: int, block_ms: int) -> list[Message]:
        with _answering():
            found = self._read(count, block_ms or None, b">")
        return [_message(key, fields, 1) for key, fields in found]

    def ack(self, messages: Sequence[Message]) -> None:
        if messages:
            with _answering():
                self._client.xack(self._stream, self._config.group, *(message.id for message in messages))

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Add and acknowledge in one transaction. A huge payload is cut; `bytes` says how long it was."""
        with _answering(), self._client.pipeline(transaction=True) as pipe:
            for letter in letters:
                payload = letter.message.payload or b""
                fields: dict[Any, Any] = {
                    "code": letter.code,
                    "reason": letter.reason,
                    "payload": payload[:_KEPT_BYTES],
                    "bytes": len(payload),
                    "id": letter.message.id,
                    "group": self._config.group,
                    "deliveries": letter.message.deliveries,
                }
                pipe.xadd(self._dead, fields, maxlen=self._config.dead_letters, approximate=True)
            pipe.xack(self._stream, self._config.group, *(letter.message.id for letter in letters))
            pipe.execute()

    def lag(self) -> Lag:
        with _answering():
            waiting, first = self._waiting(keys=[self._stream], args=[self._config.group, _COUNTED])
            pending = self._client.xpending(self._stream, self._config.group)
        starts = [_arrival(key) for key in (first, pending["min"]) if key]
        return Lag(int(waiting), int(pending["pending"]), min(starts, default=None), exact=int(waiting) < _COUNTED)

    def now(self) -> int:
        with _answering():
            seconds, micros = self._client.time()
        return int(seconds) * 1_000_000 + int(micros)

    def tidy(self) -> None:
        """Trim entries that every group has done and that are older than the retention; forget names of the dead."""
        with _answering():
            self._remove_idle(keys=[self._stream], args=[self._config.group, "", _FORGET_MS])
            floors = [(self.now() // 1000 - int(self._config.retention * 1000), 0)]
            for group in self._client.xinfo_groups(self._stream):
                oldest = self._client.xpending(self._stream, group["name"])["min"]
                floors.append(_parts(oldest or group["last-delivered-id"]))
            milliseconds, sequence = min(floors)
            self._client.xtrim(self._stream, minid=f"{max(milliseconds, 0)}-{sequence}", approximate=True)

    def close(self) -> None:
        """Take the name off the group's list, unless something is still pending for it."""
        with _answering():
            self._remove_idle(keys=[self._stream], args=[self._config.group, self._config.worker, 0])
        self._client.close()

    # --- entries ------------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        from redis.exceptions import ResponseError

        try:
            self._client.xgroup_create(self._stream, self._config.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # the group is there
                raise

    def _read(self, count: int, block_ms: int | None, after: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
        from redis.exceptions import ResponseError

        group, worker = self._config.group, self._config.worker
        try:
            found: Any = self._client.xreadgroup(group, worker, {self._stream: after}, count=count, block=block_ms)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._join()  # the server came back empty
            return []
        return list(found[0][1]) if found else []

    def _with_deliveries(self, found: Sequence[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Message]:
        """Messages that were handed out before. Those that are gone from the stream are let go of."""
        if not found:
            return []
        group, worker = self._config.group, self._config.worker
        with self._client.pipeline(transaction=False) as pipe:
            for key, _ in found:
                pipe.xpending_range(self._stream, group, key, key, 1, worker)
            counted = pipe.execute()
        gone = [key for key, fields in found if not fields]
        if gone:  # trimmed while it was pending: there is nothing left to do
            self._client.xack(self._stream, group, *gone)
        return [
            _message(key, fields, rows[0]["times_delivered"] if rows else 1)
            for (key, fields), rows in zip(found, counted, strict=True)
            if fields
        ]


def open_redis_stream(where: str | Mapping[str, Any], config: ServeConfig) -> RedisStream:
    """Join the group, which is made with the stream if it is not there, at the stream's beginning.

    where: such as `redis://:password@host:6379/0`, or the arguments of a Redis client.

    Raises:
        DependencyMissing: T054 without redis-py. TextError: T040 when the server does not answer.
    """
    try:
        import redis
    except ImportError as error:
        raise DependencyMissing(
            "T054", "the Redis client is not installed", hint='pip install "star-platform[redis]"'
        ) from error
    try:
        client = (
            redis.Redis.from_url(where, **_TIMEOUTS)
            if isinstance(where, str)
            else redis.Redis(**{**_TIMEOUTS, **where})
        )
    except ValueError as error:
        raise TextError("T040", f"{error}", hint="write redis://host:6379/0") from error
    return RedisStream(client, config)


@contextmanager
def _answering() -> Iterator[None]:
    """Redis's errors as ours."""
    from redis.exceptions import RedisError

    try:
        yield
    except RedisError as error:
        raise TextError(
            "T040", f"the event stream does not answer: {error}", hint="see that the Redis of the stream runs"
        ) from error


def _message(key: bytes, fields: dict[bytes, bytes], deliveries: int) -> Message:
    return Message(key.decode(), fields.get(FIELD), _arrival(key), deliveries)


def _parts(key: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = key.partition(b"-")
    return int(milliseconds), int(sequence)


def _arrival(key: bytes) -> int:
    """Microseconds; the entries of one millisecond stay in their order."""
    milliseconds, sequence = _parts(key)
    return milliseconds * 1000 + min(sequence, 999)
