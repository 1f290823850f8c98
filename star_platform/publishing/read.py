"""Reads published vectors through a stock Feast client, online and point in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from star_platform.publishing.model import PublishedRelease

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Fetched:
    """Vectors as asked for, in the order asked for, with where they come from.

    vectors: float32 [n, dim], zeros where not found. found: bool [n].
    """

    node: str
    release: int
    space: str
    ids: tuple[int | str, ...]
    vectors: npt.NDArray[np.float32]
    found: npt.NDArray[np.bool_]

    def table(self) -> pa.Table:
        """Columns id, found, embedding (null where not found)."""
        raise NotImplementedError


class Reader:
    """One long-lived client of a feature repository; `open_store` is paid once."""

    def __init__(self, feature_repo: Path) -> None:
        self.feature_repo = feature_repo.resolve()

    def fetch(self, release: PublishedRelease, node: str, ids: Sequence[int | str]) -> Fetched:
        """Online vectors of `ids`. Raises PublishError F030 (the release lacks the node type), F031 (wrong id type)."""
        raise NotImplementedError

    def historical(self, release: PublishedRelease, node: str, entity_df: pd.DataFrame) -> pd.DataFrame:
        """`entity_df` (columns `<node>`, `event_timestamp`, any others) with the column `embedding` added.

        Point in time: a row older than the release's `as_of` gets null. As many rows as came in, in their order.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Let go of connections."""

    def _unused(self) -> Any:
        return None
