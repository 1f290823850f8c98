"""Training examples: actions joined with the texts of their time, split, and balanced.

Rules of STAR (arXiv 2507.09797), section 3: text as it was at the action; as many negatives as positives, out of a
natural 1:16; test later than training, without pairs that training has seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from star_platform.text.finetune.actions import Actions, BoolArray, Int64Array, without_pairs
from star_platform.text.finetune.config import FineTuneConfig, SplitConfig
from star_platform.text.finetune.versions import NONE, TextVersions

_DAY = 86_400_000_000


@dataclass(frozen=True)
class Samples:
    """Actions with, by tower, the row of their text in `TextVersions` (int64 `[n]`, `NONE`: missing)."""

    actions: Actions
    rows: Mapping[str, Int64Array]

    def __len__(self) -> int:
        return len(self.actions)

    def take(self, which: npt.NDArray[np.integer] | BoolArray) -> Samples:
        return Samples(self.actions.take(which), {tower: rows[which] for tower, rows in self.rows.items()})

    @property
    def labels(self) -> BoolArray:
        return self.actions.labels


def join(
    actions: Actions, towers: Mapping[str, TextVersions], config: FineTuneConfig
) -> tuple[Samples, dict[str, int]]:
    """Each action with the texts of its time, and how many were dropped for want of which text."""
    rows = {
        tower: versions.rows_at(actions.documents if tower == "document" else actions.members, actions.times)
        for tower, versions in towers.items()
    }
    nothing = np.full(len(actions), NONE)
    no_document = rows["document"] == NONE
    profile, resume = rows.get("profile", nothing) == NONE, rows.get("resume", nothing) == NONE
    no_request = ~no_document & profile & resume
    no_resume = ~no_document & ~profile & resume
    if config.resume is None or config.missing_resume == "mask":
        no_resume = np.zeros(len(actions), np.bool_)
    dropped = {"document": no_document, "request": no_request, "resume": no_resume}
    kept = Samples(actions, rows).take(~(no_document | no_request | no_resume))
    return kept, {name: int(which.sum()) for name, which in dropped.items()}


def split(samples: Samples, config: SplitConfig, seed: int) -> tuple[Samples, Samples, dict[str, Any]]:
    """Training, validation and what was done; pairs of training are taken out of validation.

    Without any time, `by: time` becomes `pair`: pairs at random.
    """
    actions = samples.actions
    rng = np.random.default_rng([seed, 0x5117])
    by = config.by if config.by == "document" or actions.dated else "pair"
    if by == "time":
        ordered = np.sort(actions.times)
        cut = (
            int(ordered[min(len(ordered) - 1, int(len(ordered) * (1 - config.validation_share)))])
            if len(ordered)
            else 0
        )
        held = actions.times >= cut
    else:
        keys, of = np.unique(actions.documents if by == "document" else actions.pairs, return_inverse=True)
        chosen = np.zeros(len(keys), np.bool_)
        chosen[rng.permutation(len(keys))[: math.ceil(len(keys) * config.validation_share)]] = True
        held = chosen[of.reshape(-1)]
    training, validation = samples.take(~held), samples.take(held)
    fresh = without_pairs(validation.actions, training.actions)
    kept = validation.take(fresh)
    if len(kept) > config.max_rows:
        kept = kept.take(np.sort(rng.permutation(len(kept))[: config.max_rows]))
    report = {"by": by, "seen_pairs_dropped": int((~fresh).sum()), "natural_ratio": _ratio(kept.labels)}
    if by == "time":
        report["validation_from"] = cut
    return training, kept, report


def balance(samples: Samples, seed: int) -> tuple[Samples, dict[str, Any]]:
    """At most as many negatives as positives on each day, so that their ratio does not drift with time.

    The report has the rate at which negatives were kept; subtract `logit_correction` from a logit before it is read as
    a probability.
    """
    labels = samples.labels
    day = samples.actions.times // _DAY
    negative = np.flatnonzero(~labels)
    order = negative[np.lexsort((np.random.default_rng([seed, 0xBA1]).random(len(negative)), day[negative]))]
    days, first = np.unique(day[order], return_index=True)
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    positives = np.searchsorted(np.sort(day[labels]), days, "right") - np.searchsorted(np.sort(day[labels]), days)
    wanted = positives[np.searchsorted(days, day[order])] if len(days) else np.zeros(0, np.int64)
    keep = labels.copy()
    keep[order[rank < wanted]] = True
    kept = int((keep & ~labels).sum())
    return samples.take(keep), {
        "natural_ratio": _ratio(labels),
        "negative_rate": kept / len(negative) if len(negative) else 1.0,
        "logit_correction": math.log(len(negative) / kept) if kept else 0.0,
    }


def _ratio(labels: BoolArray) -> float | None:
    """Negatives per positive."""
    positives = int(labels.sum())
    return (len(labels) - positives) / positives if positives else None
