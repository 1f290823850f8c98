from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from star_platform.errors import TrainingError
from star_platform.gnn.aligner import alignment_loss
from star_platform.gnn.alignment import FILE, LOSS, Alignment, AlignTarget, load_alignment
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.inference import Embedder
from star_platform.gnn.model_io import CONFIG, WEIGHTS, load_model
from star_platform.gnn.trainer import HISTORY, Trainer, train
from star_platform.graph.storage import Graph
from tests.gnn.planted import DAY, FAST, JOBS, MEMBERS, START, applied, planted_graph, views
from tests.gnn.test_training import KillAfter, Killed

OLD_DIM, DIM = 12, 24
MOMENT = START + 15 * DAY
CONFIG_NEW = FAST.model_copy(update={"dim": DIM, "max_epochs": 4})
FILES = (WEIGHTS, CONFIG, HISTORY, FILE)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return planted_graph(tmp_path_factory.mktemp("planted") / "graph")


def vectors_of(graph: Graph, model_dir: Path, node: str) -> np.ndarray:
    everyone = np.arange(graph.num_nodes(node), dtype=np.int64)
    moments = np.full(len(everyone), MOMENT, dtype=np.int64)
    return Embedder(graph, load_model(model_dir, graph)).vectors(node, everyone, moments)


