"""The releases as chains r1, r2, r3: each trained without regard to the one before, or jointly with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from market import VERSIONS, Version, compile_graph, make_market
from releases import Maps, Trained, align, composed, fidelity, learned_maps, ridge_maps, train_release

from star_platform.demo.generate import Size
from star_platform.gnn.config import TrainingConfig
from star_platform.graph.storage import Graph
from star_platform.planning.spec import GraphSpec

WEIGHT = 16.0
"""Of the alignment term; chosen by `--choose`, on validation data."""
CHOICES = (1.0, 4.0, 16.0, 64.0, 256.0)
Compiled = tuple[Graph, GraphSpec]
Ids = Literal["none", "beside", "alone"]
"""Learned id vectors of members and jobs: none, beside what is written of them, or with applications alone."""
IDS: tuple[Ids, ...] = get_args(Ids)


@dataclass(frozen=True)
class Setting:
    """What a run of the experiment depends on."""

    work: Path
    members: int
    seed: int
    epochs: int
    ids: Ids = "none"
    same_day: bool = False
    """Whether r2 and r3 are trained on r1's data: they know what r1 knows, no more and no less."""

    @property
    def name(self) -> str:
        """Of the report."""
        ids = "" if self.ids == "none" else f"-ids-{self.ids}"
        return f"report{ids}{'-same-day' if self.same_day else ''}"

    @property
    def versions(self) -> tuple[Version, ...]:
        """The releases, oldest first."""
        return tuple(
            replace(
                version,
                branches={
                    "none": version.branches,
                    "beside": (*version.branches, "identity"),
                    "alone": ("applications", "identity"),
                }[self.ids],
                day=VERSIONS[0].day if self.same_day else version.day,
            )
            for version in VERSIONS
        )

    @property
    def training(self) -> TrainingConfig:
        """That of the demo, but slower and longer, and with smaller shares held back; `dim` is each release's own."""
        return TrainingConfig(
            fan_outs=(20,),
            batch_size=256,
            negatives=256,
            lr=0.001,
            validation_share=0.05,
            test_share=0.1,
            max_epochs=self.epochs,
            validate_every=1.0,
            seed=self.seed,
            threads=1,
        )


@dataclass(frozen=True)
class Chain:
    """r1, r2 and r3, trained in one way, and every map from r3 to r1 that they allow."""

    newest: Trained
    maps: Mapping[str, Maps]
    """`direct` and `composed`."""


class Experiment:
    """Data, graphs, and the trained chains."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.work = setting, setting.work
        self.versions, market = setting.versions, make_market(self.work, Size(setting.members, setting.seed))
        self.data = dict.fromkeys(market, market[VERSIONS[0].number]) if setting.same_day else market
        self.first = self._train(self.versions[0])

    def _compiled(self, version: Version) -> Compiled:
        return compile_graph(self.work, self.data[version.number], version.branches)

    def _train(self, version: Version, *alignment: Any) -> Trained:
        """`alignment`: old release, mode, weight, maps from the old release to those before it."""
        compiled = self._compiled(version)
        chosen = align(*compiled, self.setting.training, *alignment) if alignment else None
        trained = train_release(self.work, version, compiled, self.setting.training, chosen)
        what = f"{trained.folder.name}: validation AUC {trained.details['validation_auc']:.4f}"
        print(f"{what} at epoch {trained.details['best_epoch']:g}", flush=True)
        return trained

    def post_hoc(self) -> Chain:
        """Trained without regard to each other; ridge maps afterwards."""
        second, third = self._train(self.versions[1]), self._train(self.versions[2])
        steps = ridge_maps(third, second), ridge_maps(second, self.first)
        return Chain(third, {"direct": ridge_maps(third, self.first), "composed": composed(*steps)})

    def joint(self, mode: str, weight: float = WEIGHT) -> Chain:
        """Each aligned to the one before; `direct` is a ridge map fitted to the same encoder afterwards."""
        second = self._train(self.versions[1], self.first, "single", weight)  # one older release: multi is single
        back = learned_maps(second, self.first)
        third = self._train(self.versions[2], second, mode, weight, (back,))
        maps = {"direct": ridge_maps(third, self.first), "composed": composed(learned_maps(third, second), back)}
        return Chain(third, maps)

    def choose(self) -> None:
        """Weights beside each other on r2: its own validation AUC, and R2 of the map to r1 on held-out entities."""
        plain = self._train(self.versions[1])
        print("  ridge", fidelity(ridge_maps(plain, self.first), plain, self.first))
        for weight in CHOICES:
            second = self._train(self.versions[1], self.first, "single", weight)
            print(f"  weight {weight:g}", fidelity(learned_maps(second, self.first), second, self.first), flush=True)
