"""What besides signals and data decides the content of a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from star_platform.planning.canonical import canonical


@dataclass(frozen=True)
class StageSettings:
    """What besides signals and data decides the content of a release.

    `text_fingerprint` is that of the opened text encoder, `text` what to call it in a plan (encoder, dim), and
    `text_fitted` whether it is fitted to the texts of the release, so that all of them decide each vector. The mappings
    are JSON and hold seeds, so that equal settings mean equal bytes.
    """

    text_fingerprint: str
    text: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    publishing: Mapping[str, Any] = field(default_factory=dict)
    text_fitted: bool = False


def settings_json(settings: StageSettings) -> dict[str, Any]:
    """The settings by section, as recorded."""
    sections: Mapping[str, Any] = {
        "text": {"fingerprint": settings.text_fingerprint, **settings.text},
        "training": settings.training,
        "evaluation": settings.evaluation,
        "publishing": settings.publishing,
    }
    return {name: canonical(section) for name, section in sections.items()}
