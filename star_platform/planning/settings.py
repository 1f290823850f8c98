"""What besides signals and data decides the content of a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from star_platform.planning.canonical import canonical


@dataclass(frozen=True)
class ServedSpace:
    """The vectors of an earlier release that somebody may still read: `release`, by fingerprint of its artefacts."""

    release: int
    embed: str
    maps: str | None = None
    """Its compat maps to releases before it."""


@dataclass(frozen=True)
class StageSettings:
    """What besides signals and data decides the content of a release.

    `text_fingerprint` is that of the opened text encoder, `text` what to call it in a plan (encoder, dim), and
    `text_fitted` whether it is fitted to the texts of the release, so that all of them decide each vector. The mappings
    are JSON and hold seeds, so that equal settings mean equal bytes.
    """

    text_fingerprint: str
    text: Mapping[str, Any] = field(default_factory=dict)
    text_features: Mapping[str, str] = field(default_factory=dict)
    """Fingerprint of the encoder of the features that are read in their own way: with a prompt or a limit."""
    training: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    publishing: Mapping[str, Any] = field(default_factory=dict)
    text_fitted: bool = False
    compat: Mapping[str, Any] = field(default_factory=dict)
    served: tuple[ServedSpace, ...] = ()
    """Spaces that the new vectors are mapped to, newest release first."""
    aligned_to: ServedSpace | None = None
    """The space that a joint training keeps close to; None trains without."""
    gate_inputs: str = ""
    """Identity of what the compat gate asks besides vectors: consumers, their scorers and labelled sets."""

    scorers: str = ""
    """Identity of the frozen models that consumers bring to the gate: another one makes a release of its own."""

    @property
    def inner_text(self) -> dict[str, Any]:
        """What of an encoder that runs inside the GNN decides on the model; empty where it does not."""
        return {name: self.text[name] for name in ("mode", "cotrain") if name in self.text}

    @property
    def maps(self) -> bool:
        """Whether a release has compat maps to make."""
        return bool(self.served) and self.compat.get("mode", "none") != "none"

    @property
    def derived(self) -> dict[str, Any] | None:
        """What of the training settings decides on edges derived from the graph; None where they ask for none.

        Edges are computed as of moments that the division of the examples by time gives.
        """
        ppr = self.training.get("ppr", {}) if self.training.get("strategy") == "ppr" else None
        densify = self.training.get("densify", {})
        if ppr is None and not densify.get("neighbours"):
            return None
        split = {name: self.training[name] for name in SPLIT_FIELDS if name in self.training}
        snapshots = self.training.get("ppr", {}).get("snapshots")
        window = None if ppr is None else self.training.get("window")
        found = {"ppr": ppr, "window": window, "densify": densify if densify.get("neighbours") else None}
        return {**found, "snapshots": snapshots, "split": split}

    def alignment(self) -> list[Any]:
        """What joint training adds to the identity of a model; empty without."""
        if self.aligned_to is None:
            return []
        target = asdict(self.aligned_to)
        if self.compat.get("mode") != "joint-multi":
            target["maps"] = None
        return [target, {name: self.compat[name] for name in sorted(self.compat) if name in ALIGNMENT_FIELDS}]


ALIGNMENT_FIELDS = frozenset({"mode", "align_weight", "align_batch", "holdout", "seed", "gate"})
"""Fields of the compat settings that decide on the vectors of joint training: who is held out of it, too."""


SPLIT_FIELDS = ("validation_share", "test_share", "repeats")
"""Fields of the training settings that decide where validation and test begin."""


def settings_json(settings: StageSettings) -> dict[str, Any]:
    """The settings by section, as recorded."""
    compat = {**settings.compat, "scorers": settings.scorers} if settings.scorers else settings.compat
    sections: Mapping[str, Any] = {
        "text": {"fingerprint": settings.text_fingerprint, **settings.text},
        "training": settings.training,
        "evaluation": settings.evaluation,
        "publishing": settings.publishing,
        "compat": compat,
    }
    return {name: canonical(section) for name, section in sections.items()}
