"""The `text` stage: rendered texts to an artefact of vectors."""

from __future__ import annotations

from star_platform.progress import SILENT, Progress
from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.text.cache import TextCache
from star_platform.text.encoder import TextEncoder


def encode_texts(
    texts: Artefact,
    encoder: TextEncoder,
    cache: TextCache,
    store: ArtefactStore,
    fingerprint: str,
    progress: Progress = SILENT,
) -> Artefact:
    """Write `values.npy` float32 `[m, dim]` and `present.npy` bool `[m]`, one row per row of `texts.parquet`."""
    raise NotImplementedError
