"""Fine-tuning of the text encoder, wired: actions and texts of the ready branches, and where the adapter goes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from star_platform.errors import TextError
from star_platform.progress import SILENT, Progress
from star_platform.project.project import Project

if TYPE_CHECKING:
    from star_platform.planning.spec import GraphSpec
    from star_platform.registry.artefacts import Artefact
    from star_platform.text.finetune.actions import Actions
    from star_platform.text.finetune.adapters import Verified
    from star_platform.text.finetune.config import FineTuneConfig
    from star_platform.text.finetune.data import Source
    from star_platform.text.finetune.distributed import Group
    from star_platform.text.finetune.finetune import Done
    from star_platform.text.finetune.metrics import Judge

FOLDER = "adapters"
"""Where adapters go, below the project's folder."""


def finetune_encoder(project: Project, out: Path | None = None, progress: Progress = SILENT) -> Done:
    """Fine-tune the encoder of star.yaml as `text.finetune` says; goes on where a killed run stopped.

    Under `torchrun` all processes take the same steps, and process 0 writes.

    Raises:
        LeaseHeld: R006 somebody is releasing; nothing was written.
        TextError: T020 to T028.
    """
    from star_platform.planning.canonical import digest
    from star_platform.text.finetune.finetune import base_transformer, finetune

    config = settings(project)
    transformer = base_transformer(project.file.text, project.root)
    with _group() as group:
        names = stages(config)
        made = _shared(lambda: compile_stages(project, names, config, progress), project, group)
        identity = [
            config.model_dump(mode="json"),
            transformer.folder.files,
            {k: v.fingerprint for k, v in made.items()},
        ]
        return finetune(
            source(config, made),
            config,
            transformer,
            project.store.work_dir("finetune", digest(identity)),
            out or project.root / FOLDER,
            judge=judge(project),
            group=group,
            progress=progress if group.rank == 0 else SILENT,
        )


def verify_adapter(project: Project, folder: Path) -> Verified:
    """Whether the encoder of star.yaml, with this adapter, gives the vectors that it was trained to give.

    Raises:
        TextError: T026 for a damaged folder, T027 for other vectors.
    """
    from star_platform.text.finetune.adapters import verify

    return verify(folder, project.file.text, project.root)


def settings(project: Project) -> FineTuneConfig:
    """What star.yaml says below `text.finetune`; raises TextError T028 where it says nothing."""
    config = project.file.text.finetune
    if config is None:
        raise TextError("T028", "star.yaml has no `text.finetune`", hint="star-platform explain T028 shows one")
    return config


def stages(config: FineTuneConfig) -> tuple[str, ...]:
    """Names of the stages whose artefacts are read."""
    edges = [config.positives, *([config.negatives.edge] if config.negatives.edge else [])]
    texts = [f"texts/{tower.feature}" for tower in config.towers.values()]
    return (f"nodes/{_ends(config)[1]}", *dict.fromkeys(f"edges/{edge}" for edge in edges), *dict.fromkeys(texts))


def compile_stages(
    project: Project, names: Sequence[str], config: FineTuneConfig, progress: Progress = SILENT
) -> dict[str, Artefact]:
    """The artefacts of some stages, as the next release would make them, under the release lease.

    Raises:
        TextError: T021 when `text.finetune` names what the branches lack.
    """
    from star_platform.release import LEASE
    from star_platform.release.build import BUILDERS
    from star_platform.release.model import Run
    from star_platform.release.trial import NO_RELEASE, needed

    if project.registry.status().state == "absent":
        project.registry.upgrade()
    with project.registry.lease(LEASE) as lease:
        request = project.plan()
        check_names(config, request.spec)
        with closing(project.engine(request.spec.deny_columns)) as engine:
            run = Run(project.workshop(engine, progress), request, NO_RELEASE, lease)
            for stage in request.plan.stages:
                if any(stage in needed(request.plan.stages, name) for name in names):
                    lease.check()
                    found = project.store.find(stage.kind, stage.fingerprint)
                    run.done[stage.name] = found or BUILDERS[stage.kind](run, stage)
            return {name: run.done[name] for name in names}


def check_names(config: FineTuneConfig, spec: GraphSpec) -> None:
    """Raise TextError T021 unless towers are text features, and edges go between their nodes."""
    from star_platform.signals.model import TextFeature

    texts = sorted(name for name, feature in spec.features.items() if isinstance(feature, TextFeature))
    for tower, given in config.towers.items():
        if given.feature not in texts:
            _unknown(f"{tower}.feature", given.feature, "text feature", texts)
    ends = _ends(config)
    fitting = sorted(name for name, edge in spec.edges.items() if {edge.src.node, edge.dst.node} == set(ends))
    for key, name in (("positives", config.positives), ("negatives.edge", config.negatives.edge)):
        if name is not None and name not in fitting:
            _unknown(key, name, f"edge type between {ends[0]} and {ends[1]}", fitting)


