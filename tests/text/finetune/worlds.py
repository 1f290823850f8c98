"""Small sources of examples, and vectors by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from star_platform.text.finetune.actions import UNDATED, Actions
from star_platform.text.finetune.config import FineTuneConfig
from star_platform.text.finetune.data import Source
from star_platform.text.finetune.heads import Vectors
from star_platform.text.finetune.losses import Facts
from star_platform.text.finetune.versions import TextVersions, open_versions

KINDS = ("engineer", "nurse", "teacher", "sales")


def config(**given: Any) -> FineTuneConfig:
    start = {
        "document": {"feature": "job.text", "prompt": "passage: "},
        "profile": {"feature": "member.text", "prompt": "query: "},
        "positives": "applies",
        "negatives": {"uniform": 3},
        "split": {"validation_share": 0.2},
        "batch": {"mode": "cached", "size": 32, "micro": 12},
        "head": {"hidden": 0, "lr": 0.03},
        "precision": "float32",
        "lr": 0.01,
        "loss": {"temperature": 0.1},
        "warm_up": 2,
    }
    return FineTuneConfig.model_validate(start | given)


def texts(path: Path, rows: Sequence[tuple[int, int | None, str]]) -> TextVersions:
    """`texts.parquet` as the graph writes it: (node, valid_from, text)."""
    node, valid, text = zip(*rows, strict=True)
    columns = {"node": pa.array(node, pa.int32()), "valid_from": pa.array(valid, pa.int64()), "text": pa.array(text)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return open_versions(path)


def actions(rows: Sequence[tuple[int, int, int | None, bool]]) -> Actions:
    """(member, document, time, label)."""
    member, document, time, label = zip(*rows, strict=True)
    times = [UNDATED if each is None else each for each in time]
    return Actions(*(np.asarray(each, np.int64) for each in (member, document, times)), np.asarray(label, np.bool_))


def planted(folder: Path, *, resumes: bool = False, members: int = 30, jobs: int = 30, seed: int = 0) -> Source:
    """Members act on jobs of their own kind, which both texts name among words without meaning."""
    rng = np.random.default_rng(seed)
    noise = ("we", "hire", "a", "senior", "for", "our", "team", "in", "the", "city", "remote", "work")

    def said(kind: int) -> str:
        words = [*rng.choice(noise, 4), KINDS[kind]]
        return " ".join(words[i] for i in rng.permutation(5))

    of_job, of_member = rng.integers(0, 4, jobs), rng.integers(0, 4, members)
    towers = {
        "document": texts(folder / "jobs.parquet", [(i, None, said(kind)) for i, kind in enumerate(of_job)]),
        "profile": texts(folder / "members.parquet", [(i, None, said(kind)) for i, kind in enumerate(of_member)]),
    }
    if resumes:  # every third member has none
        rows = [(i, None, said(kind) if i % 3 else "") for i, kind in enumerate(of_member)]
        towers["resume"] = texts(folder / "resumes.parquet", rows)
    pairs = [(m, j, None, True) for m in range(members) for j in range(jobs) if of_job[j] == of_member[m]]
    return Source(actions(pairs), towers)


def vectors(documents: Any, profile: Any = None, resume: Any = None, **has_: Sequence[bool]) -> Vectors:
    """float64, with a gradient; `has_profile` and `has_resume` say where one is."""

    def given(values: Any) -> Any:
        return None if values is None else torch.tensor(values, dtype=torch.float64, requires_grad=True)

    size = len(documents)

    def has(name: str, values: Any) -> torch.Tensor:
        return torch.tensor(has_.get(f"has_{name}", [values is not None] * size))

    return Vectors(given(documents), given(profile), given(resume), has("profile", profile), has("resume", resume))


def facts(
    labels: Sequence[float], members: Sequence[int] | None = None, documents: Sequence[int] | None = None
) -> Facts:
    size = range(len(labels))
    return Facts(
        torch.tensor(labels, dtype=torch.float64),
        torch.tensor(list(members or size)),
        torch.tensor(list(documents or size)),
    )


def grads(parameters: Mapping[str, torch.nn.Parameter]) -> torch.Tensor:
    return torch.cat([value.grad.reshape(-1) for value in parameters.values() if value.grad is not None])
