"""One process of a bulk publish: `python -m star_platform.publishing.bulk_worker`, driven by `bulk`.

The first line of its input is the job, every other the Parquet file of a shard; it answers each with one line when the
store has acknowledged all of its rows. It ends with its input, hence with the process that started it.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import redis

from star_platform.errors import PublishError
from star_platform.publishing.layout import Layout
from star_platform.publishing.model import FIELD, join_key
from star_platform.publishing.offline import as_matrix
from star_platform.publishing.redis_records import Records
from star_platform.publishing.resp import Bytes, ask_integers

_GROUP_ROWS = 16_384


def pack(records: Records, stamp: bytes, connection: dict[str, Any]) -> dict[str, Any]:
    """The job as JSON data: `records` with their event time, and the arguments of `redis.Redis`."""
    raw = {"time_field": records.time_field, "value_field": records.value_field, "stamp": stamp}
    layout = dict(vars(records.layout))
    raw |= {name: layout.pop(name) for name in ("key_prefix", "value_prefix")}
    return {
        "connection": connection,
        "layout": layout,
        "raw": {name: base64.b64encode(value).decode() for name, value in raw.items()},
    }


def unpack(job: dict[str, Any]) -> tuple[Records, bytes, dict[str, Any]]:
    """What `pack` took."""
    raw = {name: base64.b64decode(value) for name, value in job["raw"].items()}
    layout = Layout(**job["layout"], key_prefix=raw["key_prefix"], value_prefix=raw["value_prefix"])
    return Records(layout, raw["time_field"], raw["value_field"]), raw["stamp"], job["connection"]


def blocks(records: Records, stamp: bytes, path: Path) -> Iterator[Bytes]:
    """The commands of one shard, streamed out of its Parquet file."""
    node, dim = records.layout.node, records.layout.dim
    for batch in pq.ParquetFile(path).iter_batches(_GROUP_ROWS):
        yield from records.hset(batch.column(join_key(node)), as_matrix(batch.column(FIELD), dim), stamp)


def main() -> None:
    """Serve the process at the other end of the pipes until it closes them."""
    records, stamp, connection = unpack(json.loads(sys.stdin.readline()))
    client = redis.Redis(**connection)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"rows": ask_integers(client, blocks(records, stamp, Path(json.loads(line))))}
        except PublishError as error:
            answer = {"error": [error.code, error.message, error.hint]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
