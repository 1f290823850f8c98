"""Adapters made by `star-platform text finetune`: read, hashed, and merged into the weights for inference.

Merged, because a server of embeddings that takes an adapter beside the weights may ignore it without a word, and
because the merged model costs what the base costs.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.errors import TextError
from star_platform.planning.canonical import digest
from star_platform.registry.artefacts import sha256

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"
SETTINGS = "adapter_config.json"
MANIFEST = "manifest.json"
_NOT_CONTENT = {"base_model_name_or_path", "inference_mode", "peft_version", "revision", "auto_mapping"}
"""Settings that say where and by what an adapter was made, not what it computes."""


@dataclass(frozen=True)
class Adapter:
    """A folder with low-rank weights (Hu et al. 2021, arXiv 2106.09685) as `peft` saves them; `name` as star.yaml."""

    path: Path
    name: str

    @cached_property
    def content(self) -> str:
        """Digest of weights and settings, wherever the folder and the base model lie."""
        settings = {key: value for key, value in self._settings.items() if key not in _NOT_CONTENT}
        return digest({"weights": sha256(self.path / WEIGHTS), "settings": settings})

    def check_base(self, weights: Mapping[str, str]) -> None:
        """Raise TextError T010 if the adapter says that it was trained on other weights (SHA-256 by file name)."""
        base = self._base.get("weights_sha256")
        if base is not None and sorted(base.values()) != sorted(weights.values()):
            name = self._base.get("encoder", "another encoder")
            raise self.unusable(f"it was trained on other weights, of {name!r}")

    @property
    def pooling(self) -> str | None:
        """What it was trained with, if it says so."""
        return self._base.get("pooling")

    @cached_property
    def _base(self) -> dict[str, Any]:
        """What the run that made it says of the model that it adapts."""
        found: dict[str, Any] = self._json(MANIFEST).get("base", {}) if (self.path / MANIFEST).is_file() else {}
        return found

    @cached_property
    def _settings(self) -> dict[str, Any]:
        return self._json(SETTINGS)

    def _json(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self.unusable(error) from error
        return found

    def unusable(self, why: object) -> TextError:
        """The error T010 for this adapter."""
        return TextError(
            "T010",
            f"adapter {self.name!r} of the text encoder cannot be used: {why}",
            hint="`text.adapter` is a folder that `star-platform text finetune` made for this encoder",
        )


def open_adapter(path: Path, name: str) -> Adapter:
    """The adapter in a folder; raises TextError T010 when its files are not there or cannot be read."""
    adapter = Adapter(path, name)
    absent = [file for file in (WEIGHTS, SETTINGS) if not (path / file).is_file()]
    if absent:
        raise adapter.unusable(f"there is no {' and no '.join(absent)} in {path}")
    _ = adapter.content  # read now: a damaged adapter is told before the release begins
    return adapter


def merged(model: torch.nn.Module, adapter: Adapter) -> torch.nn.Module:
    """The model with the adapter's product of low-rank matrices added to its weights."""
    return attached(model, adapter).merge_and_unload()  # type: ignore[no-any-return]


def attached(model: torch.nn.Module, adapter: Adapter, *, trainable: bool = False) -> Any:
    """The model with the adapter beside its weights, a `PeftModel`; raises TextError T010 where it does not fit."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"peft|transformers")  # of calls between the two of them
            found = PeftModel.from_pretrained(model, str(adapter.path), is_trainable=trainable)
        untrained = _without_weights(found, adapter)
    except Exception as error:  # torch and peft raise whatever they like where shapes or names do not fit
        raise adapter.unusable(error) from error
    if untrained:
        raise adapter.unusable(f"it has no weights for {untrained[0]} ({len(untrained)} in all)")
    return found


def _without_weights(model: Any, adapter: Adapter) -> list[str]:
    """Low-rank matrices that the file does not hold: peft would leave them at their start and say nothing."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(adapter.path / WEIGHTS, "pt") as file:
        held = set(file.keys())
    return sorted(set(get_peft_model_state_dict(model, save_embedding_layers=False)) - held)
