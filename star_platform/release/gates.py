"""Where a release stops before anything is published: not good enough, or it would break readers of an older one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from star_platform.errors import GateFailed
from star_platform.registry.artefacts import Artefact
from star_platform.release.model import Run


def check_quality(run: Run, report: Artefact) -> None:
    """Raises GateFailed E001 when the report of `evaluate` misses the gate of star.yaml."""
    from star_platform.evaluation.report import gate_failures

    failures = gate_failures(report.details, run.shop.evaluation.gate)
    if failures:
        raise GateFailed(
            "E001",
            "; ".join(failures),
            hint="`star-platform show` has the figures; change the branches, or the gate in star.yaml",
        )


def check_compat(run: Run, maps: Artefact) -> None:
    """Raises GateFailed C020 when a consumer's map fails its gate and nobody said that the release stays as it is."""
    from star_platform.compat.stage import gate_failures

    failures = gate_failures(maps.details, run.shop.compat)
    if failures:
        raise GateFailed(
            "C020",
            "; ".join(failures),
            hint="nothing was published; change star.yaml so and run `star-platform release` again",
        )


GATES: Mapping[str, Callable[[Run, Artefact], None]] = {"evaluate": check_quality, "compat": check_compat}
"""By kind of the stage whose artefact is judged."""
