"""Any Hugging Face model as a frozen text encoder (inference only)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from star_platform.planning.canonical import digest
from star_platform.text.batching import LADDER_VERSION, plan
from star_platform.text.config import Pooling, TextConfig
from star_platform.text.encoder import EncodedBatch, EncoderKind
from star_platform.text.models import ModelFolder
from star_platform.text.normalise import NORMALISER_VERSION
from star_platform.text.transformer import Transformer


class HuggingFaceEncoder:
    """A model folder read by `transformers`; weights load at the first batch."""

    def __init__(self, config: TextConfig, folder: ModelFolder, transformer: Transformer | None = None) -> None:
        """`transformer`: the loaded model of another encoder, when only prompts and limits differ."""
        self._config = config
        self._folder = folder
        self._transformer = transformer or Transformer(folder, config)
        self.max_tokens = min(config.max_tokens or folder.max_tokens, folder.max_tokens)
        self.pooling: Pooling = self._transformer.pooling

    @property
    def kind(self) -> EncoderKind:
        return "llm" if self._folder.is_decoder else "encoder"

    @property
    def dim(self) -> int:
        return self._folder.dim

    @property
    def cacheable(self) -> bool:
        return True

    @property
    def ready(self) -> bool:
        return True

    @cached_property
    def fingerprint(self) -> str:
        """Over file contents rather than names: the same model in another folder is the same encoder."""
        return digest(
            {
                "files": self._folder.files,
                "pooling": self.pooling,
                "prompt": self._config.prompt,
                "max_tokens": self.max_tokens,
                "truncate": self._config.truncate,
                "dtype": self._config.precision,
                "normaliser": NORMALISER_VERSION,
                "ladder": LADDER_VERSION,
                **self._adapter(),
            }
        )

    def describe(self) -> dict[str, Any]:
        return {
            "encoder_kind": self.kind,
            "encoder": self._folder.name,
            "revision": self._folder.revision,
            "weights_sha256": self._folder.weights,
            "pooling": self.pooling,
            "prompt": self._config.prompt,
            "max_tokens": self.max_tokens,
            "truncate": self._config.truncate,
            "dim": self.dim,
            "fingerprint": self.fingerprint,
            **self._extras(),
        }

    def for_feature(self, feature: str) -> HuggingFaceEncoder:
        return HuggingFaceEncoder(self._config.for_feature(feature), self._folder, self._transformer)

    def fitted(self, corpus: Sequence[str]) -> HuggingFaceEncoder:  # noqa: ARG002 - frozen: the corpus changes nothing
        return self

    def batches(self, texts: Sequence[str]) -> Iterator[EncodedBatch]:
        ids, offsets = self._transformer.tokenise(texts, self._config.prompt, self.max_tokens)
        tokens = np.diff(offsets).astype(np.int32)
        for batch in plan(tokens, self._config.token_budget, self.max_tokens):
            rows = [ids[offsets[i] : offsets[i + 1]] for i in batch.positions.tolist()]
            yield EncodedBatch(batch.positions, self.encode_tokens(rows, batch.length), tokens[batch.positions])

    def encode_tokens(
        self, rows: Sequence[npt.NDArray[np.int32]], length: int, *, side: Literal["left", "right"] = "right"
    ) -> npt.NDArray[np.float32]:
        """float32 `[b, dim]` of token rows, padded to `length` on the given side."""
        import torch

        with torch.inference_mode():
            vectors = self._transformer.vectors(*self._transformer.padded(rows, length, side))
        return cast(npt.NDArray[np.float32], vectors.cpu().numpy())

    def _adapter(self) -> dict[str, Any]:
        """Absent rather than empty without one, so that an encoder without an adapter keeps its fingerprint."""
        return {} if self._folder.adapter is None else {"adapter": self._folder.adapter.content}

    def _extras(self) -> dict[str, Any]:
        """What only some encoders have."""
        found = {
            "prompts": self._config.prompts,
            "limits": self._config.limits,
            "precision": None if self._config.precision == "float32" else self._config.precision,
        }
        return {**self._adapter(), **{key: value for key, value in found.items() if value}}
