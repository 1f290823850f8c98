"""Settings of `star-platform text serve`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from star_platform.errors import UsageError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class ServeConfig(BaseModel):
    """How one worker reads its stream. Times are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream: Annotated[str, Field(min_length=1)] = "text-events"
    group: Annotated[str, Field(min_length=1)] = "star-text"
    worker: Annotated[str, Field(min_length=1)]
    """One per process; a restart under the same name takes up at once what it had in hand."""
    latency_target: Annotated[float, Field(gt=0.0)] = 2.0
    """From the arrival of an event to its vector being served; batches are sized for it."""
    max_batch: Annotated[int, Field(ge=1, le=10_000)] = 256
    max_bytes: Annotated[int, Field(ge=256)] = 1 << 18
    """Of one event; a larger one is a dead letter."""
    max_deliveries: Annotated[int, Field(ge=1)] = 5
    """A message handed out more often than this has taken workers down with it: a dead letter."""
    claim_after: Annotated[float, Field(gt=0.0)] = 30.0
    """Silence after which a worker counts as dead. Must be longer than a batch takes."""
    retention: Annotated[float, Field(ge=0.0)] = 86_400.0
    """How long done events stay in the stream."""
    dead_letters: Annotated[int, Field(ge=1)] = 100_000
    """About how many the dead-letter stream keeps."""
    max_ahead: Annotated[float, Field(ge=0.0)] = 86_400.0
    """An event from further in the future is a dead letter: nothing real would ever be newer."""
    patience: Annotated[float, Field(gt=0.0)] = 120.0
    """How long a stream or store may be down before the worker gives up; a restart goes on where it was."""
    entities: Literal["any", "released"] = "any"
    """`released`: an id that the active release does not know is a dead letter."""


def serve_config(**settings: Any) -> ServeConfig:
    """The settings of the command line; raises UsageError T055 for a value that cannot be."""
    try:
        return ServeConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UsageError("T055", f"--{option}: {first['msg']}", hint="star-platform text serve --help") from error


def seconds(text: str) -> float:
    """`2s`, `500ms`, `1.5m`, `1d` in seconds; raises UsageError T055 for anything else."""
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise UsageError("T055", f"{text!r} is not a span of time", hint="write 2s, 500ms, 5m, 1h or 1d")
    return float(found[1]) * _SECONDS[found[2]]
