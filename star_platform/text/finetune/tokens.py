"""The token rows of a tower on disk, mapped into memory: each text that an example needs, tokenised once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from star_platform.progress import Task
from star_platform.text.finetune.actions import Int64Array
from star_platform.text.finetune.versions import NONE, TextVersions
from star_platform.text.normalise import normalise
from star_platform.text.tokenising import Tokenise


@dataclass(frozen=True)
class TokenTable:
    """Tokens of text `slot` are `ids[offsets[slot]:offsets[slot + 1]]`."""

    rows: Int64Array
    """Rows of the texts in `TextVersions`, ascending."""
    ids: npt.NDArray[np.int32]
    offsets: Int64Array

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Int64Array:
        return np.diff(self.offsets)

    def slots(self, rows: Int64Array) -> Int64Array:
        """int64 `[n]`: where each row's tokens are; `NONE` for a missing text."""
        return np.where(rows == NONE, NONE, np.searchsorted(self.rows, rows))

    def __getitem__(self, slot: int) -> npt.NDArray[np.int32]:
        return self.ids[self.offsets[slot] : self.offsets[slot + 1]]


def write_tokens(folder: Path, texts: TextVersions, rows: Int64Array, tokenise: Tokenise, task: Task) -> TokenTable:
    """Tokens of the distinct `rows`, in `folder`; what a killed run finished there is found again."""
    wanted = np.unique(rows[rows != NONE])
    done = folder / "offsets.npy"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        lengths = [np.zeros(1, np.int64)]
        with (folder / "ids.bin").open("wb") as file:
            for chunk in texts.read(wanted):
                ids, offsets = tokenise([normalise(text) for text in chunk])
                file.write(ids.astype("<i4").tobytes())
                lengths.append(np.diff(offsets))
                task.advance(len(chunk))
        draft = folder / "draft.npy"
        np.save(draft, np.cumsum(np.concatenate(lengths)))
        draft.replace(done)
    offsets = np.load(done, mmap_mode="r")
    ids = np.memmap(folder / "ids.bin", "<i4", "r") if int(offsets[-1]) else np.zeros(0, np.int32)
    return TokenTable(wanted, ids, offsets)
