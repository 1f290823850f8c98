"""The text encoder by itself, wired: the texts of the ready branches, and their vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from star_platform.planning.spec import GraphSpec


def text_features(spec: GraphSpec) -> list[str]:
    """Names of the features of `kind: text`."""
    from star_platform.signals.model import TextFeature

    return [name for name, feature in spec.features.items() if isinstance(feature, TextFeature)]
