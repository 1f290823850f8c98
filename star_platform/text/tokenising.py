"""Texts to token ids: prompt first, cut to the limit, and an end token that a cut never takes away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from star_platform.text.models import ModelFolder, unusable

_CHUNK = 4096
Tokens = tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]
"""Flat ids int32 and offsets int64 `[n + 1]` of n texts, prompt put before and limit kept."""
Tokenise = Callable[[Sequence[str]], Tokens]


class Tokeniser:
    """The tokenizer of a model folder; its files are read at the first text."""

    def __init__(self, folder: ModelFolder, truncate: Literal["tail", "head"]) -> None:
        self._folder = folder
        self._truncate = truncate

    def __call__(
        self, texts: Sequence[str], prompt: str, limit: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Ids of all texts in one int32 array, and int64 `[n + 1]` where each text begins.

        A decoder's text ends with the end token, also where it is cut to `limit` tokens: that is the token whose state
        has seen everything, and a text without it gives a vector that is wrong without looking wrong.
        """
        eos = self.end_id
        flat: list[npt.NDArray[np.int32]] = []
        lengths: list[int] = []
        for first in range(0, len(texts), _CHUNK):
            chunk = [prompt + text for text in texts[first : first + _CHUNK]]
            encoded: list[list[int]] = self._tokenizer(
                chunk,
                truncation=True,
                max_length=limit - (eos is not None),
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
            if eos is not None:
                encoded = [row if row and row[-1] == eos else [*row, eos] for row in encoded]
            lengths.extend(map(len, encoded))
            flat.append(np.fromiter((token for row in encoded for token in row), np.int32))
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return (np.concatenate(flat) if flat else np.zeros(0, np.int32)), offsets

    @cached_property
    def end_id(self) -> int | None:
        """What every text of a decoder ends with; None for an encoder, whose tokenizer adds its own."""
        found = self._tokenizer.eos_token_id if self._folder.is_decoder else None
        return None if found is None else int(found)

    @cached_property
    def pad_id(self) -> int:
        found = self._tokenizer.pad_token_id
        return int(found) if found is not None else 0  # decoders have none; a masked token is never read

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self._folder.path, local_files_only=True, use_fast=True)
        except Exception as error:  # its readers raise whatever they like on a damaged folder
            raise unusable(self._folder, error) from error
        tokenizer.truncation_side = "right" if self._truncate == "tail" else "left"
        return tokenizer
