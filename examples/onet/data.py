"""O*NET as a task: an alternate title, and the occupation that it names. Whole occupations are held out for the test.

O*NET is by the U.S. Department of Labor, CC BY 4.0.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from star_platform.text.finetune.actions import UNDATED, Actions
from star_platform.text.finetune.data import Source
from star_platform.text.finetune.versions import open_versions

SPLIT_SEED = 20250710
"""Which occupations are the test does not change with the seed of a run."""


@dataclass(frozen=True)
class Size:
    """How much of O*NET is used."""

    occupations: int = 1016
    held_out: int = 200
    titles: int = 4
    """Of an occupation at most, for training; the test takes `test_titles`."""
    test_titles: int = 5


@dataclass(frozen=True)
class Task:
    """Texts of occupations and titles, and which title names which occupation."""

    occupations: list[str]
    titles: list[str]
    of: np.ndarray[tuple[int], np.dtype[np.int64]]
    """The occupation of each title."""
    test: np.ndarray[tuple[int], np.dtype[np.bool_]]
    """Which titles are of held-out occupations."""


def load(folder: Path, size: Size) -> Task:
    """Titles that name one occupation only, drawn with a fixed seed."""
    rows = _read(folder / "Occupation Data.txt")
    rng = np.random.default_rng(SPLIT_SEED)
    order = rng.permutation(len(rows))[: size.occupations]
    code = {rows[i][0]: place for place, i in enumerate(order.tolist())}
    occupations = [f"{rows[i][1]}. {rows[i][2]}" for i in order.tolist()]
    alternate = _read(folder / "Alternate Titles.txt")
    named = Counter(row[1].lower() for row in alternate)
    found: dict[int, list[str]] = {}
    for row in alternate:
        if row[0] in code and named[row[1].lower()] == 1:
            found.setdefault(code[row[0]], []).append(row[1])
    titles: list[str] = []
    of: list[int] = []
    for place in sorted(found):
        count = size.test_titles if place < size.held_out else size.titles
        chosen = rng.permutation(len(found[place]))[:count]
        titles += [found[place][i] for i in chosen.tolist()]
        of += [place] * len(chosen)
    where = np.asarray(of, dtype=np.int64)
    return Task(occupations, titles, where, where < size.held_out)


def source(task: Task, folder: Path) -> Source:
    """What fine-tuning sees: nothing of the held-out occupations, neither their texts nor their titles."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = np.flatnonzero(~task.test)
    allowed = set(task.of[seen].tolist())
    shown = [text if place in allowed else "" for place, text in enumerate(task.occupations)]
    _write(folder / "occupations.parquet", shown)
    _write(
        folder / "titles.parquet", ["" if test else title for title, test in zip(task.titles, task.test, strict=True)]
    )
    actions = Actions(seen, task.of[seen], np.full(len(seen), UNDATED), np.ones(len(seen), np.bool_))
    texts = {
        "document": open_versions(folder / "occupations.parquet"),
        "profile": open_versions(folder / "titles.parquet"),
    }
    return Source(actions, texts)


def _write(path: Path, texts: list[str]) -> None:
    columns = {"node": pa.array(range(len(texts)), pa.int32()), "valid_from": pa.nulls(len(texts), pa.int64())}
    pq.write_table(pa.table({**columns, "text": pa.array(texts, pa.string())}), path)


def _read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
