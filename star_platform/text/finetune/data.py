"""From actions and texts to what the trainer reads: joined, split, balanced, tokenised."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from star_platform.errors import TextError
from star_platform.progress import SILENT, Progress
from star_platform.text.finetune.actions import Actions, Int64Array, uniform_negatives
from star_platform.text.finetune.config import FineTuneConfig
from star_platform.text.finetune.samples import Samples, balance, join, split
from star_platform.text.finetune.tokens import TokenTable, write_tokens
from star_platform.text.finetune.versions import TextVersions
from star_platform.text.transformer import Transformer


@dataclass(frozen=True)
class Source:
    """What to learn from: actions, and the texts of each tower."""

    actions: Actions
    """With its negatives; only positives where these are drawn (`negatives.uniform`)."""
    texts: Mapping[str, TextVersions]
    """By tower."""
    born: Int64Array | None = None
    """Microseconds from which on each document was there, by node index; None: always."""


@dataclass(frozen=True)
class Data:
    """Examples with tokens; `report` is what the manifest says about them."""

    training: Samples
    validation: Samples
    tokens: Mapping[str, TokenTable]
    report: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Over everything that is learned from: examples and tokens."""
        state = hashlib.blake2b(digest_size=16)
        for samples in (self.training, self.validation):
            actions = samples.actions
            slots = [self.tokens[tower].slots(rows) for tower, rows in sorted(samples.rows.items())]
            for array in (actions.members, actions.documents, actions.times, actions.labels, *slots):
                state.update(np.ascontiguousarray(array).tobytes())
        for _, table in sorted(self.tokens.items()):
            state.update(np.ascontiguousarray(table.offsets).tobytes())
            state.update(np.ascontiguousarray(table.ids).tobytes())
        return state.hexdigest()


def prepare(
    source: Source, config: FineTuneConfig, transformer: Transformer, folder: Path, progress: Progress = SILENT
) -> Data:
    """Examples of `source` with their tokens, which lie in `folder`.

    Raises:
        TextError: T023 when no positives or no negatives are left to train on.
    """
    actions = source.actions
    if config.until_us is not None:
        actions = actions.take(actions.times < config.until_us)
    if config.negatives.uniform is not None:
        known = source.texts["document"].nodes
        actions = Actions.joined(
            actions, uniform_negatives(actions, known, config.negatives.uniform, config.seed, source.born)
        )
    joined, dropped = join(actions, source.texts, config)
    training, validation, held = split(joined, config.split, config.seed)
    sampled: dict[str, Any] = {"negative_rate": 1.0, "logit_correction": 0.0}
    if config.sampling == "balanced":
        training, sampled = balance(training, config.seed)
    for name, label in (("positives", True), ("negatives", False)):
        if not (training.labels == label).any():
            raise TextError(
                "T023",
                f"no {name} are left to train on: of {len(actions):,} actions, {sum(dropped.values()):,} lack a text",
                hint="check `positives`, `negatives` and the features of the towers below `text.finetune`",
            )
    with progress.task("tokenise", None, "texts") as task:
        tables: dict[str, TokenTable] = {}
        for name, tower in config.towers.items():
            rows = np.concatenate([training.rows[name], validation.rows[name]])

            def tokenise(texts: Sequence[str], prompt: str = tower.prompt, limit: int = tower.max_tokens) -> Any:
                return transformer.tokenise(texts, prompt, limit)

            tables[name] = write_tokens(folder / name, source.texts[name], rows, tokenise, task)
    report = {
        "actions": len(actions),
        "dropped_without": dropped,
        "training": _counts(training),
        "validation": _counts(validation),
        "split": held,
        "sampling": sampled,
        "point_in_time": {name: texts.versioned for name, texts in source.texts.items()},
        "texts": {name: _lengths(table, config.towers[name].max_tokens) for name, table in tables.items()},
    }
    return Data(training, validation, tables, report)


def _counts(samples: Samples) -> dict[str, int]:
    positives = int(samples.labels.sum())
    missing = {f"without_{tower}": int((rows < 0).sum()) for tower, rows in samples.rows.items() if tower != "document"}
    return {"positives": positives, "negatives": len(samples) - positives, **missing}


def _lengths(table: TokenTable, limit: int) -> dict[str, Any]:
    lengths = table.lengths
    return {
        "distinct": len(table),
        "tokens": int(lengths.sum()),
        "longest": int(lengths.max(initial=0)),
        "at_limit": int((lengths >= limit).sum()),
    }
