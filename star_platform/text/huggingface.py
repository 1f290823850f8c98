"""Any Hugging Face model as a frozen text encoder (float32, inference only)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from star_platform.errors import TextError
from star_platform.planning.canonical import digest
from star_platform.text.batching import LADDER_VERSION, plan
from star_platform.text.config import Pooling, TextConfig
from star_platform.text.encoder import EncodedBatch, EncoderKind
from star_platform.text.models import ModelFolder
from star_platform.text.normalise import NORMALISER_VERSION
from star_platform.text.pooling import pool

if TYPE_CHECKING:
    import torch

_TOKENIZER_CHUNK = 4096
_OWN_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer"}
"""Models that count positions from the padding id by themselves."""


class HuggingFaceEncoder:
    """A model folder read by `transformers`; weights load at the first batch."""

    def __init__(self, config: TextConfig, folder: ModelFolder) -> None:
        self._config = config
        self._folder = folder
        self._decoder = folder.is_decoder
        self.max_tokens = min(config.max_tokens or folder.max_tokens, folder.max_tokens)
        self.pooling: Pooling = _pooling(config, folder)

    @property
    def kind(self) -> EncoderKind:
        return "llm" if self._decoder else "encoder"

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
                "dtype": "float32",
                "normaliser": NORMALISER_VERSION,
                "ladder": LADDER_VERSION,
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
        }

    def fitted(self, corpus: Sequence[str]) -> HuggingFaceEncoder:  # noqa: ARG002 - frozen: the corpus changes nothing
        return self

    def batches(self, texts: Sequence[str]) -> Iterator[EncodedBatch]:
        ids, offsets = self._tokenize(texts)
        tokens = np.diff(offsets).astype(np.int32)
        for batch in plan(tokens, self._config.token_budget, self.max_tokens):
            rows = [ids[offsets[i] : offsets[i + 1]] for i in batch.positions.tolist()]
            yield EncodedBatch(batch.positions, self.encode_tokens(rows, batch.length), tokens[batch.positions])

    def encode_tokens(
        self, rows: Sequence[npt.NDArray[np.int32]], length: int, *, side: Literal["left", "right"] = "right"
    ) -> npt.NDArray[np.float32]:
        """float32 `[b, dim]` of token rows, padded to `length` on the given side."""
        import torch

        ids = np.full((len(rows), length), self._pad_id, np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for i, row in enumerate(rows):
            where = slice(0, len(row)) if side == "right" else slice(length - len(row), length)
            ids[i, where] = row
            mask[i, where] = 1
        with torch.inference_mode():
            return cast(npt.NDArray[np.float32], self._forward(torch.from_numpy(ids), torch.from_numpy(mask)))

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:
        ids, mask = ids.to(self._device), mask.to(self._device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._takes_positions:  # else padding on the left would shift the positions
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        all_layers = self.pooling == "layer_mean_cls"
        out = self._model(**inputs, output_hidden_states=all_layers)
        layers = out.hidden_states if all_layers else None
        return pool(out.last_hidden_state, layers, mask, self.pooling, decoder=self._decoder).cpu().numpy()

    def _tokenize(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Token ids of all texts in one array, and int64 `[n + 1]` where each text begins."""
        eos = self._tokenizer.eos_token_id if self._decoder else None
        limit = self.max_tokens - (eos is not None)  # an end token must survive truncation
        flat: list[npt.NDArray[np.int32]] = []
        lengths: list[int] = []
        for first in range(0, len(texts), _TOKENIZER_CHUNK):
            chunk = [self._config.prompt + text for text in texts[first : first + _TOKENIZER_CHUNK]]
            encoded: list[list[int]] = self._tokenizer(
                chunk, truncation=True, max_length=limit, return_attention_mask=False, return_token_type_ids=False
            )["input_ids"]
            if eos is not None:
                encoded = [row if row and row[-1] == eos else [*row, eos] for row in encoded]
            lengths.extend(map(len, encoded))
            flat.append(np.fromiter((token for row in encoded for token in row), np.int32))
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return (np.concatenate(flat) if flat else np.zeros(0, np.int32)), offsets

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self._folder.path, local_files_only=True, use_fast=True)
        except Exception as error:  # its readers raise whatever they like on a damaged folder
            raise self._unusable(error) from error
        tokenizer.truncation_side = "right" if self._config.truncate == "tail" else "left"
        return tokenizer

    @property
    def _pad_id(self) -> int:
        found = self._tokenizer.pad_token_id
        return int(found) if found is not None else 0  # decoders have none; a masked token is never read

    @cached_property
    def _device(self) -> torch.device:
        import torch

        wanted = self._config.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(wanted)

    @cached_property
    def _takes_positions(self) -> bool:
        accepts = "position_ids" in inspect.signature(self._model.forward).parameters
        return accepts and self._folder.config.get("model_type") not in _OWN_POSITIONS

    @cached_property
    def _model(self) -> Any:
        import torch
        import transformers

        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call, unused-ignore]
        try:
            model, info = transformers.AutoModel.from_pretrained(
                self._folder.path,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:
            raise self._unusable(error) from error
        missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
        if missing:  # transformers would fill these with random numbers and say so in a warning only
            raise self._unusable(f"its weights lack {', '.join(missing[:3])} ({len(missing)} in all)")
        return model.to(self._device).eval()

    def _unusable(self, why: object) -> TextError:
        return TextError(
            "T004",
            f"text encoder {self._folder.name!r} cannot be loaded: {why}",
            hint="an encoder is a folder with config.json, a tokenizer and *.safetensors",
        )


def _pooling(config: TextConfig, folder: ModelFolder) -> Pooling:
    if config.pooling != "auto":
        return config.pooling
    return cast(Pooling, folder.stated_pooling or ("last" if folder.is_decoder else "mean"))
