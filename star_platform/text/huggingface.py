"""Any Hugging Face model as a frozen text encoder (inference only)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from star_platform.planning.canonical import digest
from star_platform.text.adapters import Adapter, open_adapter
from star_platform.text.batching import LADDER_VERSION, Batch, plan, plan_packed
from star_platform.text.config import INT8_VERSION, Pooling, TextConfig
from star_platform.text.encoder import EncodedBatch, EncoderKind
from star_platform.text.models import ModelFolder
from star_platform.text.normalise import NORMALISER_VERSION
from star_platform.text.tokenising import Tokens
from star_platform.text.transformer import Transformer

if TYPE_CHECKING:
    from star_platform.text.packed import Packed

_MIN_TOKENS = 16
"""Of a batch, padding included: with fewer the CPU's libraries add in another order (see `packed`)."""
_PACKED_BUDGETS = {"float32": 1024, "int8": 512, "bfloat16": 512}
"""Tokens whose states stay close to a core: larger batches are slower, and need no fewer calls of attention."""


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
                "dtype": self._dtype,
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
        if not texts:
            return
        ids, offsets = self.tokenise(texts)
        yield from self.encoded([ids[first:last] for first, last in pairwise(offsets.tolist())])

    def tokens(self, texts: Sequence[str]) -> Tokens | None:
        return None if self._config.mode == "embedding" else self.tokenise(texts)

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """Flat int32 ids and int64 `[n + 1]` offsets of the texts, with the prompt and cut to the limit."""
        return self._transformer.tokenise(texts, self._config.prompt, self.max_tokens)

    def encoded(self, tokens: Sequence[npt.NDArray[np.int32]]) -> Iterator[EncodedBatch]:
        """As `batches`, of the token rows of texts."""
        import torch

        from star_platform.text.workers import in_order

        _ = self._transformer.module  # loaded here, once, and not by every worker
        lengths = np.fromiter(map(len, tokens), np.int32, len(tokens))

        def work(batch: Batch) -> EncodedBatch:
            rows = [tokens[i] for i in batch.positions.tolist()]
            vectors = self.encode_packed(rows) if self._packed else self.encode_tokens(rows, batch.length)
            return EncodedBatch(batch.positions, vectors, lengths[batch.positions])

        on_cpu = self._transformer.device.type == "cpu"
        workers = (self._config.threads or torch.get_num_threads()) if on_cpu else 1
        yield from in_order(work, self._plan(lengths, workers), workers)

    def _plan(self, tokens: npt.NDArray[np.int32], workers: int) -> Iterator[Batch]:
        budget, precision = self._config.token_budget, self._config.precision
        if self._packed:
            fair = -(-int(tokens.sum()) // workers)  # of few texts, every worker gets some
            return plan_packed(tokens, min(budget, _PACKED_BUDGETS[precision], fair))
        if precision == "bfloat16" and self._transformer.device.type == "cpu":
            budget = 1  # its sums depend on the shape of a batch, whatever the shape is: so every text is one
        return plan(tokens, budget, max(self.max_tokens, int(tokens.max())))  # a feature's own limit may be higher

    def encode_tokens(
        self, rows: Sequence[npt.NDArray[np.int32]], length: int, *, side: Literal["left", "right"] = "right"
    ) -> npt.NDArray[np.float32]:
        """float32 `[b, dim]` of token rows, padded to `length` on the given side."""
        import torch

        enough = [*rows, *[rows[0]] * (-(-_MIN_TOKENS // length) - len(rows))]
        with torch.inference_mode():
            vectors = self._transformer.vectors(*self._transformer.padded(enough, length, side))[: len(rows)]
        return cast(npt.NDArray[np.float32], vectors.cpu().numpy())

    def encode_packed(self, rows: Sequence[npt.NDArray[np.int32]]) -> npt.NDArray[np.float32]:
        """float32 `[b, dim]` of token rows, without padding; only for a model that `packed` knows."""
        import torch

        if self._packed is None:
            raise ValueError("this model is computed with padding")
        with torch.inference_mode():
            ids = torch.from_numpy(np.concatenate(rows).astype(np.int64))
            return cast(npt.NDArray[np.float32], self._packed.vectors(ids, [len(row) for row in rows]).numpy())

    def adapted(self, folder: Path) -> HuggingFaceEncoder:
        """The same model with the adapter in a folder, in place of its own; raises TextError T010."""
        return HuggingFaceEncoder(self._config, replace(self._folder, adapter=open_adapter(folder, folder.name)))

    def plain(self, device: str) -> tuple[Transformer, Adapter | None]:
        """A copy of the model as it was before any adapter, for whoever changes it, and the adapter that it had."""
        config = self._config.model_copy(update={"device": device})
        return Transformer(replace(self._folder, adapter=None), config), self._folder.adapter

    @property
    def _packed(self) -> Packed | None:
        return self._transformer.packed

    @property
    def _dtype(self) -> str:
        precision = self._config.precision
        return f"int8.{INT8_VERSION}" if precision == "int8" else precision

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
