"""The demo marketplace as three releases saw it: data cut at three moments."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from star_platform.demo.generate import Size, generate, impressions
from star_platform.demo.world import DAY, START
from star_platform.graph import compile as stages
from star_platform.graph.privacy import pseudonymiser
from star_platform.graph.storage import Graph, open_graph
from star_platform.planning.canonical import digest
from star_platform.planning.merge import merge
from star_platform.planning.spec import GraphSpec
from star_platform.project import Project, read_project_file
from star_platform.signals.load import load_branch
from star_platform.text.cache import TextCache
from star_platform.text.stage import encode_texts, fit_encoder

REPOSITORY = Path(__file__).resolve().parents[2]
OWN_BRANCHES = Path(__file__).resolve().parent / "signal_branches"


@dataclass(frozen=True)
class Version:
    """A release: what it knows, and how long its vectors are."""

    number: int
    day: int
    """Of 2025; the release sees what happened before."""
    dim: int
    branches: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"r{self.number}"

    @property
    def as_of(self) -> int:
        return START + self.day * DAY


_FIRST = ("marketplace-core", "companies", "skills")
VERSIONS = (Version(1, 133, 64, _FIRST), Version(2, 155, 128, _FIRST), Version(3, 181, 200, _FIRST))
"""No release sees an edge that a later one validates or tests on: these come after the day of the one before."""

_KNOWN_FROM = {
    "members": "joined_at",
    "jobs": "posted_at",
    "profiles": "updated_at",
    "applies": "applied_at",
    "reactions": "reacted_at",
    "inmails": "sent_at",
}
_OWNERS = {"profiles": "member_id", "settings": "member_id", "member_skills": "member_id", "job_skills": "job_id"}


def make_market(work: Path, size: Size) -> dict[int, Path]:
    """Generate, and cut at every release; folders by release. Each also has the impressions of the weeks after it."""
    market = work / f"market-{digest(size)[:8]}"
    folders = {version.number: market / version.name for version in VERSIONS}
    if not (market / "done").exists():
        shutil.rmtree(market, ignore_errors=True)
        world = generate(market / "whole", size)
        for version in VERSIONS:
            _cut(market / "whole", folders[version.number], version)
            if version.number < len(VERSIONS):
                pq.write_table(impressions(world, version.as_of), folders[version.number] / "impressions.parquet")
        (market / "done").touch()
    return folders


def _cut(whole: Path, folder: Path, version: Version) -> None:
    folder.mkdir(parents=True)
    moment = pa.scalar(version.as_of, pa.timestamp("us", tz="UTC"))
    kept: dict[str, pa.Array[Any]] = {}
    paths = [path for path in whole.iterdir() if path.suffix in (".parquet", ".csv")]
    for path in sorted(paths, key=lambda path: (path.stem in _OWNERS, path.name)):  # members and jobs first
        table = pq.read_table(path) if path.suffix == ".parquet" else pyarrow.csv.read_csv(path)
        if path.stem in _KNOWN_FROM:
            table = table.filter(pc.less(table[_KNOWN_FROM[path.stem]], moment))
        if path.stem in _OWNERS:
            table = table.filter(pc.is_in(table[_OWNERS[path.stem]], kept[_OWNERS[path.stem]]))
        if path.stem in ("members", "jobs"):
            key = f"{path.stem[:-1]}_id"
            kept[key] = table[key].combine_chunks()
        if path.suffix == ".parquet":
            pq.write_table(table, folder / path.name)
        else:
            pyarrow.csv.write_csv(table, folder / path.name)


def compile_graph(work: Path, data: Path, branches: tuple[str, ...]) -> tuple[Graph, GraphSpec]:
    """The graph of some branches, the repository's or those kept here, over the tables in `data`; built once."""
    changes = {"variables": {"data": str(data)}, "artefacts": str(work / "artefacts")}
    project = Project(REPOSITORY, read_project_file(REPOSITORY).model_copy(update=changes))
    own = [path for name in branches if (path := OWN_BRANCHES / f"{name}.yaml").exists()]
    shared = [name for name in branches if OWN_BRANCHES / f"{name}.yaml" not in own]
    spec = merge((*project.branches(shared), *(load_branch(path, root=REPOSITORY) for path in own)))
    key = digest([data.parent.name, data.name, branches])
    engine = project.engine(spec.deny_columns)
    compiler = stages.Compiler(spec, engine, project.store, pseudonymiser(project.pseudonym_key))
    try:
        nodes = {name: stages.build_nodes(compiler, name, digest([key, "nodes", name])) for name in spec.nodes}
        edges = {
            name: stages.build_edges(
                compiler, name, nodes[edge.src.node], nodes[edge.dst.node], digest([key, "edges", name])
            )
            for name, edge in spec.edges.items()
        }
        features, texts = {}, {}
        for name, feature in spec.features.items():
            of, print_ = nodes[name.partition(".")[0]], digest([key, "features", name])
            if feature.kind == "text":
                texts[name] = stages.build_texts(compiler, name, of, print_)
            elif feature.kind != "id":
                features[name] = stages.build_feature(compiler, name, of, print_)
        cohorts = {
            name: stages.build_cohort(compiler, name, nodes[cohort.node], digest([key, "cohorts", name]))
            for name, cohort in spec.cohorts.items()
        }
        encoder, cache = fit_encoder(project.encoder, texts.values()), TextCache(project.artefacts / "text-cache")
        vectors = {
            name: encode_texts(text, encoder, cache, project.store, digest([key, "text", name]))
            for name, text in texts.items()
        }
        parts = stages.GraphParts(
            nodes=nodes, edges=edges, features=features, texts=texts, vectors=vectors, cohorts=cohorts
        )
        return open_graph(stages.assemble_graph(compiler, parts, digest([key, "graph"])).path), spec
    finally:
        engine.close()
