"""The whole of a fine-tuning: data, baseline, training, judgement, adapter."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from star_platform.planning.canonical import digest
from star_platform.progress import SILENT, Progress
from star_platform.text.config import TextConfig
from star_platform.text.finetune.adapters import HEAD, Probe, write_adapter, write_probe
from star_platform.text.finetune.baseline import train_baseline
from star_platform.text.finetune.batches import Chunk
from star_platform.text.finetune.config import FineTuneConfig
from star_platform.text.finetune.data import Data, Source, prepare
from star_platform.text.finetune.distributed import ALONE, Group
from star_platform.text.finetune.lora import TunedEncoder
from star_platform.text.finetune.metrics import Judge, Scores, judge_plainly
from star_platform.text.finetune.trainer import Trained, Trainer, lengths_report
from star_platform.text.models import locate
from star_platform.text.normalise import NORMALISER_VERSION, normalise
from star_platform.text.transformer import Transformer

VERSION = 1
"""Raised with every change of what equal settings and data lead to."""
PROBES = 20


@dataclass(frozen=True)
class Done:
    """An adapter, and its manifest."""

    folder: Path
    manifest: dict[str, Any]


def base_transformer(text: TextConfig, root: Path) -> Transformer:
    """The configured encoder before any adapter, in float32: what is fine-tuned.

    Raises:
        TextError: T020 for an encoder without weights, T001 to T004 for one that cannot be read.
    """
    from star_platform.errors import TextError
    from star_platform.text.config import TFIDF_SVD

    if text.encoder == TFIDF_SVD:
        raise TextError("T020", "tfidf-svd has no weights that could be fine-tuned", hint="text: {encoder: minilm}")
    base = text.model_copy(update={"adapter": None, "precision": "float32"})
    return Transformer(locate(base, root), base)


def finetune(
    source: Source,
    config: FineTuneConfig,
    transformer: Transformer,
    work: Path,
    out: Path,
    *,
    judge: Judge = judge_plainly,
    group: Group = ALONE,
    progress: Progress = SILENT,
) -> Done:
    """Fine-tune, and leave an adapter below `out`; scratch is in `work` until it is there.

    The same source, settings and weights give the same bytes on a CPU (with the same number of threads), whether the
    run was interrupted or not.

    Args:
        source: actions and texts.
        config: of the run.
        transformer: the base model, whose module gets the adapter in place.
        work: folder of this run alone; removed at the end.
        out: where adapters lie.
        judge: from validation scores to figures, with intervals where it has a way.
        group: processes that share the steps. All return the same; process 0 writes.
        progress: told about everything that takes long.

    Raises:
        TextError: T020 to T025.
    """
    data = prepare(source, config, transformer, work / f"tokens-{group.rank}", progress)
    key = run_key(config, transformer, data)
    encoder = TunedEncoder.of(transformer, config)
    frozen = _frozen_scores(encoder, data, config, work / f"frozen-{key}.npy", group, progress)
    trained = Trainer(encoder, data, config, work, group=group, progress=progress).run(key)
    labels = data.validation.labels
    judged = judge(labels, {"finetuned": trained.scores, "frozen": frozen}, data.validation.actions.members)
    manifest = _manifest(config, transformer, data, trained, judged)
    draft = work / f"adapter-{group.rank}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _write(draft, source, config, data, trained)
    folder = write_adapter(out if group.rank == 0 else work / "adapters", draft, manifest)
    group.sum_([torch.zeros(1)])  # all have come here: nobody's scratch is removed while it is written
    if group.rank == 0:
        shutil.rmtree(work, ignore_errors=True)
    return Done(out / folder.name, manifest)


def _frozen_scores(
    encoder: TunedEncoder, data: Data, config: FineTuneConfig, known: Path, group: Group, progress: Progress
) -> Scores:
    """Validation scores of the frozen encoder: all texts are encoded for them, so a resumed run reads them again."""
    if known.exists():
        found: Scores = np.load(known, allow_pickle=False)
        return found
    scores = train_baseline(encoder, data, config, progress).scores
    if group.rank == 0:
        draft = known.with_suffix(".draft.npy")
        np.save(draft, scores)
        draft.replace(known)
    return scores


def run_key(config: FineTuneConfig, transformer: Transformer, data: Data) -> str:
    """What decides the bytes of a run."""
    return digest(
        {
            "version": VERSION,
            "config": config.model_dump(mode="json"),
            "base": transformer.folder.files,
            "pooling": transformer.pooling,
            "truncate": transformer.config.truncate,
            "data": data.fingerprint,
        }
    )


def _manifest(
    config: FineTuneConfig, transformer: Transformer, data: Data, trained: Trained, judged: dict[str, Any]
) -> dict[str, Any]:
    towers = config.towers.values()
    return {
        "schema_version": 1,
        "kind": "text-adapter",
        "base": {
            "encoder": transformer.folder.name,
            "revision": transformer.folder.revision,
            "weights_sha256": transformer.folder.weights,
            "pooling": transformer.pooling,
            "truncate": transformer.config.truncate,
            "dim": transformer.folder.dim,
        },
        "prompts": {tower.feature: tower.prompt for tower in towers},
        "limits": {tower.feature: min(tower.max_tokens, transformer.folder.max_tokens) for tower in towers},
        "normaliser": NORMALISER_VERSION,
        "settings": config.model_dump(mode="json"),
        "data": {"fingerprint": data.fingerprint, **data.report},
        "training": trained.report,
        "validation": {
            "rows": len(data.validation),
            **judged,
            "by_document_tokens": lengths_report(data, trained.scores),
        },
    }


def _write(draft: Path, source: Source, config: FineTuneConfig, data: Data, trained: Trained) -> None:
    trained.encoder.save(draft)
    state = {name: value.detach().cpu().contiguous() for name, value in sorted(trained.head.state_dict().items())}
    save_file(state, draft / HEAD)
    probes, rows = _probes(source, config, data)
    trained.encoder.train(False)
    with torch.no_grad(), trained.encoder.exact():
        vectors = [trained.encoder(Chunk((row,))).cpu().numpy() for row in rows]
    write_probe(draft, probes, np.concatenate(vectors))


def _probes(source: Source, config: FineTuneConfig, data: Data) -> tuple[list[Probe], list[Any]]:
    """Texts from all towers, evenly over each tower's table, shortest prompts and longest limits alike."""
    probes: list[Probe] = []
    rows: list[Any] = []
    share = -(-PROBES // len(config.towers))
    for name, tower in config.towers.items():
        table = data.tokens[name]
        slots = np.unique(np.linspace(0, len(table) - 1, share).astype(np.int64)) if len(table) else np.zeros(0, int)
        for texts in source.texts[name].read(table.rows[slots]):
            probes += [Probe(normalise(text), tower.prompt, tower.max_tokens) for text in texts]
        rows += [table[int(slot)] for slot in slots]
    return probes[:PROBES], rows[:PROBES]


__all__ = ["Done", "Scores", "base_transformer", "finetune", "run_key"]
