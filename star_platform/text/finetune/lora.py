"""The encoder under training: frozen weights with one low-rank adapter, shared by all towers (Hu et al. 2021)."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import peft
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from star_platform.errors import TextError
from star_platform.text.adapters import SETTINGS, WEIGHTS, Adapter, attached
from star_platform.text.finetune.batches import Chunk
from star_platform.text.finetune.config import FineTuneConfig, LoraConfig
from star_platform.text.transformer import Transformer

_BLOCK = re.compile(r"\.\d+\.")


class TunedEncoder:
    """A transformer whose adapter learns. Changes the module of `transformer` in place."""

    def __init__(
        self,
        transformer: Transformer,
        lora: LoraConfig,
        *,
        seed: int,
        bfloat16: bool = False,
        checkpointing: bool = False,
        start: Adapter | None = None,
    ) -> None:
        """`start`: the adapter that learns on, of its own shape; a new one of shape `lora` where there is none.

        Raises:
            TextError: T024 when `lora.targets` names no layer of the model, T010 when `start` does not fit it.
        """
        self.transformer = transformer
        self._bfloat16 = bfloat16
        module = cast(Any, transformer.module)
        _without_dropout(module)
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(seed)
            # It tells of the folder where the base lies, which is not what it is called (see `save`), and of calls to
            # transformers that are its own.
            warnings.filterwarnings("ignore", module=r"peft|transformers")
            self._peft = _new_adapter(module, lora) if start is None else attached(module, start, trainable=True)
        if checkpointing:
            module.config.use_cache = False
            enable = getattr(module, "activation_checkpointing_enable", None) or module.gradient_checkpointing_enable
            enable({"use_reentrant": False})
            module.enable_input_require_grads()  # else nothing that is recomputed has a gradient: its input has none

    @classmethod
    def of(cls, transformer: Transformer, config: FineTuneConfig) -> TunedEncoder:
        """The encoder of a run of `text finetune`; raises as `TunedEncoder`."""
        return cls(
            transformer,
            config.lora,
            seed=config.seed,
            bfloat16=config.precision == "bfloat16",
            checkpointing=config.gradient_checkpointing,
        )

    @property
    def dim(self) -> int:
        return self.transformer.folder.dim

    @property
    def device(self) -> torch.device:
        return self.transformer.device

    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns, by name, sorted."""
        found = {name: value for name, value in self._peft.named_parameters() if value.requires_grad}
        return dict(sorted(found.items()))

    def train(self, mode: bool = True) -> None:
        """With or without the adapter's dropout."""
        self._peft.train(mode)

    def __call__(self, chunk: Chunk) -> Tensor:
        """float32 `[b, d]`, unit norm."""
        return self.encode(chunk.rows)

    def encode(self, rows: Sequence[npt.NDArray[np.int32]]) -> Tensor:
        """float32 `[b, d]`, unit norm, of token rows that are encoded at once."""
        ids, mask = self.transformer.padded(rows, max(map(len, rows)))
        with self._autocast():
            return self.transformer.vectors(ids, mask)

    def frozen(self) -> AbstractContextManager[None]:
        """Within it, the base model without its adapter."""
        return cast("AbstractContextManager[None]", self._peft.disable_adapter())

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Within it, float32 throughout: as vectors are served."""
        before, self._bfloat16 = self._bfloat16, False
        try:
            yield
        finally:
            self._bfloat16 = before

    def save(self, folder: Path) -> None:
        """`adapter_model.safetensors` and `adapter_config.json`, as `PeftModel.from_pretrained` reads them.

        peft's own writer puts sets into the JSON, in another order each time.
        """
        state: Mapping[str, Tensor] = peft.get_peft_model_state_dict(
            self._peft,
            save_embedding_layers=False,  # "auto" asks the hub for the base model's size
        )
        save_file({name: state[name].detach().cpu().contiguous() for name in sorted(state)}, folder / WEIGHTS)
        settings = self._peft.peft_config["default"].to_dict()
        settings |= {"base_model_name_or_path": self.transformer.folder.name, "inference_mode": True}
        settings["target_modules"] = sorted(settings["target_modules"])
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1, sort_keys=True, default=str) + "\n", "utf-8")

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self._bfloat16 else nullcontext()


def _new_adapter(module: nn.Module, config: LoraConfig) -> peft.PeftModel:
    try:
        return peft.get_peft_model(cast(Any, module), _settings(module, config))
    except ValueError as error:  # peft says so when a target matches nothing
        raise TextError("T024", f"the adapter does not fit the model: {error}", hint="lora.targets") from error


def _settings(module: nn.Module, config: LoraConfig) -> peft.LoraConfig:
    return peft.LoraConfig(
        r=config.r,
        lora_alpha=cast(int, config.alpha),
        lora_dropout=config.dropout,
        target_modules=linear_layers(module) if config.targets == "auto" else list(config.targets),
    )


def _without_dropout(module: nn.Module) -> None:
    """Take the base model's own dropout out: its weights stay as they are, only the adapter can overfit."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        if isinstance(getattr(layer, "attention_dropout", None), float):
            setattr(layer, "attention_dropout", 0.0)  # noqa: B010 - a number here, though modules say "Tensor"


def linear_layers(module: nn.Module) -> list[str]:
    """Names, inside their block, of all linear layers of a transformer's blocks.

    Layers outside the blocks, such as BERT's pooler, do not enter a vector, or do so without being repeated.
    """
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear) and _BLOCK.search(name)]
    return sorted({_BLOCK.split(name)[-1] for name in names})