def _unknown(key: str, name: str, what: str, known: Sequence[str]) -> None:
    hint = f"there are {', '.join(known)}" if known else f"the ready branches have no {what}"
    raise TextError("T021", f"text.finetune.{key}: {name!r} is no {what}", hint=hint)


def _ends(config: FineTuneConfig) -> tuple[str, str]:
    """Node types of member and document."""
    request = config.profile or config.resume
    assert request is not None  # noqa: S101 - the configuration demands one
    return request.feature.partition(".")[0], config.document.feature.partition(".")[0]


def source(config: FineTuneConfig, made: Mapping[str, Artefact]) -> Source:
    """Actions and texts out of compiled artefacts.

    Raises:
        TextError: T021 for a label that was not compiled, T022 for damaged texts.
    """
    from star_platform.text.finetune.actions import Actions
    from star_platform.text.finetune.data import Source
    from star_platform.text.finetune.versions import open_versions

    texts = {
        name: open_versions(made[f"texts/{tower.feature}"].path / "texts.parquet")
        for name, tower in config.towers.items()
    }
    parts = [_actions(made[f"edges/{config.positives}"], config, config.negatives.label, acted=True)]
    if config.negatives.edge is not None:
        parts.append(_actions(made[f"edges/{config.negatives.edge}"], config, None, acted=False))
    documents = made[f"nodes/{_ends(config)[1]}"]
    born = np.load(documents.path / "created_at.npy") if documents.details["created_at"] else None
    return Source(Actions.joined(*parts), texts, born)


def _actions(edges: Artefact, config: FineTuneConfig, label: str | None, *, acted: bool) -> Actions:
    """The edges of one type as actions; with `label`, those whose label is known."""
    from star_platform.text.finetune.actions import UNDATED, Actions

    folder, details = edges.path / str(edges.details["edge"]), edges.details
    indptr, src = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("indptr", "indices"))
    ends = np.asarray(src, np.int64), np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    members, documents = ends if details["src"] == _ends(config)[0] else ends[::-1]
    times = np.load(folder / "timestamps.npy") if details["dated"] else np.full(len(members), UNDATED)
    found = Actions(members, documents, times, np.full(len(members), acted))
    if label is None:
        return found
    if label not in details["labels"]:
        known = ", ".join(details["labels"])
        raise TextError(
            "T021",
            f"text.finetune.negatives.label: edge type {details['edge']!r} has no label {label!r}",
            hint=f"it has {known}" if known else "labels are compiled where an objective reads them",
        )
    values = np.load(folder / f"label.{label}.npy")
    known_rows = values >= 0
    return Actions(members, documents, times, values > 0).take(known_rows)


def judge(project: Project) -> Judge:
    """AUCs with 95 % intervals over members, and the paired gain over the frozen encoder."""
    resamples = project.file.evaluation.resamples

    def judged(labels: Any, scores: Mapping[str, Any], members: Any) -> dict[str, Any]:
        from star_platform.evaluation.auc import auc
        from star_platform.evaluation.bootstrap import ClusterBootstrap, interval

        drawn = ClusterBootstrap(members, resamples)
        values = {name: auc(labels, each) for name, each in scores.items()}
        resampled = {name: drawn.auc(labels, each) for name, each in scores.items()}
        told: dict[str, Any] = {
            name: {"auc": values[name], "interval": interval(values[name], resampled[name]).as_json()}
            for name in scores
        }
        tuned, frozen = values["finetuned"], values["frozen"]
        gain = None if tuned is None or frozen is None else tuned - frozen
        return told | {"gain": interval(gain, resampled["finetuned"] - resampled["frozen"]).as_json()}

    return judged


@contextmanager
def _group() -> Iterator[Group]:
    """The processes of `torchrun`, or this one alone."""
    from star_platform.text.finetune.distributed import ALONE, TorchGroup

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    import torch

    torch.distributed.init_process_group("gloo")
    try:
        yield TorchGroup()
    finally:
        torch.distributed.destroy_process_group()


def _shared(compiled: Any, project: Project, group: Group) -> dict[str, Artefact]:
    """What process 0 compiled, in every process."""
    if group.size == 1:
        found: dict[str, Artefact] = compiled()
        return found
    import torch

    told: list[Any] = [None]
    if group.rank == 0:
        try:
            told = [{name: (item.kind, item.fingerprint) for name, item in compiled().items()}]
        except Exception as error:  # the others must not wait for ever
            told = [error]
    torch.distributed.broadcast_object_list(told)
    if isinstance(told[0], Exception):
        raise told[0]
    return {name: project.store.open(*which) for name, which in told[0].items()}
