"""The text encoder by itself, wired: the texts of the ready branches, and their vectors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.errors import LeaseHeld
from star_platform.progress import SILENT, Progress

if TYPE_CHECKING:
    from star_platform.planning.spec import GraphSpec
    from star_platform.project.project import Project
    from star_platform.registry.artefacts import Artefact
    from star_platform.registry.leases import Lease
    from star_platform.release.model import ReleaseRequest
    from star_platform.text.encoder import TextEncoder
    from star_platform.text.filling import Share
    from star_platform.text.forecast import Forecast

_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class EncodedFeature:
    """What became of a feature's texts."""

    feature: str
    encoder: str
    """Fingerprint: the name of the space, and of the part of the cache."""
    before: Forecast
    seconds: float
    """Of encoding and writing; the forecast, which encodes a few texts, is part of it."""
    artefact: Path | None
    """Folder of values.npy and present.npy, as the next release finds it; None for one share of the texts."""
    table: Path | None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        before = self.before
        return {
            "feature": self.feature,
            "encoder": self.encoder,
            "rows": before.rows,
            "texts": before.texts,
            "cached": before.cached,
            "encoded": before.to_encode,
            "skipped_share": round(before.skipped_share, 4),
            "tokens_to_encode": before.tokens,
            "estimated_hours": round(before.seconds / 3600, 4),
            "seconds": round(self.seconds, 3),
            "texts_per_s": round(before.to_encode / self.seconds, 1) if self.seconds else 0.0,
            "artefact": None if self.artefact is None else str(self.artefact),
            "table": None if self.table is None else str(self.table),
        }


def text_features(spec: GraphSpec) -> list[str]:
    """Names of the features of `kind: text`."""
    from star_platform.signals.model import TextFeature

    return [name for name, feature in spec.features.items() if isinstance(feature, TextFeature)]


def encode_features(
    project: Project,
    share: Share | None = None,
    out: Path | None = None,
    only: Sequence[str] | None = None,
    progress: Progress = SILENT,
) -> Iterator[EncodedFeature]:
    """Encode every text feature of the ready branches, as the next release would, which then finds the vectors.

    With a share of several (`share.ranks` > 1) only this share's texts are encoded, into the cache: any number of
    processes do so at once, and a run without a share then finds all vectors and writes the artefacts. The texts are
    compiled by whoever comes first.

    Raises:
        LeaseHeld: R006 somebody is releasing; not for a share, which waits.
        TextError: of the encoder, T008, T013.
    """
    from star_platform.text.cache import TextCache
    from star_platform.text.export import write_parquet
    from star_platform.text.filling import WHOLE, fill_share
    from star_platform.text.forecast import forecast
    from star_platform.text.stage import encode_texts, fit_encoder

    share = share or WHOLE
    with _compiled(project, only, share.ranks > 1, progress) as (request, made):
        features = text_features(request.spec)
        cache = TextCache(project.artefacts / "text-cache")
        whole: TextEncoder = fit_encoder(project.encoder, [made[f"texts/{name}"] for name in features])
        stages = {stage.name: stage for stage in request.plan.stages}
        for name in features:
            begin, texts, encoder = time.monotonic(), made[f"texts/{name}"], whole.for_feature(name)
            before = forecast(texts, encoder, cache, share)
            progress.line(told(name, before))
            vectors = table = None
            if share.ranks > 1:
                fill_share(texts, encoder, cache, share, progress)
            else:
                vectors = encode_texts(
                    texts, encoder, cache, project.store, stages[f"text/{name}"].fingerprint, progress
                )
            if vectors is not None and out is not None:
                table = out / f"{name}.parquet"
                write_parquet(texts, vectors, _ids(made[f"nodes/{name.partition('.')[0]}"]), table)
            seconds = time.monotonic() - begin
            yield EncodedFeature(
                name, encoder.fingerprint, before, seconds, None if vectors is None else vectors.path, table
            )


def told(feature: str, before: Forecast) -> str:
    """A line about what is to come."""
    if not before.to_encode:
        return f"{feature}: {before.texts:,} texts, all cached"
    hours = before.seconds / 3600
    long = f"{before.seconds:,.0f} s" if hours < 0.1 else f"{hours:,.1f} hours"
    work = f"{before.to_encode:,} to encode (about {before.tokens:,} tokens, {long})"
    return f"{feature}: {before.texts:,} texts, {before.cached:,} cached, {work}"


def _ids(nodes: Artefact) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(nodes.path / "ids.parquet").column("id").combine_chunks()


@contextmanager
def _compiled(
    project: Project, only: Sequence[str] | None, waits: bool, progress: Progress
) -> Iterator[tuple[ReleaseRequest, dict[str, Artefact]]]:
    """The nodes and texts of every text feature; the lease is kept unless this is one of several shares."""
    from star_platform.release import LEASE

    if project.registry.status().state == "absent":
        project.registry.upgrade()
    request = project.plan(only)
    while True:
        made = _found(project, request)
        if waits and made is not None:
            yield request, made
            return
        try:
            with project.registry.lease(LEASE) as lease:
                made = _build(project, request, lease, progress)
                if not waits:
                    yield request, made
                    return
        except LeaseHeld as error:
            if not waits or error.code != "R006":
                raise
            time.sleep(_WAIT_SECONDS)  # another share compiles the texts


def _stages(request: ReleaseRequest) -> list[Any]:
    """Stages that the vectors need before them, in order."""
    from star_platform.release.trial import needed

    wanted = {
        stage.name
        for name in text_features(request.spec)
        for stage in needed(request.plan.stages, f"text/{name}")
        if stage.kind != "text"
    }
    return [stage for stage in request.plan.stages if stage.name in wanted]


def _found(project: Project, request: ReleaseRequest) -> dict[str, Artefact] | None:
    """The artefacts of these stages, or None when one is not there yet."""
    found = {stage.name: project.store.find(stage.kind, stage.fingerprint) for stage in _stages(request)}
    return {name: artefact for name, artefact in found.items() if artefact is not None} if all(found.values()) else None


def _build(project: Project, request: ReleaseRequest, lease: Lease, progress: Progress) -> dict[str, Artefact]:
    from star_platform.release.build import BUILDERS
    from star_platform.release.model import Run
    from star_platform.release.trial import NO_RELEASE

    with closing(project.engine(request.spec.deny_columns)) as engine:
        run = Run(project.workshop(engine, progress), request, NO_RELEASE, lease)
        for stage in _stages(request):
            lease.check()
            found = project.store.find(stage.kind, stage.fingerprint)
            run.done[stage.name] = found or BUILDERS[stage.kind](run, stage)
        return run.done
