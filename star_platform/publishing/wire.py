"""Feast's record format, as far as we rely on it; checked before every publish, because Feast does not promise it.

A fixed-length `Value{float_list_val}` is a constant prefix, which depends on the length, and the little-endian floats.
Parsing those bytes is several times faster than handing Feast one Python float after another.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.errors import PublishError

VERSIONS = ((0, 67, 0), (0, 68))
"""Feast from the first version (included) to the second (excluded); 0.66 loses the pins of feature services."""


def check_feast() -> None:
    """Raises PublishError F001 when the installed Feast is not one that the record format was tested with."""
    import feast

    version = tuple(int(part) for part in feast.__version__.split(".")[:3] if part.isdigit())
    if not VERSIONS[0] <= version < VERSIONS[1]:
        raise PublishError(
            "F001",
            f"Feast {feast.__version__} is installed; this platform writes for 0.67",
            hint='pip install "feast>=0.67.0,<0.68"',
        )


@cache
def value_prefix(dim: int) -> bytes:
    """The bytes before the floats of a `Value` of `dim` floats; raises PublishError F002 when the layout is another."""
    from feast.protos.feast.types.Value_pb2 import Value

    zeros = np.zeros(dim, "<f4")
    whole: bytes = Value(float_list_val={"val": zeros}).SerializeToString()
    prefix = whole[: len(whole) - zeros.nbytes]
    probe = np.random.default_rng(dim).standard_normal(dim).astype("<f4")
    if Value(float_list_val={"val": probe}).SerializeToString() != prefix + probe.tobytes():
        raise PublishError(
            "F002",
            f"Feast writes a list of {dim} floats in a layout that this platform does not know",
            hint="pin Feast to a version that CHANGELOG.md names as tested",
        )
    return prefix


def values(vectors: npt.NDArray[np.float32]) -> list[Any]:
    """One Feast `Value` per row of float32 [n, dim]."""
    from feast.protos.feast.types.Value_pb2 import Value

    prefix, width = value_prefix(vectors.shape[1]), 4 * vectors.shape[1]
    raw = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    return [Value.FromString(prefix + raw[at : at + width]) for at in range(0, len(raw), width)]


def entity_keys(join_key: str, ids: list[int] | list[str]) -> list[Any]:
    """One Feast `EntityKey` per id; an int becomes Int64, a string String. The type changes the bytes of the key."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    field = "int64_val" if ids and isinstance(ids[0], int) else "string_val"
    return [EntityKey(join_keys=[join_key], entity_values=[Value(**{field: key})]) for key in ids]
