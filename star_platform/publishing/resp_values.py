"""Redis replies that carry values of one known size: taken as a rectangle of bytes, found or absent row by row."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.errors import PublishError
from star_platform.publishing.resp import CHUNK, Bytes, Channel, answering, refused

_MISSING = b"$-1\r\n"


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
                data = await asyncio.wait_for(connection._reader.read(CHUNK), connection.socket_timeout)
                if not data:
                    raise ConnectionResetError("the server closed the connection")
                whole = replies.feed(data)
    finally:  # a cancelled read too: replies that nobody read must not meet the next command
        if not whole:
            await connection.disconnect()
        await pool.release(connection)
