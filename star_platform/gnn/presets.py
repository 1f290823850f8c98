"""Named sets of training settings, after the rows of the papers' tables (reference: STAR tables 3 and 4, LiGNN, LTGNN)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Settings that differ from the defaults, and when to choose them."""

    about: str
    settings: Mapping[str, Any]


PRESETS: dict[str, Preset] = {}
"""By name."""


def expand(given: dict[str, Any]) -> dict[str, Any]:
    """`given` over the settings of the preset that it names; a section is merged key by key.

    Raises:
        ValueError: for a preset that is not known.
    """
    name = given.get("preset")
    if name is None:
        return given
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    merged = dict(PRESETS[name].settings)
    for key, value in given.items():
        inner = merged.get(key)
        merged[key] = {**inner, **value} if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
