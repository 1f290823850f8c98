"""LTGNN on Gowalla, the public benchmark of LightGCN: tuned on validation pairs, tested once.

    python examples/gowalla/run.py tune      # every setting of the grid, judged on `valid` and on `later`
    python examples/gowalla/run.py test      # the chosen setting on the whole training set, three seeds, judged on test

Both resume: an interrupted run goes on from its last checkpoint, a finished one is read from its file. `test` never
chooses anything: its settings are `CHOSEN` below, the number of epochs included.

The lists of a user are in the order of time. `valid.txt` is a uniform draw of what is not in `test.txt`, which itself
holds the last pairs of every user and more popular places. So `tune` cuts the last pairs of `train_minus_valid.txt` off
as well, `later`, and judges on both; `later` decides. `test.txt` is not looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from star_platform.cli.console import open_progress
from star_platform.gnn.ltgnn.interactions import Interactions, read_pairs
from star_platform.gnn.ltgnn.recommender import Recommender, RecommenderConfig
from star_platform.progress import Progress

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("STAR_DATA", HERE.parents[2] / "shared" / "data")) / "gowalla"
USERS, ITEMS = 29_858, 40_981
PUBLISHED = {"recall": 0.1824, "ndcg": 0.1547}
"""3-layer LightGCN (He et al. 2020)."""

CHOSEN = RecommenderConfig(
    loss="softmax",
    among_all=True,
    cosine=False,
    temperature=1.0,
    negatives=512,
    neighbours=8,
    alpha=0.45,
    own_share=0.0,
    steps_out=1,
    l2=0.07,
    precision="bf16",
    lr=1e-2,
    decay_from=0.4,
    epochs=14,
)
WALK: dict[str, Any] = {"neighbours": 15, "negatives": 1024}
"""What all else was tuned with; by itself it is among the last rows of the grid."""
COSINE = {"among_all": False, "cosine": True, "cosine_out": True, "temperature": 0.1, "l2": 0.0}
GRID: dict[str, dict[str, Any]] = {
    "l2 0.05, 8 epochs": {**WALK, "l2": 0.05, "epochs": 8},
    "not among all, l2 0.05": {**WALK, "among_all": False, "l2": 0.05},
    "not among all, l2 0.08, 8 epochs": {**WALK, "among_all": False, "l2": 0.08, "epochs": 8},
    "not among all, l2 0.02, 8 epochs": {**WALK, "among_all": False, "l2": 0.02, "epochs": 8},
    "not among all, l2 0.0002, 8 epochs": {**WALK, "among_all": False, "l2": 2e-4, "epochs": 8},
    "cosine, 12 epochs": {**WALK, **COSINE, "epochs": 12},
    **{
        f"{neighbours} neighbours, {negatives} negatives, seed {seed}": {
            "neighbours": neighbours,
            "negatives": negatives,
            "seed": seed,
        }
        for neighbours in (15, 10, 8, 6)
        for negatives in (1024, 768, 512)
        for seed in (0, 1)
    },
}
"""What differs from `CHOSEN`, by name."""
LATER = 0.13
"""Share of a user's pairs, the last ones, that is cut off to tune on; at least one."""
READ_OUT = (1, 2, 3)
"""Steps of the read-out that are compared for each of them: they need no training of their own."""


def load(name: str, data: Path, users: int) -> Interactions:
    """Pairs of the first `users` users in one of the files."""
    pairs = Interactions.of(*read_pairs(data / f"{name}.txt"), num_users=USERS, num_items=ITEMS)
    return pairs if users >= USERS else pairs.first_users(users)


def earlier_and_later(data: Path, users: int) -> tuple[Interactions, Interactions]:
    """`train_minus_valid` without the last pairs of every user, and those."""
    user, item = read_pairs(data / "train_minus_valid.txt")
    counts = np.bincount(user, minlength=USERS)
    left = np.cumsum(counts)[user] - np.arange(len(user))  # 1 at the last pair; the file is by user
    last = left <= np.maximum(1, np.round(LATER * counts))[user]
    parts = [Interactions.of(user[rows], item[rows], USERS, ITEMS) for rows in (~last, last)]
    early, late = parts if users >= USERS else (part.first_users(users) for part in parts)
    return early, late


