"""A small shop that publishes: real Feast, SQLite online, Parquet and DuckDB offline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from star_platform.compat.model import CompatMap, Hidden, save_maps
from star_platform.publishing.model import ConsumerPin, FeastState, NodeVectors, PublishedRelease
from star_platform.publishing.publish import Publisher
from star_platform.publishing.scaffold import write_feature_repo
from tests.publishing.nursery import Nursery

AS_OF = 1_700_000_000_000_000
DAY = 86_400_000_000

# As the scaffold's definitions.py, with the state read from a file: the project is a later room.
DEFINITIONS = """
import json
from pathlib import Path
from star_platform.compat.model import load_maps
from star_platform.publishing.model import ConsumerPin, FeastState, PublishedRelease
from star_platform.publishing.objects import definitions

here = Path(__file__).resolve().parent
data = json.loads((here / "state.json").read_text())
state = FeastState(
    Path(data["offline_root"]),
    tuple(PublishedRelease.from_record(item) for item in data["releases"]),
    data["active"],
    tuple(ConsumerPin(name, owner, tuple(nodes), release) for name, owner, nodes, release in data["consumers"]),
    routes=load_maps(here / "routes") if (here / "routes").exists() else (),
    notices={int(number): told for number, told in data["notices"].items()},
)
for _number, _object in enumerate(definitions(state, here)):
    globals()[f"object_{_number:04d}"] = _object
"""


def vectors_of(release: int, members: int = 1_500, jobs: int = 300, dim: int = 8) -> list[NodeVectors]:
    """Members have whole numbers as ids, jobs have text."""
    generator = np.random.default_rng(release)
    texts = sorted(f"job/{number}" for number in range(jobs))
    return [
        NodeVectors(
            "member",
            pa.array(np.arange(members, dtype=np.int32) * 3 - 7),
            generator.standard_normal((members, dim)).astype(np.float32),
        ),
        NodeVectors("job", pa.array(texts), generator.standard_normal((jobs, dim)).astype(np.float32)),
    ]


def make_map(node: str, source: int, target: int, d_n: int, d_m: int, h: int = 0) -> CompatMap:
    """Any map between the spaces that `Shop.publish` names; with `h` hidden units."""
    generator = np.random.default_rng(source * 100 + target)
    hidden = Hidden(*(generator.standard_normal(shape) for shape in ((d_n, h), (h,), (h, d_m), (d_m,)))) if h else None
    return CompatMap(
        node=node,
        source=source,
        target=target,
        source_space=f"space-{source}",
        target_space=f"space-{target}",
        weights=generator.standard_normal((d_n, d_m)),
        bias=generator.standard_normal(d_m),
        normalise=False,
        method="residual" if h else "ridge",
        hidden=hidden,
        fidelity={"r2": 0.9, "cosine_mean": 0.95},
    )


@dataclass
class Shop:
    root: Path
    publisher: Publisher
    state: FeastState
    vectors: dict[int, list[NodeVectors]] = field(default_factory=dict)

    @property
    def repo(self) -> Path:
        return self.root / "feature_repo"

    @property
    def database(self) -> Path:
        return self.root / ".star" / "feast_online.db"

    def work_dir(self, release: int) -> Path:
        path = self.root / "work" / str(release)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, release: int, vectors: list[NodeVectors] | None = None) -> PublishedRelease:
        self.vectors[release] = vectors if vectors is not None else vectors_of(release)
        published = self.publisher.publish(
            release,
            self.vectors[release],
            spaces={item.node: f"space-{release}" for item in self.vectors[release]},
            as_of=AS_OF + release * DAY,
            work_dir=self.work_dir(release),
            state=self.state,
        )
        self.state = self.state.with_release(published)
        self.save()
        return published

    def set(self, active: int | None, *consumers: ConsumerPin) -> tuple[str, ...]:
        self.state = replace(self.state, active=active, consumers=consumers)
        self.save()
        return self.publisher.reconcile(self.state)

    def save(self) -> None:
        data = {
            "offline_root": str(self.state.offline_root),
            "releases": [release.record() for release in self.state.releases],
            "active": self.state.active,
            "consumers": [[pin.name, pin.owner, pin.nodes, pin.release] for pin in self.state.consumers],
            "notices": {str(number): dict(told) for number, told in self.state.notices.items()},
        }
        if self.state.routes:
            (self.repo / "routes").mkdir(exist_ok=True)
            save_maps(self.repo / "routes", self.state.routes)
        (self.repo / "state.json").write_text(json.dumps(data))


def make_shop(root: Path) -> Shop:
    write_feature_repo(root / "feature_repo", "star_test")
    (root / "feature_repo" / "definitions.py").write_text(DEFINITIONS)
    publisher = Publisher(root / "feature_repo", root / ".star" / "offline", shard_rows=400)
    shop = Shop(root, publisher, FeastState(publisher.offline_root))
    shop.save()
    return shop


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    started = Nursery()
    yield started
    started.close()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return make_shop(tmp_path)


RANKER = ConsumerPin("ranker", "ads@example.com", ("member", "job"), 1)
MAILER = ConsumerPin("mailer", "mail@example.com", ("member",), 2)


@pytest.fixture(scope="module")
def two_releases(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """r1 and r2 published, r2 active, one consumer on each; for tests that only read."""
    shop = make_shop(tmp_path_factory.mktemp("two"))
    shop.publish(1)
    shop.publish(2)
    shop.set(2, RANKER, MAILER)
    return shop