@pytest.fixture(scope="module")
def alignment(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Alignment:
    """To the vectors of a narrower model, whose rows are in reverse order and lack every fifth node."""
    model = tmp_path_factory.mktemp("old") / "model"
    model.mkdir()
    train(graph, {"views": views()}, FAST.model_copy(update={"dim": OLD_DIM, "seed": 5}), model.parent / "work", model)
    nodes = {}
    for node in ("member", "job"):
        rows = np.flatnonzero(np.arange(graph.num_nodes(node)) % 5)
        vectors = vectors_of(graph, model, node)[::-1]
        nodes[node] = AlignTarget(rows, graph.num_nodes(node) - 1 - rows, vectors)
    return Alignment(1, "old-space", "single", 16.0, 64, MOMENT, nodes, "fingerprint")


def run(
    graph: Graph,
    folder: Path,
    alignment: Alignment | None,
    config: TrainingConfig = CONFIG_NEW,
    **objectives: object,
) -> dict[str, object]:
    out = folder / "model"
    out.mkdir(parents=True, exist_ok=True)
    return train(
        graph,
        objectives or {"views": views()},  # type: ignore[arg-type]
        config,
        folder / "work",
        out,
        alignment=alignment,
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}


def far(alignment: Alignment, node: str) -> Alignment:
    """With two earlier maps of one node type."""
    rng = np.random.default_rng(0)
    maps = tuple(rng.normal(size=(OLD_DIM, dim)).astype(np.float32) for dim in (6, 8))
    nodes = {**alignment.nodes, node: replace(alignment.nodes[node], earlier=maps)}
    return replace(alignment, mode="multi", nodes=nodes)


def test_the_formula_on_tiny_numbers() -> None:
    delta = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    one, two = torch.tensor([[1.0], [1.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    single = alignment_loss(delta, [], [1.0])
    assert float(single) == pytest.approx((1 + 4 + 0 + 1) / 4)
    multi = alignment_loss(delta, [one, two], [1.0, 1.0, 1.0])
    assert float(multi) == pytest.approx((6 / 4 + (9 + 1) / 2 + (4 + 4 + 0 + 1) / 4) / 3)
    scaled = alignment_loss(delta, [one], [2.0, 10.0])
    assert float(scaled) == pytest.approx((6 / 4 / 2 + 10 / 2 / 10) / 2)


def test_a_term_reads_as_a_share_of_its_targets(graph: Graph, alignment: Alignment) -> None:
    """With B = 0 everything is unexplained: L is the mean square of the batch over that of all targets."""
    trainer = Trainer(graph, {"views": views()}, CONFIG_NEW, far(alignment, "member"))
    aligner = trainer.aligner
    assert aligner is not None
    with torch.no_grad():
        for matrix in aligner.maps:
            matrix.zero_()
        losses = [float(aligner.loss(trainer.model.encoder, aligner.make(step))) for step in range(20)]
    assert np.mean(losses) == pytest.approx(1.0, abs=0.1)


def test_weight_0_is_plain_training_bit_for_bit(graph: Graph, alignment: Alignment, tmp_path: Path) -> None:
    plain = run(graph, tmp_path / "plain", None)
    zero = run(graph, tmp_path / "zero", replace(alignment, weight=0.0))
    assert [each.pop("timing") is not None for each in (plain, zero)] == [True, True]
    assert zero == plain
    assert content(tmp_path / "zero") == content(tmp_path / "plain")
    assert load_alignment(tmp_path / "zero" / "model") == {}
    run(graph, tmp_path / "one", alignment)
    assert content(tmp_path / "one")[WEIGHTS] != content(tmp_path / "plain")[WEIGHTS]


def test_a_large_weight_drives_delta_towards_0_and_b_leads_from_new_to_old(
    graph: Graph, alignment: Alignment, tmp_path: Path
) -> None:
    longer = CONFIG_NEW.model_copy(update={"max_epochs": 18, "patience": 99})
    left: dict[float, float] = {}
    for weight in (0.01, 16.0):
        folder = tmp_path / str(weight)
        details = run(graph, folder, replace(alignment, weight=weight), longer)
        assert details["alignment"]["nodes"] == {"job": JOBS * 4 // 5, "member": MEMBERS * 4 // 5}  # type: ignore[index]
        maps = load_alignment(folder / "model")
        shares = []
        for node, target in alignment.nodes.items():
            assert maps[node].shape == (DIM, OLD_DIM)
            assert maps[node].dtype == np.float32
            new, old = vectors_of(graph, folder / "model", node)[target.rows], target.vectors[target.old_rows]
            shares.append(float(np.square(old - new @ maps[node]).mean() / np.square(old).mean()))
        left[weight] = float(np.mean(shares))
    assert left[16.0] < 0.15
    assert left[16.0] < left[0.01] / 3


def test_multi_without_earlier_releases_is_single(graph: Graph, alignment: Alignment, tmp_path: Path) -> None:
    run(graph, tmp_path / "single", alignment)
    run(graph, tmp_path / "multi", replace(alignment, mode="multi"))
    assert content(tmp_path / "single").keys() == set(FILES)
    details = [content(tmp_path / name) for name in ("single", "multi")]
    assert details[0] == details[1]
    run(graph, tmp_path / "ignored", replace(far(alignment, "job"), mode="single"))
    assert content(tmp_path / "ignored") == details[0]
    run(graph, tmp_path / "far", far(alignment, "job"))
    assert content(tmp_path / "far")[FILE] != details[0][FILE]


def test_earlier_maps_get_no_gradient(graph: Graph, alignment: Alignment) -> None:
    trainer = Trainer(graph, {"views": views()}, CONFIG_NEW, far(alignment, "member"))
    aligner = trainer.aligner
    assert aligner is not None
    before = [map_.clone() for maps in aligner._earlier for map_ in maps]
    assert len(before) == 2
    starts = [matrix.detach().clone() for matrix in aligner.maps]
    for key in trainer.training.epoch(0)[:3]:
        losses = trainer._step(*trainer._made(key))
        assert losses[LOSS] > 0
    assert len(list(aligner.parameters())) == 2  # B of jobs and of members, and nothing else
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in aligner.parameters())
    assert not any(map_.requires_grad for maps in aligner._earlier for map_ in maps)
    after = [map_ for maps in aligner._earlier for map_ in maps]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(starts, aligner.maps, strict=True))


def test_aligned_nodes_are_seen_as_they_are_published(graph: Graph, alignment: Alignment) -> None:
    trainer = Trainer(graph, {"views": views()}, CONFIG_NEW, alignment)
    aligner, encoder = trainer.aligner, trainer.model.encoder.train()
    assert aligner is not None
    batch = aligner.make(0)
    assert torch.equal(aligner.loss(encoder, batch), aligner.loss(encoder, batch))  # dropout would differ
    assert encoder.training


def test_b_has_no_weight_decay(graph: Graph, alignment: Alignment) -> None:
    trainer = Trainer(graph, {"views": views()}, CONFIG_NEW, alignment)
    decays = {id(p): group["weight_decay"] for group in trainer.optimiser._adam.param_groups for p in group["params"]}
    assert trainer.aligner is not None
    assert {decays[id(p)] for p in trainer.aligner.parameters()} == {0.0}
    assert {decays[id(p)] for p in trainer.model.parameters()} == {CONFIG_NEW.weight_decay}


def test_a_killed_run_resumes_to_the_same_bytes(graph: Graph, alignment: Alignment, tmp_path: Path) -> None:
    objectives = {"views": views("in-batch"), "applied": applied(0.5)}
    guarded = far(alignment, "member")
    run(graph, tmp_path / "whole", guarded, **objectives)
    killed = tmp_path / "killed"
    (killed / "model").mkdir(parents=True)
    for steps in (4, 19, 30):  # before the first checkpoint, after one, and in a later epoch
        torch.manual_seed(steps)
        with pytest.raises(Killed):
            train(
                graph,
                objectives,
                CONFIG_NEW,
                killed / "work",
                killed / "model",
                KillAfter(steps),
                alignment=guarded,
            )
    run(graph, killed, guarded, **objectives)
    assert content(killed) == content(tmp_path / "whole")
    with pytest.raises(TrainingError, match="M007"):
        run(graph, killed, replace(guarded, fingerprint="another"), **objectives)
    with pytest.raises(TrainingError, match="M007"):
        run(graph, killed, None, **objectives)


def test_no_model_is_chosen_while_alignment_comes_down(graph: Graph, alignment: Alignment, tmp_path: Path) -> None:
    """The first fifth of 4 epochs ends before 1.0, so only the validation at 4/7 may not be chosen."""
    trainer = Trainer(graph, {"views": views()}, CONFIG_NEW, alignment)
    aucs = iter([0.99, 0.5, 0.6, 0.4, 0.4, 0.4, 0.4, 0.4])
    trainer.validate = lambda: {"views": next(aucs)}  # type: ignore[method-assign]
    (tmp_path / "model").mkdir()
    details = trainer.run(tmp_path / "work", tmp_path / "model", KillAfter(10**6))
    assert (details["best_epoch"], details["validation_auc"]) == (pytest.approx(1 + 4 / 7, abs=1e-6), 0.6)


def test_later_edges_are_not_seen(graph: Graph, alignment: Alignment, tmp_path: Path) -> None:
    def seen(one: Graph) -> list[torch.Tensor]:
        aligner = Trainer(one, {"views": views()}, CONFIG_NEW, alignment).aligner
        assert aligner is not None
        return [part for block in aligner.make(3).trees.blocks for part in (block.neighbours, block.ages)]

    mine = seen(graph)
    later = seen(planted_graph(tmp_path / "later", extra=300, at=MOMENT))  # at the moment itself is not before it
    assert all(torch.equal(one, other) for one, other in zip(mine, later, strict=True))
    earlier = seen(planted_graph(tmp_path / "earlier", extra=300, at=MOMENT - 1))
    assert mine[0].shape != earlier[0].shape or not torch.equal(mine[0], earlier[0])


def test_what_cannot_be_aligned_is_refused(graph: Graph, alignment: Alignment) -> None:
    member = alignment.nodes["member"]
    wrong = {
        "after validation starts": replace(alignment, moment=START + 31 * DAY),
        "no node of the graph": replace(alignment, nodes={}),
        "do not fit": replace(alignment, nodes={"member": replace(member, old_rows=member.old_rows + MEMBERS)}),
        "another dimension": replace(
            alignment, nodes={"member": replace(member, earlier=(np.ones((3, 2), np.float32),))}
        ),
    }
    for message, unusable in wrong.items():
        with pytest.raises(TrainingError, match=message) as caught:
            Trainer(graph, {"views": views()}, CONFIG_NEW, unusable)
        assert caught.value.code == "M011"


def test_a_damaged_map_is_refused(graph: Graph, alignment: Alignment, tmp_path: Path) -> None:
    assert load_alignment(tmp_path) == {}
    (tmp_path / FILE).write_bytes(b"not safetensors")
    with pytest.raises(TrainingError, match="M008"):
        load_alignment(tmp_path)