def measured(
    name: str,
    config: RecommenderConfig,
    train: Interactions,
    wanted: Mapping[str, Interactions],
    folder: Path,
    progress: Progress,
    read_out: Sequence[int],
) -> dict[str, Any]:
    """The result of one run, from its file where it is finished; of several read-outs the best by the last part."""
    work = folder / name.replace(",", "").replace(" ", "-")
    result = work / "result.json"
    settings = dataclasses.asdict(config)
    if result.exists():
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if found["settings"] != settings or found["pairs"] != len(train):
            raise SystemExit(f"{result} belongs to other settings or other pairs: remove {work}")
        return found
    start = time.perf_counter()
    progress.line(f"{name}: {len(train):,} pairs, {config.epochs} epochs")
    run = Recommender(train, config).run(work, progress)
    seconds = time.perf_counter() - start
    scores = {
        steps: {part: dataclasses.asdict(run.judged(pairs, steps=steps)) for part, pairs in wanted.items()}
        for steps in read_out
    }
    decides = list(wanted)[-1]
    best = max(scores, key=lambda steps: scores[steps][decides]["ndcg"])
    found = {
        "name": name,
        "parts": scores[best],
        "steps_out": best,
        "by_steps_out": {str(steps): score for steps, score in scores.items()},
        "seconds": round(seconds, 1),
        "pairs": len(train),
        "settings": settings,
    }
    result.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (work / "checkpoint.safetensors").unlink()
    return found


def tune(arguments: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Every setting of the grid on the pairs to tune on."""
    train, later = earlier_and_later(arguments.data, arguments.users)
    wanted = {"valid": load("valid", arguments.data, arguments.users), "later": later}
    return [
        measured(name, adjusted(arguments, **changes), train, wanted, arguments.folder / "tune", progress, READ_OUT)
        for name, changes in GRID.items()
    ]


def test(arguments: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """The chosen setting on the whole training set, once per seed."""
    parts = {name: load(name, arguments.data, arguments.users) for name in ("train_minus_valid", "valid", "test")}
    train = parts["train_minus_valid"].joined(parts["valid"])
    return [
        measured(
            f"seed {seed}",
            adjusted(arguments, seed=seed),
            train,
            {"test": parts["test"]},
            arguments.folder / "test",
            progress,
            [CHOSEN.steps_out],
        )
        for seed in arguments.seeds
    ]


def adjusted(arguments: argparse.Namespace, **changes: Any) -> RecommenderConfig:
    """The chosen settings with some changed, and with what the command line says."""
    if arguments.epochs:
        changes["epochs"] = arguments.epochs
    return dataclasses.replace(CHOSEN, threads=arguments.threads, **changes)


def table(results: list[dict[str, Any]], against_published: bool) -> str:
    """Markdown."""
    parts = list(results[0]["parts"])
    heads = " | ".join(f"{part}: Recall@20 | NDCG@20" for part in parts)
    lines = [f"| | steps out | {heads} |", "|---" * (2 + 2 * len(parts)) + "|"]
    for result in results:
        cells = " | ".join(f"{result['parts'][part][key]:.4f}" for part in parts for key in PUBLISHED)
        lines.append(f"| {result['name']} | {result['steps_out']} | {cells} |")
    if against_published:
        means = {key: float(np.mean([r["parts"]["test"][key] for r in results])) for key in PUBLISHED}
        lines.append(f"| **mean** | | **{means['recall']:.4f}** | **{means['ndcg']:.4f}** |")
        lines.append(f"| LightGCN, 3 layers, published | | {PUBLISHED['recall']} | {PUBLISHED['ndcg']} |")
    return "\n".join(lines)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "test"])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the three files")
    parser.add_argument("--folder", type=Path, default=HERE / ".star", help="where checkpoints and results are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--users", type=int, default=USERS, help="only the first so many users: for a quick look")
    parser.add_argument("--epochs", type=int, default=0, help="instead of the chosen number: for a quick look")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(given)
    if not arguments.data.is_dir():
        raise SystemExit(f"Gowalla is not in {arguments.data}: set STAR_DATA, or --data")
    results = {"tune": tune, "test": test}[arguments.what](arguments, open_progress())
    print(json.dumps(results) if arguments.json else table(results, against_published=arguments.what == "test"))


if __name__ == "__main__":
    main()
