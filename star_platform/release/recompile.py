"""Today's data as the graph of a release that is there: the same stages up to the graph, for the model that is there.

Artefacts are those that the next release would build, so it finds them again. An encoder that is fitted to the texts of
a release is the exception: the model knows the space of its own release's texts only, so today's texts are encoded by
the encoder fitted to those, and lie beside what a release would build, under other fingerprints.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from star_platform.errors import RegistryError
from star_platform.planning.canonical import digest
from star_platform.planning.categories import Category
from star_platform.release.build import BUILDERS
from star_platform.release.model import Run

if TYPE_CHECKING:
    from star_platform.graph.storage import Graph
    from star_platform.planning.diff import Change, FieldChange
    from star_platform.planning.plan import Plan
    from star_platform.planning.stages import Stage

MODEL = "train"
"""The stage that needs the graph first; those before it make up the graph."""
_OF_NO_VECTOR = ("evaluation", "compat")
"""Sections of the settings that no vector depends on."""


def check_same(plan: Plan) -> None:
    """Raises RegistryError R030 when more than data and metadata have changed since the release that is the base."""
    changed = [change for change in plan.changes if not _harmless(change)]
    if changed:
        named = ", ".join(f"{change.kind} {change.name}" for change in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        release = "the release" if plan.base is None else plan.base.name
        raise RegistryError(
            "R030",
            f"{named}{more} changed since {release}, so its model does not fit what is declared now",
            hint="run `star-platform release`, or take the change back: `star-platform plan` shows it",
        )


def _harmless(change: Change) -> bool:
    if change.kind == "cohort" or change.category is Category.METADATA:
        return True
    if change.kind == "settings":
        return change.name in _OF_NO_VECTOR
    return change.action == "changed" and all(_is_data(field) for field in change.fields)


def _is_data(field: FieldChange) -> bool:
    other_rows = field.pointer == "/data" and field.category is not Category.BREAKING
    return other_rows or field.category is Category.METADATA


def released(run: Run) -> Run:
    """`run` with the artefacts of its release up to the model. Raises ArtefactError A001 when one is gone."""
    done = {
        item.stage: run.shop.released.open(item.kind, item.fingerprint)
        for item in run.shop.registry.artefacts(run.number)
        if item.stage == MODEL or item.stage in _names(graph_stages(run.request.plan))
    }
    return replace(run, done=done)


def recompile(run: Run, before: Run) -> Graph:
    """The graph of today's data; `before` is what `released` gave. Finished artefacts are reused."""
    shop, plan = run.shop, run.request.plan
    stages = graph_stages(plan)
    fitted_texts = sorted(name for name in before.done if name.startswith("texts/")) if _fitted(plan) else []
    others: dict[str, str] = {}
    for position, stage in enumerate(stages, 1):
        run.lease.check()
        other = _other_fingerprint(run, before, stage, fitted_texts, others)
        if other is not None:
            others[stage.name], stage = other, replace(stage, fingerprint=other)
        found = shop.store.find(stage.kind, stage.fingerprint)
        intent = stage.what if found is None else "reuse"
        shop.progress.line(f"[{position:>2}/{len(stages)}] {stage.name:<36} {intent}")
        if found is not None:
            shop.store.verify(found)
        elif other is not None and stage.kind == "text" and not run.encoder:
            from star_platform.text.stage import fit_encoder

            run.encoder.append(fit_encoder(shop.encoder, [before.done[name] for name in fitted_texts]))
        run.done[stage.name] = found or BUILDERS[stage.kind](run, stage)
    return run.graph()


def graph_stages(plan: Plan) -> tuple[Stage, ...]:
    """The stages before training, in order."""
    names = [stage.name for stage in plan.stages]
    return plan.stages[: names.index(MODEL)]


def _names(stages: tuple[Stage, ...]) -> frozenset[str]:
    return frozenset(stage.name for stage in stages)


def _fitted(plan: Plan) -> bool:
    return plan.settings.text_fitted


def _other_fingerprint(
    run: Run, before: Run, stage: Stage, fitted_texts: list[str], others: dict[str, str]
) -> str | None:
    """The fingerprint of a stage that is not what a release would build; None where it is."""
    if stage.kind == "text" and fitted_texts:
        known = before.done.get(stage.name)
        if known is not None and known.fingerprint == stage.fingerprint:
            return None
        corpus = {name: before.done[name].fingerprint for name in fitted_texts}
        own = {name: run.done[name].fingerprint for name in stage.inputs if name == f"texts/{stage.subject}"}
        return digest(["refresh", stage.name, corpus, own, run.request.plan.settings.text_fingerprint])
    changed = {name: others[name] for name in stage.inputs if name in others}
    return digest(["refresh", stage.fingerprint, changed]) if changed else None
