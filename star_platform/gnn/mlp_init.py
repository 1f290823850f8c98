"""A graph encoder that starts from weights trained without edges (MLPInit, Han et al., ICLR 2023; used by LiGNN).

An epoch without edges samples nothing and reads only the seeds themselves, so it costs a small part of one with them.
The encoder runs on it as it is: without a block a layer passes each item through its own projection, bias and norm.
What these, the input encoders and the decoders have learned is where training with edges starts; keys, queries, values
and relations have had no gradient and keep their start.

Train with `features_only(config)`, build the graph model, and `warm_start` it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from star_platform.errors import TrainingError
from star_platform.gnn.config import AdaptiveConfig, SequenceConfig, TrainingConfig

_LAYER = re.compile(r"^(.*\btowers\.\d+\.)(\d+)(\..*)$")


def features_only(config: TrainingConfig) -> TrainingConfig:
    """The configuration of a run without edges whose weights fit the model of `config`: its `mlp_init` epochs."""
    return config.model_copy(
        update={
            "encoder": "attention" if config.encoder == "ltgnn" else config.encoder,
            "fan_outs": (),
            "mlp_init": 0,
            "max_epochs": max(1, config.mlp_init),
            "adaptive": AdaptiveConfig(),
            "sequence": SequenceConfig(),
        }
    )


def warm_start(model: nn.Module, features_only_state: Mapping[str, Tensor]) -> list[str]:
    """Load what fits by name and shape into `model`, in place; layers of a tower are matched from the last one back.

    The last layer has no norm and no activation, and gives the published vectors: so it stays the last one when the
    two models have not as many layers.

    Returns:
        The names in `model` that were loaded, sorted.

    Raises:
        TrainingError: M028 when nothing fits: the two models are not of one kind.
    """
    own = model.state_dict()
    theirs = {_from_the_end(name, features_only_state): tensor for name, tensor in features_only_state.items()}
    loaded = []
    with torch.no_grad():
        for name in sorted(own):
            found = theirs.get(_from_the_end(name, own))
            if found is not None and found.shape == own[name].shape:
                own[name].copy_(found)
                loaded.append(name)
    if not loaded:
        raise TrainingError(
            "M028",
            "no weight of the model without edges fits the graph encoder",
            hint="train both with the same `dim`, features and objectives",
        )
    return loaded


def _from_the_end(name: str, state: Mapping[str, Tensor]) -> str:
    """The name with its layer counted back from the last one of its tower: `towers.0.-1.own.weight`."""
    found = _LAYER.match(name)
    if found is None:
        return name
    tower, place, rest = found.groups()
    last = max(int(other[2]) for other in map(_LAYER.match, state) if other is not None and other[1] == tower)
    return f"{tower}{int(place) - last - 1}{rest}"
