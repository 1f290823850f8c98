"""The table: every variant against the base, over members and over seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from runs import Judged, Study
from variants import Variant

from star_platform.evaluation.auc import auc
from star_platform.evaluation.bootstrap import ClusterBootstrap, interval
from star_platform.evaluation.measure import Scores

FIGURES = ("auc", "recall")
TITLES = {"auc": "AUC", "recall": "Recall@{k}"}


def pooled(study: Study, variants: Sequence[Variant], seeds: int) -> dict[str, Any]:
    """Figures of all finished runs, as JSON.

    Of a variant: the mean over its seeds. Of its difference to the base (the first of `variants`): over the seeds that
    both have, the mean with the interval that resampling members gives it, the same members for every run, and the
    spread of the single differences over seeds.
    """
    finished = {
        variant.name: {seed: study.result(variant, seed) for seed in range(seeds) if study.result(variant, seed)}
        for variant in variants
    }
    tables = {}
    for name, judged in study.judged.items():
        bootstrap = ClusterBootstrap(judged.cases.src, study.evaluation.resamples, study.evaluation.seed)
        measured = {
            variant.name: {
                seed: _measured(judged, study.scores(variant, seed)[name], bootstrap) for seed in finished[variant.name]
            }
            for variant in variants
        }
        tables[name] = {
            "positives": judged.cases.positives,
            "members": len(np.unique(judged.cases.src)),
            "variants": {
                variant.name: _row(measured[variant.name], measured[variants[0].name])
                for variant in variants
                if measured[variant.name]
            },
        }
    return {
        "k": study.evaluation.k,
        "negatives": study.evaluation.negatives,
        "objectives": tables,
        "factors": {variant.name: variant.factor for variant in variants},
        "runs": {
            name: {str(seed): _facts(run) for seed, run in runs.items() if run} for name, runs in finished.items()
        },
    }


class _Measured(dict[str, tuple[float, np.ndarray]]):
    """By figure: its value, and its values on all resamples of members."""


def _measured(judged: Judged, scores: Scores, bootstrap: ClusterBootstrap) -> _Measured:
    labels, queries = judged.cases.labels, judged.ranked.queries
    value = auc(labels, scores.pairs)
    return _Measured(
        auc=(np.nan if value is None else value, bootstrap.auc(labels, scores.pairs)),
        recall=(float(scores.recall.mean()), bootstrap.mean(scores.recall, queries)),
    )


def _row(runs: Mapping[int, _Measured], base: Mapping[int, _Measured]) -> dict[str, Any]:
    """The mean of a variant, and its difference to the base on the seeds that both have."""
    both = sorted(runs.keys() & base.keys())
    row: dict[str, Any] = {"seeds": sorted(runs)}
    for figure in FIGURES:
        values = [run[figure][0] for run in runs.values()]
        samples = np.mean([run[figure][1] for run in runs.values()], axis=0)
        row[figure] = {
            **interval(float(np.mean(values)), samples).as_json(),
            "by_seed": {str(seed): runs[seed][figure][0] for seed in sorted(runs)},
        }
        if both and runs is not base:
            single = [runs[seed][figure][0] - base[seed][figure][0] for seed in both]
            resampled = np.mean([runs[seed][figure][1] - base[seed][figure][1] for seed in both], axis=0)
            row[f"{figure}_difference"] = {
                **interval(float(np.mean(single)), resampled).as_json(),
                "by_seed": dict(zip(map(str, both), single, strict=True)),
                "spread": float(np.std(single, ddof=1)) if len(single) > 1 else None,
            }
    return row


def _facts(run: Mapping[str, Any]) -> dict[str, Any]:
    training = run["training"]
    kept = {name: training[name] for name in ("validation_auc", "best_epoch", "parameters")}
    return {**kept, "training_cpu_seconds": run["cpu_seconds"]["training"]}


def markdown(found: Mapping[str, Any]) -> str:
    """A pooled table and one by seed for each objective."""
    lines = []
    for name, table in found["objectives"].items():
        lines += [f"### {name}", ""]
        lines += [f"{table['positives']:,} test examples of {table['members']:,} sources.", ""]
        titles = [TITLES[figure].format(k=found["k"]) for figure in FIGURES]
        heads = ["variant", "factor", "seeds", *(head for title in titles for head in (title, "difference", "spread"))]
        lines += _table([*heads, "CPU s"], [_cells(found, *item) for item in table["variants"].items()])
        seeds = sorted({seed for row in table["variants"].values() for seed in row["seeds"]})
        lines += _table(
            [f"{titles[0]} by seed", *map(str, seeds)],
            [
                [variant, *(_plain(row["auc"]["by_seed"].get(str(seed))) for seed in seeds)]
                for variant, row in table["variants"].items()
            ],
        )
    return "\n".join(lines)


def _cells(found: Mapping[str, Any], variant: str, row: Mapping[str, Any]) -> list[str]:
    cells = [variant, found["factors"][variant], str(len(row["seeds"]))]
    for figure in FIGURES:
        difference = row.get(f"{figure}_difference")
        cells.append(_plain(row[figure]["value"]))
        cells += ["", ""] if difference is None else [_with_interval(difference), _plain(difference["spread"])]
    seconds = [run["training_cpu_seconds"] for run in found["runs"][variant].values()]
    return [*cells, f"{np.mean(seconds):.0f}"]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _with_interval(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:+.4f}"
    text = f"{figure['value']:+.4f} [{figure['low']:+.4f}, {figure['high']:+.4f}]"
    return text if figure["low"] <= 0 <= figure["high"] else f"**{text}**"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def write(found: Mapping[str, Any], folder: Path) -> None:
    """Print the table, and keep it as `table.md` and `table.json`."""
    text = markdown(found)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(text, encoding="utf-8")
    print(text)
