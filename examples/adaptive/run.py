"""Adaptive fan-out beside the fixed full one: wall time, edges drawn, validation AUC; uniform and latest neighbours.

    python examples/adaptive/run.py --seeds 5 [--quick] [--folder DIR]

Every seed is a graph, a start of the weights and an order of examples of its own; both sides share all three, and as
many steps. Each run leaves a JSON file, and a run whose file is there is not made again, so a stopped experiment goes
on. One thread of torch, and one that draws neighbours ahead.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import stats

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # benchmarks are no installed package
sys.path.insert(0, str(HERE))

from market import Market  # noqa: E402

from star_platform.gnn import runtime  # noqa: E402
from star_platform.gnn.config import TrainingConfig  # noqa: E402
from star_platform.gnn.plots import plot_history  # noqa: E402
from star_platform.gnn.trainer import Trainer  # noqa: E402
from star_platform.progress import SILENT  # noqa: E402
from star_platform.signals.model import LinkPrediction, Negatives  # noqa: E402

FULL = {"nodes": 200_000, "edges": 1_500_000, "reads": 8_000_000, "saves": 120_000}
QUICK = {"nodes": 20_000, "edges": 150_000, "reads": 800_000, "saves": 12_000}
STRATEGIES = ("uniform", "latest")
MODES = ("fixed", "adaptive")
AGREE, FASTER = 0.001, 0.25
"""What is asked for: so little difference in AUC, and so much less time."""
SETTINGS: dict[str, Any] = {
    "dim": 32,
    "heads": 2,
    "fan_outs": (100,),
    "batch_size": 128,
    "negatives": 64,
    "lr": 3e-3,
    "dropout": 0.0,
    "max_epochs": 2,
    "patience": 1000,
    "validate_every": 0.1,
    "validation_examples": 3000,
    "activity": False,
    "threads": 1,
    "device": "cpu",
}


def settings(strategy: str, mode: str, seed: int) -> TrainingConfig:
    adaptive = {"enabled": mode == "adaptive", "grow": 10}
    return TrainingConfig.model_validate(SETTINGS | {"strategy": strategy, "seed": seed, "adaptive": adaptive})


def trained(market: Market, config: TrainingConfig, folder: Path) -> dict[str, Any]:
    """One training: its quality, what it drew, and how long it took."""
    saves = LinkPrediction(kind="link-prediction", edge="saves", negatives=Negatives(kind="uniform"))
    runtime.keep_freed_memory()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with runtime.torch_threads(config.threads):
        trainer = Trainer(market.graph, {"saves": saves}, config)
        counted = Counted(trainer.training.make)
        trainer.training.make = counted.make  # type: ignore[method-assign]
        busy = time.process_time()
        with Stopwatch() as watch:
            details = trainer.run(folder / "work", folder, SILENT)
        cpu = time.process_time() - busy
    shutil.rmtree(folder / "work")
    return {
        "auc": details["validation_auc"],
        "wall_s": round(watch.seconds, 2),
        "cpu_s": round(cpu, 2),
        "edges": counted.edges,
        "frontier": round(counted.nodes / counted.steps),
        "steps": counted.steps,
        "timing": details["timing"],
        **json.loads((folder / "history.json").read_text(encoding="utf-8")),
    }


class Stopwatch:
    """Wall time, but for stretches in which the whole process was stopped (a signal, a machine put to sleep)."""

    TICK, GAP = 0.2, 2.0

    def __enter__(self) -> Self:
        self._over, self._lost, self._begin = threading.Event(), 0.0, time.perf_counter()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def _tick(self) -> None:
        last = time.perf_counter()
        while not self._over.wait(self.TICK):
            now = time.perf_counter()
            self._lost += now - last if now - last > self.GAP else 0.0
            last = now

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.seconds = time.perf_counter() - self._begin - self._lost


class Counted:
    """Makes batches, and counts what is in those of training."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self.edges = self.steps = self.nodes = 0

    def make(self, key: Any) -> Any:
        batch = self._make(key)
        self.steps += 1
        self.edges += sum(batch.trees.edges)
        self.nodes += batch.trees.slices[-1][-1]
        return batch


