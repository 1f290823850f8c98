"""Table 2 of STAR (arXiv 2507.09797) on O*NET: frozen, + cross-entropy, + contrastive term, + larger batch.

Resumes: a finished run is read from its file, an interrupted one goes on from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))

from data import Size, Task, load, source
from table import table

from star_platform.cli.console import open_progress
from star_platform.progress import Progress
from star_platform.text.config import TextConfig
from star_platform.text.encoder import TextEncoder, encode, open_encoder
from star_platform.text.finetune.adapters import load_head, verify
from star_platform.text.finetune.baseline import train_baseline
from star_platform.text.finetune.config import FineTuneConfig
from star_platform.text.finetune.data import prepare
from star_platform.text.finetune.finetune import base_transformer, finetune
from star_platform.text.finetune.heads import Head, Vectors
from star_platform.text.finetune.lora import TunedEncoder

HERE = Path(__file__).parent
TEXT = TextConfig(encoder="minilm", device="cpu", max_tokens=24)
COMMON: dict[str, Any] = {
    "document": {"feature": "occupation.text", "max_tokens": 24},
    "profile": {"feature": "title.text", "max_tokens": 16},
    "positives": "names",
    "negatives": {"uniform": 16},
    "split": {"by": "document", "validation_share": 0.1, "max_rows": 2000},
    "lora": {"r": 8, "alpha": 16, "dropout": 0, "targets": ["query", "value"]},
    "epochs": 1,
    "validations": 2,
}
SMALL: dict[str, Any] = {"batch": {"mode": "plain", "size": 32, "micro": 32}, "lr": 1e-3}
LARGE: dict[str, Any] = {
    "batch": {"mode": "cached", "size": 256, "micro": 64},
    "lr": 4e-3,  # an eighth of the steps: larger rates, chosen on the validation rows of seed 0
    "head": {"lr": 4e-3},
}
ROWS: dict[str, dict[str, Any] | None] = {
    "frozen + linear": None,
    "+ cross-entropy": SMALL | {"loss": {"weights": {"bce": 1, "profile": 0, "resume": 0}}},
    "+ contrastive": SMALL,
    "+ larger batch": LARGE,
}
QUICK = Size(occupations=60, held_out=20, titles=4, test_titles=4)
CANDIDATES = 16
"""Occupations that each test title did not name, beside the one that it did: the natural 1:16."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="60 occupations, one short epoch: a try, no result")
    parser.add_argument("--folder", type=Path, default=HERE / ".star", help="where runs are kept")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = Path(os.environ.get("STAR_DATA", HERE.parents[1] / ".." / "shared" / "data")) / "onet"
    task = load(data, QUICK if options.quick else Size())
    folder = options.folder / ("quick" if options.quick else "full")
    progress = open_progress()
    for seed in range(options.seeds):
        for row in ROWS:
            run(task, row, seed, folder, progress, quick=options.quick)
    found = table(folder, list(ROWS), options.seeds)
    sys.stdout.write(json.dumps(found, indent=1) + "\n" if options.json else found["text"])


def run(task: Task, row: str, seed: int, folder: Path, progress: Progress, *, quick: bool = False) -> None:
    """One row of one seed, unless its file is there."""
    name = f"{list(ROWS).index(row)}-{seed}"
    target = folder / f"{name}.npz"
    if target.exists():
        return
    progress.line(f"{row}, seed {seed}")
    began = time.process_time()
    config = configured(row, seed, quick=quick)
    work = folder / f"work-{name}"
    given = source(task, work / "texts")
    transformer = base_transformer(TEXT, HERE)
    if ROWS[row] is None:
        data = prepare(given, config, transformer, work / "tokens", progress)
        head = train_baseline(TunedEncoder.of(transformer, config), data, config, progress).head
        encoder = open_encoder(TEXT, HERE)
    else:
        done = finetune(given, config, transformer, work / "run", folder / "adapters", progress=progress)
        verify(done.folder, TEXT, HERE)
        head = load_head(done.folder)
        encoder = open_encoder(TEXT.model_copy(update={"adapter": str(done.folder.resolve())}), HERE)
    shutil.rmtree(work)
    draft = folder / f"{name}.draft.npz"
    seconds = time.process_time() - began
    np.savez(draft, **measured(task, encoder, head), cpu_seconds=seconds)  # type: ignore[arg-type]
    draft.replace(target)


def configured(row: str, seed: int, *, quick: bool) -> FineTuneConfig:
    given = COMMON | (ROWS[row] or {}) | {"seed": seed}
    if quick:
        given |= {"batch": {**given.get("batch", {}), "size": 32, "micro": 16}}
    return FineTuneConfig.model_validate(given)


def measured(task: Task, encoder: TextEncoder, head: Head) -> dict[str, Any]:
    """What the table is made from.

    `occupation [t]` of each test title; `logit [t, 1 + 16]` and `dot [t, 1 + 16]`, the named occupation first, then 16
    held-out others at random; `rank [t]` of the named occupation among all, by dot product, from 0.
    """
    held = np.flatnonzero(task.test)
    of = task.of[held]
    documents = torch.from_numpy(encode(encoder, task.occupations))
    titles = torch.from_numpy(encode(encoder, [task.titles[i] for i in held.tolist()]))
    others = int(of.max()) + 1
    rng = np.random.default_rng(7)  # the same candidates for every row and seed
    drawn = (of[:, None] + 1 + np.stack([rng.permutation(others - 1)[:CANDIDATES] for _ in of])) % others
    shown = np.concatenate([of[:, None], drawn], axis=1)
    candidates = documents[torch.from_numpy(shown)]
    dots = torch.einsum("td,tcd->tc", titles, candidates)
    all_dots = titles @ documents.T
    own = all_dots.gather(1, torch.from_numpy(of)[:, None])
    with torch.no_grad():
        logits = head(_pairs(candidates, titles)).view(shown.shape)
    rank = (all_dots > own).sum(1)
    return {"occupation": of, "logit": logits.numpy(), "dot": dots.numpy(), "rank": rank.numpy()}


def _pairs(candidates: torch.Tensor, titles: torch.Tensor) -> Vectors:
    """Every title with each of its candidates."""
    count, each, dim = candidates.shape
    requests = titles[:, None].expand(count, each, dim).reshape(-1, dim)
    yes = torch.ones(count * each, dtype=torch.bool)
    return Vectors(candidates.reshape(-1, dim), requests, None, yes, ~yes)


if __name__ == "__main__":
    main()
