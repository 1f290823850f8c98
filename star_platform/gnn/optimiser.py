"""What moves the weights: AdamW for all but sparse id tables, and for these Adam on the rows that were read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.ids import RowAdam, split_parameters

CLIP = 5.0
"""The most that the norm of all gradients of a step may be."""


Options = Mapping[str, float]
"""`lr` or `weight_decay` of a module of its own."""
UNDECAYED: Options = {"weight_decay": 0.0}


class Optimiser:
    """AdamW (Loshchilov, Hutter 2019) under one interface, with a state of plain tensors for checkpoints."""

    def __init__(self, learned: nn.Module, options: Mapping[nn.Module, Options], config: TrainingConfig) -> None:
        """`options`: of modules of `learned` that are moved in another way than the rest."""
        dense, tables = split_parameters(learned)
        special = {id(parameter) for module in options for parameter in module.parameters()}
        groups: list[dict[str, Any]] = [{"params": [each for each in dense if id(each) not in special]}]
        groups += [{"params": list(module.parameters()), **own} for module, own in options.items()]
        self._dense = dense
        self._adam = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
        self._rows = RowAdam(tables, config.lr, config.weight_decay) if tables else None

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self._adam.zero_grad(set_to_none=True)
        if self._rows is not None:
            self._rows.zero_grad()

    def step(self) -> None:
        """Move by the gradients since `zero_grad`, cut to a norm of `CLIP`."""
        leaves = [] if self._rows is None else self._rows.leaves
        nn.utils.clip_grad_norm_([*self._dense, *leaves], CLIP)
        self._adam.step()
        if self._rows is not None:
            self._rows.step()

    def state(self) -> dict[str, Tensor]:
        """All moments, flat."""
        found = {
            f"dense.{place}.{name}": torch.as_tensor(value)
            for place, moments in self._adam.state_dict()["state"].items()
            for name, value in moments.items()
        }
        if self._rows is not None:
            found |= {f"rows.{name}": tensor for name, tensor in self._rows.state_dict().items()}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """The way back of `state`; raises TrainingError M025 where that of id tables does not fit."""
        layout = self._adam.state_dict()
        layout["state"], rows = {}, {}
        for name, tensor in state.items():
            part, _, rest = name.partition(".")
            if part == "rows":
                rows[rest] = tensor
            else:
                place, _, moment = rest.partition(".")
                layout["state"].setdefault(int(place), {})[moment] = tensor
        self._adam.load_state_dict(layout)
        if self._rows is not None:
            self._rows.load_state_dict(rows)
