"""Section `lifecycle:` of star.yaml. Imports nothing heavy: `validate` reads it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class LifecycleConfig(BaseModel):
    """When a reader counts as gone, and how long a release is announced before it goes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quiet_days: Annotated[int, Field(ge=0)] = 14
    """A reader that did not declare itself is gone after this many days without a read."""
    notice_days: Annotated[int, Field(ge=0)] = 90
    """Days from a deprecation to its date, where none is given."""
    keep_previous: Annotated[int, Field(ge=0)] = 0
    """How many releases before the active one stay as they are, so that `activate` can go back to them."""
    settle_seconds: Annotated[float, Field(ge=0.0)] = 30.0
    """A purge waits so long after the retirement, for running clients follow it within their `staleness_seconds` (10)
    and would find nothing where they read before."""
