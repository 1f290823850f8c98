"""Redis commands for many rows as one buffer, and their replies without a Python object for each.

All commands of a batch have one length, so a batch is a rectangle of bytes: constant columns, the key, the vector.
The socket is that of redis-py, which keeps doing what it does well: addresses, TLS, passwords, pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from redis.exceptions import RedisError

from star_platform.errors import PublishError

Bytes = npt.NDArray[np.uint8]
CHUNK = 1 << 20


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
            data: bytes = self._connection._sock.recv(CHUNK)
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
