"""Redis commands for many rows as one buffer, and their replies without a Python object for each.

All commands of a batch have one length, so a batch is a rectangle of bytes: constant columns, the key, the vector.
The socket is that of redis-py, which keeps doing what it does well: addresses, TLS, passwords, pools.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from redis.exceptions import RedisError

from star_platform.errors import PublishError

Bytes = npt.NDArray[np.uint8]
_CHUNK = 1 << 20
_MISSING = b"$-1\r\n"


def commands(*parts: bytes | Bytes) -> Bytes:
    """One command per row, uint8 [n, width]: an array of bulk strings (RESP2).

    A part is a constant, or uint8 [n, k] with one argument per row.
    """
    rows = next(len(part) for part in parts if isinstance(part, np.ndarray))
    columns: list[bytes | Bytes] = [b"*%d\r\n" % len(parts)]
    for part in parts:
        columns += [b"$%d\r\n" % _width(part), part, b"\r\n"]
    template = b"".join(bytes(_width(column)) if isinstance(column, np.ndarray) else column for column in columns)
    result = np.empty((rows, len(template)), np.uint8)
    result[:] = np.frombuffer(template, np.uint8)
    at = 0
    for column in columns:
        if isinstance(column, np.ndarray):
            result[:, at : at + column.shape[1]] = column
        at += _width(column)
    return result


def _width(part: bytes | Bytes) -> int:
    return part.shape[1] if isinstance(part, np.ndarray) else len(part)


class Channel:
    """One connection out of a redis-py pool, for one exchange; a context manager.

    Raises:
        PublishError: F050 when the server goes away or does not answer in the client's time, F051 when it refuses.
    """

    def __init__(self, client: Any) -> None:
        self._pool = client.connection_pool

    def __enter__(self) -> Self:
        with answering():
            self._connection = self._pool.get_connection()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._connection.disconnect()  # replies that nobody read must not meet the next command
        self._pool.release(self._connection)

    def send(self, block: Bytes) -> None:
        with answering():
            self._connection._sock.sendall(block.data.cast("B"))

    def receive(self) -> bytes:
        with answering():
            data: bytes = self._connection._sock.recv(_CHUNK)
            if not data:
                raise ConnectionResetError("the server closed the connection")
            return data


def replies_in(data: bytes) -> int:
    """How many replies these whole lines are."""
    return data.count(b"\n")


def ask_integers(
    client: Any, batches: Iterable[Bytes], tally: Callable[[bytes], int] = replies_in, window: int = 2
) -> int:
    """Send batches of commands that answer `:k`, up to `window` of them ahead of their replies.

    tally: of a piece of the replies, whole lines such as `:2`, the number to add up.
    """
    total, ahead, rest = 0, [0], b""

    def drain(until: int) -> None:
        nonlocal total, rest
        while len(ahead) - 1 > until:
            rest += channel.receive()
            whole, rest = rest[: (end := rest.rfind(b"\n") + 1)], rest[end:]
            if b"-" in whole:
                raise refused(next(line for line in whole.splitlines() if line.startswith(b"-")))
            total += tally(whole)
            ahead[0] += whole.count(b"\n")
            while len(ahead) > 1 and ahead[0] >= ahead[1]:
                ahead[0] -= ahead.pop(1)

    with Channel(client) as channel:
        for block in batches:
            channel.send(block)
            ahead.append(len(block))
            drain(window)
        drain(0)
    return total


class Values:
    """The replies to `count` commands that each answer a value of `size` bytes, or none."""

    def __init__(self, count: int, size: int) -> None:
        self._head = b"$%d\r\n" % size
        self._width = len(self._head) + size + 2
        self._count, self._size = count, size
        self._found: list[bool] = []
        self.reset()

    def reset(self) -> None:
        """Forget what arrived."""
        self._data, self._at, self._found = bytearray(), 0, []

    def feed(self, data: bytes) -> bool:
        """Take what arrived; True when every reply is here. ValueError where a value has another size."""
        self._data += data
        if not self._data.endswith(b"\r\n"):
            return False  # the last reply is not whole
        return self._rectangle() or self._walk()

    def _rectangle(self) -> bool:
        if self._found or len(self._data) != self._count * self._width:
            return False
        block = np.frombuffer(self._data, np.uint8).reshape(self._count, self._width)
        if not (block[:, : len(self._head)] == np.frombuffer(self._head, np.uint8)).all():
            return False
        self._found = [True] * self._count
        return True

    def _walk(self) -> bool:
        data, head, width = self._data, self._head, self._width
        while len(self._found) < self._count:
            if data.startswith(head, self._at) and len(data) >= self._at + width:
                self._found.append(True)
                self._at += width
            elif data.startswith(_MISSING, self._at):
                self._found.append(False)
                self._at += len(_MISSING)
            else:
                self._check()
                return False
        return True

    def _check(self) -> None:
        """The next reply is not whole yet, or it is none that fits."""
        end = self._data.find(b"\r\n", self._at)
        line = bytes(self._data[self._at : end]) if end >= 0 else self._head[:-2]
        if line.startswith(b"-"):
            raise refused(line)
        if line != self._head[:-2]:
            raise ValueError(f"a value of {line.lstrip(b'$').decode(errors='replace')} bytes instead of {self._size}")

    def result(self) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """The values found, uint8 [k, size], and found bool [count]."""
        found = np.array(self._found, dtype=np.bool_)
        data = np.frombuffer(self._data, np.uint8)
        if found.all():
            block = data.reshape(self._count, self._width)
        else:
            widths = np.where(found, self._width, len(_MISSING))
            starts = (np.cumsum(widths) - widths)[found]
            block = data[starts[:, None] + np.arange(self._width)]
        return block[:, len(self._head) : len(self._head) + self._size], found


def ask_values(client: Any, block: Bytes, replies: Values) -> None:
    """Send the commands in `block` and wait for `replies`; once more over a new connection where the old one is dead.

    Raises:
        PublishError: F050 no answer, F051 refused. ValueError: a value of another size.
    """
    if not len(block):
        return
    try:
        _ask_values(client, block, replies)
    except PublishError as error:
        if error.code != "F050":
            raise
        replies.reset()
        _ask_values(client, block, replies)


def _ask_values(client: Any, block: Bytes, replies: Values) -> None:
    with Channel(client) as channel:
        channel.send(block)
        while not replies.feed(channel.receive()):
            pass


async def ask_values_async(client: Any, block: Bytes, replies: Values) -> None:
    """Twin of `ask_values` for a client of `redis.asyncio`."""
    if not len(block):
        return
    try:
        await _ask_values_async(client, block, replies)
    except PublishError as error:
        if error.code != "F050":
            raise
        replies.reset()
        await _ask_values_async(client, block, replies)


async def _ask_values_async(client: Any, block: Bytes, replies: Values) -> None:
    pool = client.connection_pool
    with answering():
        connection = await pool.get_connection()
    whole = False
    try:
        with answering():
            connection._writer.write(block.data.cast("B"))
            await connection._writer.drain()
            while not whole:
                data = await asyncio.wait_for(connection._reader.read(_CHUNK), connection.socket_timeout)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                whole = replies.feed(data)
    finally:  # a cancelled read too: replies that nobody read must not meet the next command
        if not whole:
            await connection.disconnect()
        await pool.release(connection)


@contextmanager
def answering() -> Iterator[None]:
    """Turns what redis-py and the socket raise into PublishError F050."""
    try:
        yield
    except (OSError, RedisError) as error:
        raise PublishError(
            "F050",
            f"the online store does not answer: {error or type(error).__name__}",
            hint="see that the server runs, then `star-platform release --resume`; what it took is not sent again",
        ) from error


def refused(line: bytes) -> PublishError:
    """What is raised where the server answers an error."""
    return PublishError(
        "F051",
        f"the online store refused a command: {line.lstrip(b'-').decode(errors='replace')}",
        hint="make room in it or correct its settings, then `star-platform release --resume`",
    )
