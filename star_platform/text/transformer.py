"""A model folder as a torch module: token rows to vectors, with or without gradient.

Inference (`text.huggingface`) and fine-tuning (`text.finetune`) both go through `Transformer.vectors`, so that the
pooling of a trainer and that of a server cannot drift apart.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

from star_platform.text.config import Pooling, TextConfig
from star_platform.text.models import ModelFolder, unusable
from star_platform.text.pooling import pool
from star_platform.text.tokenising import Tokeniser

if TYPE_CHECKING:
    import torch

    from star_platform.text.packed import Packed

_OWN_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl", "longformer"}
"""Models that count positions from the padding id by themselves."""


class Transformer:
    """Weights, tokenizer and pooling of one model; tokenizer and weights are read when first needed."""

    def __init__(self, folder: ModelFolder, config: TextConfig) -> None:
        self.folder = folder
        self.config = config
        self.tokeniser = Tokeniser(folder, config.truncate)
        self.pooling: Pooling = _pooling(config, folder)

    @property
    def max_tokens(self) -> int:
        """The most tokens of a text: what star.yaml says, but never more than the model takes."""
        return min(self.config.max_tokens or self.folder.max_tokens, self.folder.max_tokens)

    def tokenise(
        self, texts: Sequence[str], prompt: str | None = None, limit: int | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Flat int32 ids and int64 `[n + 1]` offsets of `prompt + text`, at most `limit` tokens each.

        Both default to what star.yaml says for every text.
        """
        limit = min(limit or self.max_tokens, self.folder.max_tokens)
        return self.tokeniser(texts, self.config.prompt if prompt is None else prompt, limit)

    def padded(
        self, rows: Sequence[npt.NDArray[np.int32]], length: int, side: Literal["left", "right"] = "right"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, int64 `[b, length]` on the model's device, of token rows padded on one side."""
        import torch

        sizes = np.fromiter(map(len, rows), np.int64, len(rows))[:, None]
        places = np.arange(length)
        mask = places < sizes if side == "right" else places >= length - sizes
        ids = np.full(mask.shape, self.tokeniser.pad_id, np.int64)
        ids[mask] = np.concatenate(rows)
        return torch.from_numpy(ids).to(self.device), torch.from_numpy(mask.astype(np.int64)).to(self.device)

    def states(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...] | None]:
        """The last hidden states `[b, t, d]`; with the pooling `layer_mean_cls` those of all layers too, or None."""
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if self._takes_positions:  # else padding on the left would shift the positions
            inputs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        if self.folder.is_decoder:  # the cache of keys and values is for generating: here it only takes memory
            inputs["use_cache"] = False
        all_layers = self.pooling == "layer_mean_cls"
        out = self.module(**inputs, output_hidden_states=all_layers)
        return out.last_hidden_state, out.hidden_states if all_layers else None

    def vectors(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """float32 `[b, d]`, unit norm, of ids and mask `[b, t]` padded on either side; has a gradient.

        Raises:
            TextError: T004 when the weights cannot be loaded; T006 for a row without tokens, or a vector that is not
                finite.
        """
        last, layers = self.states(ids, mask)
        return pool(last, layers, mask, self.pooling, decoder=self.folder.is_decoder)

    @cached_property
    def device(self) -> torch.device:
        import torch

        wanted = self.config.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() and self.config.precision != "int8" else "cpu"
        return torch.device(wanted)

    @cached_property
    def module(self) -> torch.nn.Module:
        """The loaded model without dropout, adapter merged; in the precision of star.yaml, so int8 has no gradient."""
        import torch

        dtype = torch.bfloat16 if self.config.precision == "bfloat16" else torch.float32
        with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
            model = _loaded(self.folder, dtype)
        if self.folder.adapter is not None:
            from star_platform.text.adapters import merged

            model = merged(model, self.folder.adapter)
        if self.config.precision == "int8":
            from star_platform.text.int8 import quantise

            model = quantise(model)
        return model.to(self.device).eval()

    @cached_property
    def packed(self) -> Packed | None:
        """The same model without padding, for inference on a CPU; None where it is of another kind."""
        from star_platform.text.packed import Packed

        return Packed(self) if Packed.fits(self) else None

    @cached_property
    def _takes_positions(self) -> bool:
        accepts = "position_ids" in inspect.signature(self.module.forward).parameters
        return accepts and self.folder.config.get("model_type") not in _OWN_POSITIONS


def _loaded(folder: ModelFolder, dtype: torch.dtype) -> torch.nn.Module:
    import transformers

    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would report, such as an unused pooler, is checked below
    try:
        model, info = transformers.AutoModel.from_pretrained(
            folder.path,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:
        raise unusable(folder, error) from error
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:  # transformers would fill these with random numbers and say so in a warning only
        raise unusable(folder, f"its weights lack {', '.join(missing[:3])} ({len(missing)} in all)")
    return cast("torch.nn.Module", model)


def _pooling(config: TextConfig, folder: ModelFolder) -> Pooling:
    """Of star.yaml, else of adapter, folder, or kind of model; raises TextError T010 where the first two differ."""
    trained = None if folder.adapter is None else folder.adapter.pooling
    if config.pooling == "auto":
        return cast(Pooling, trained or folder.stated_pooling or ("last" if folder.is_decoder else "mean"))
    if folder.adapter is not None and trained not in (None, config.pooling):
        raise folder.adapter.unusable(f"it was trained with `pooling: {trained}`, and star.yaml says {config.pooling}")
    return config.pooling
