"""The releases as chains r1, r2, r3: each trained without regard to the one before, or jointly with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Setting:
    """What a run of the experiment depends on."""

    work: Path
    members: int
    seed: int
    epochs: int

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
        self.data = make_market(self.work, Size(setting.members, setting.seed))
        self.first = self._train(VERSIONS[0])

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
        second, third = self._train(VERSIONS[1]), self._train(VERSIONS[2])
        steps = ridge_maps(third, second), ridge_maps(second, self.first)
        return Chain(third, {"direct": ridge_maps(third, self.first), "composed": composed(*steps)})

    def joint(self, mode: str, weight: float = WEIGHT) -> Chain:
        """Each aligned to the one before; `direct` is a ridge map fitted to the same encoder afterwards."""
        second = self._train(VERSIONS[1], self.first, "single", weight)  # one older release: multi is single
        back = learned_maps(second, self.first)
        third = self._train(VERSIONS[2], second, mode, weight, (back,))
        maps = {"direct": ridge_maps(third, self.first), "composed": composed(learned_maps(third, second), back)}
        return Chain(third, maps)

    def choose(self) -> None:
        """Weights beside each other on r2: its own validation AUC, and R2 of the map to r1 on held-out entities."""
        plain = self._train(VERSIONS[1])
        print("  ridge", fidelity(ridge_maps(plain, self.first), plain, self.first))
        for weight in CHOICES:
            second = self._train(VERSIONS[1], self.first, "single", weight)
            print(f"  weight {weight:g}", fidelity(learned_maps(second, self.first), second, self.first), flush=True)