def runs(seeds: Sequence[int], size: dict[str, int], folder: Path) -> list[dict[str, Any]]:
    """Every run, made or read; fixed and adaptive take turns."""
    found = []
    for seed in seeds:
        market: Market | None = None
        for strategy in STRATEGIES:
            for mode in MODES if seed % 2 == 0 else MODES[::-1]:
                name = f"{strategy}-{mode}-{seed}"
                path = folder / f"{name}.json"
                if not path.exists():
                    market = market or Market(**size, seed=seed)
                    made = trained(market, settings(strategy, mode, seed), folder / name)
                    path.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
                one = json.loads(path.read_text(encoding="utf-8"))
                found.append({"strategy": strategy, "mode": mode, "seed": seed, **one})
                shown = f"AUC {one['auc']:.4f}  {one['wall_s']:6.1f} s  {one['edges']:,} edges  {one['steps']:,} steps"
                print(f"{name:<20} {shown}", file=sys.stderr, flush=True)
    return found


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of paired values, and its 95 % interval (Student's t)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("-inf"), float("inf")
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def summary(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By strategy: means of both sides, and the paired differences."""

    def of(strategy: str, mode: str) -> list[dict[str, Any]]:
        return [run for run in found if run["strategy"] == strategy and run["mode"] == mode]

    rows = []
    for strategy in STRATEGIES:
        side = {
            mode: {r["seed"]: r for r in found if r["strategy"] == strategy and r["mode"] == mode} for mode in MODES
        }
        pairs = [(side["fixed"][seed], side["adaptive"][seed]) for seed in sorted(side["fixed"])]
        row: dict[str, Any] = {"strategy": strategy, "seeds": len(pairs)}
        for key in ("auc", "wall_s", "cpu_s", "edges"):
            row[key] = {mode: float(np.mean([r[key] for r in side[mode].values()])) for mode in MODES}
        row["auc_difference"] = interval([b["auc"] - a["auc"] for a, b in pairs])
        for key in ("wall_s", "cpu_s", "edges"):
            row[f"less_{key}"] = interval([1 - b[key] / a[key] for a, b in pairs])
        row["holds"] = abs(row["auc_difference"][0]) < AGREE and row["less_wall_s"][0] >= FASTER
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| neighbours | fan-out | AUC | wall time | CPU time | edges drawn |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        for mode in MODES:
            cells = f"{row['wall_s'][mode]:.1f} s | {row['cpu_s'][mode]:.1f} s | {row['edges'][mode] / 1e6:.2f} M"
            lines.append(f"| {row['strategy']} | {mode} | {row['auc'][mode]:.4f} | {cells} |")
        less = [
            f"{100 * mean:.1f} % less [{100 * low:.1f}, {100 * high:.1f}]"
            for mean, low, high in (row["less_wall_s"], row["less_cpu_s"], row["less_edges"])
        ]
        mean, low, high = row["auc_difference"]
        difference = f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
        lines.append(f"| {row['strategy']} | **adaptive - fixed** | {difference} | {' | '.join(less)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--quick", action="store_true", help="a tenth of the graph; minutes instead of an hour")
    parser.add_argument("--folder", type=Path, default=None, help="where runs are kept; .star beside this file")
    parser.add_argument("--json", action="store_true", help="the summary as one line of JSON")
    args = parser.parse_args(arguments)
    folder = (args.folder or HERE / ".star") / ("quick" if args.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    found = runs(range(1, args.seeds + 1), QUICK if args.quick else FULL, folder)
    for strategy in STRATEGIES:
        one = next(r for r in found if r["strategy"] == strategy and r["mode"] == "adaptive")
        told = {"validations": [entry | took for entry, took in zip(one["validations"], one["timing"], strict=True)]}
        plot_history(told, folder / f"{strategy}.png", f"Adaptive fan-out, {strategy} neighbours")
    rows = summary(found)
    print(json.dumps({"rows": rows}) if args.json else table(rows))
    return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
