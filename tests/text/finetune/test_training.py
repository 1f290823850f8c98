"""The whole on a tiny model with random weights: it learns, resumes to the same bytes, and is served as trained."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from star_platform.errors import TextError
from star_platform.text.config import TextConfig
from star_platform.text.encoder import encode, open_encoder
from star_platform.text.finetune import finetune as finetune_module
from star_platform.text.finetune import trainer as trainer_module
from star_platform.text.finetune.adapters import load_head, read_manifest, verify
from star_platform.text.finetune.batches import batch_of, epoch_order
from star_platform.text.finetune.config import FineTuneConfig
from star_platform.text.finetune.data import Data, prepare
from star_platform.text.finetune.distributed import ALONE, TorchGroup
from star_platform.text.finetune.finetune import Done, base_transformer, finetune
from star_platform.text.finetune.lora import TunedEncoder, linear_layers
from star_platform.text.finetune.metrics import auc, auc_by_length
from star_platform.text.finetune.steps import Stepper, schedule
from star_platform.text.finetune.trainer import Trainer

from .worlds import config, grads, planted


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def learn(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    def run(folder: Path | None = None, **given: Any) -> Done:
        folder = folder or tmp_path_factory.mktemp("run")
        source = planted(folder / "texts", resumes="resume" in given)
        transformer = base_transformer(TextConfig(encoder=str(tiny_bert)), folder)
        return finetune(source, config(**given), transformer, folder / "work", folder / "adapters")

    return run


@pytest.fixture(scope="module")
def done(learn: Callable[..., Done]) -> Done:
    return learn(epochs=6)


@pytest.fixture(scope="module")
def short(learn: Callable[..., Done]) -> Done:
    return learn(lora={"dropout": 0.1})


def test_it_learns_what_the_frozen_model_does_not_know(done: Done) -> None:
    judged = done.manifest["validation"]
    assert judged["finetuned"]["auc"] > 0.65
    assert judged["finetuned"]["auc"] > judged["frozen"]["auc"] + 0.1
    steps = done.manifest["training"]
    assert steps["steps"] == 6 * steps["steps_per_epoch"]
    assert steps["best_step"] in [entry["step"] for entry in steps["validations"]]
    best = max(entry["auc"] for entry in steps["validations"])
    assert judged["finetuned"]["auc"] == pytest.approx(best)  # the best checkpoint, not the last


def test_the_folder_is_named_by_its_content_and_says_what_it_is(done: Done, tiny_bert: Path) -> None:
    assert sorted(contents(done.folder)) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "head.safetensors",
        "manifest.json",
        "probe.json",
        "probe.npy",
    ]
    assert read_manifest(done.folder) == json.loads(json.dumps(done.manifest))
    assert done.manifest["prompts"] == {"job.text": "passage: ", "member.text": "query: "}
    assert done.manifest["limits"] == {"job.text": 64, "member.text": 64}  # the model takes no more
    assert not (done.folder.parents[1] / "work").exists()
    for name in ("adapter_config.json", "manifest.json"):  # the base is named as star.yaml names it
        assert str(done.folder.parents[1]) not in (done.folder / name).read_text()


def test_equal_runs_have_equal_bytes(learn: Callable[..., Done], short: Done) -> None:
    again = learn(lora={"dropout": 0.1})
    assert again.folder.name == short.folder.name
    assert contents(again.folder) == contents(short.folder)
    assert learn(lora={"dropout": 0.1}, seed=1).folder.name != short.folder.name


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [3, 9])
def test_a_killed_run_goes_on_to_the_same_bytes(
    at: int, learn: Callable[..., Done], short: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    step = Trainer._step

    def dies(self: Trainer, stepper: Stepper, which: np.ndarray, number: int) -> None:
        if number == at and at not in taken:
            taken.append(number)
            raise Killed
        taken.append(number)
        step(self, stepper, which, number)

    monkeypatch.setattr(Trainer, "_step", dies)
    monkeypatch.setattr(trainer_module, "_SAVE_SECONDS", 0.0)
    with pytest.raises(Killed):
        learn(tmp_path, lora={"dropout": 0.1})
    monkeypatch.setattr(finetune_module, "train_baseline", lambda *_: pytest.fail("the baseline was trained again"))
    found = learn(tmp_path, lora={"dropout": 0.1})
    assert taken.count(0) == 1  # it went on, and did not begin again
    assert contents(found.folder) == contents(short.folder)


def test_a_checkpoint_of_another_run_is_refused(
    learn: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Trainer._step

    def dies(self: Trainer, stepper: Stepper, which: np.ndarray, number: int) -> None:
        if number == 4:
            raise Killed
        step(self, stepper, which, number)

    monkeypatch.setattr(Trainer, "_step", dies)
    monkeypatch.setattr(trainer_module, "_SAVE_SECONDS", 0.0)
    with pytest.raises(Killed):
        learn(tmp_path)
    with pytest.raises(TextError, match="T025"):
        learn(tmp_path, lr=1e-4)
    (tmp_path / "work" / "checkpoint.safetensors").write_bytes(b"damaged")
    with pytest.raises(TextError, match="T025"):
        learn(tmp_path)


def test_served_vectors_are_the_trained_ones(done: Done, tiny_bert: Path, tmp_path: Path) -> None:
    served = TextConfig(encoder=str(tiny_bert))
    found = verify(done.folder, served, tmp_path)
    assert (found.probes, found.least_cosine > 0.9999) == (20, True)
    assert load_head(done.folder).pairs == ("dp",)
    base = encode(open_encoder(served, tmp_path), ["we hire a nurse"])
    tuned = encode(open_encoder(served.model_copy(update={"adapter": str(done.folder)}), tmp_path), ["we hire a nurse"])
    assert (base @ tuned.T).item() < 0.999
    other = tmp_path / "other"
    shutil.copytree(done.folder, other)
    weights = load_file(other / "adapter_model.safetensors")
    turned = {name: -value if "lora_A" in name else value for name, value in weights.items()}
    save_file(turned, other / "adapter_model.safetensors")
    with pytest.raises(TextError, match="T027"):
        verify(other, served, tmp_path)
    with pytest.raises(TextError, match="T026"):
        verify(tmp_path, served, tmp_path)
    with pytest.raises(TextError, match="T026"):
        load_head(tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        {"resume": {"feature": "member.resume"}, "head": {"pairs": ["dp", "dc", "pc"], "hidden": 0}},
        {"batch": {"mode": "accumulate", "size": 16, "micro": 4}, "loss": {"contrastive_rows": "all", "margin": 0.5}},
        {"batch": {"mode": "plain", "size": 16}, "loss": {"weights": {"bce": 0}}, "precision": "bfloat16"},
        {"resume": {"feature": "member.resume"}, "missing_resume": "drop", "sampling": "all", "warm_up": "auto"},
        {"gradient_checkpointing": True, "lora": {"targets": ["query", "value"], "dropout": 0.2}},
    ],
)
def test_every_way_of_training_runs_and_is_verified(
    given: dict[str, Any], learn: Callable[..., Done], tiny_bert: Path, tmp_path: Path
) -> None:
    found = learn(tmp_path, **given)
    assert found.manifest["settings"]["batch"]["mode"] == given.get("batch", {}).get("mode", "cached")
    assert verify(found.folder, TextConfig(encoder=str(tiny_bert)), tmp_path).least_cosine > 0.999
    last = found.manifest["training"]["validations"][-1]
    assert np.isfinite([last["bce"], last["contrastive"], last["auc"]]).all()


def test_a_decoder_is_tuned_too(tiny_decoder: Path, tmp_path: Path) -> None:
    transformer = base_transformer(TextConfig(encoder=str(tiny_decoder), pooling="layer_mean_cls"), tmp_path)
    found = finetune(
        planted(tmp_path), config(gradient_checkpointing=True), transformer, tmp_path / "work", tmp_path / "adapters"
    )
    text = TextConfig(encoder=str(tiny_decoder), pooling="layer_mean_cls")
    assert verify(found.folder, text, tmp_path).least_cosine > 0.999
    settings = json.loads((found.folder / "adapter_config.json").read_text())
    assert settings["target_modules"] == linear_layers(transformer.module) or len(settings["target_modules"]) == 7


# --- one step ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def parts(tiny_bert: Path, tmp_path: Path) -> Callable[..., tuple[TunedEncoder, Data, FineTuneConfig]]:
    def build(**given: Any) -> tuple[TunedEncoder, Data, FineTuneConfig]:
        settings = config(lora={"dropout": 0.1}, resume={"feature": "member.resume"}, **given)
        transformer = base_transformer(TextConfig(encoder=str(tiny_bert)), tmp_path)
        data = prepare(planted(tmp_path / "texts", resumes=True), settings, transformer, tmp_path / "tokens")
        encoder = TunedEncoder.of(transformer, settings)
        encoder.train()
        return encoder, data, settings

    return build


def step_gradient(encoder: TunedEncoder, data: Data, settings: FineTuneConfig, rows: int, group: Any = ALONE) -> Any:
    head = trainer_module.new_head(encoder, settings)
    stepper = Stepper(encoder, head, data, settings, group)
    stepper.gradients(epoch_order(len(data.training), 0, 0)[:rows], 3)
    found = grads({**encoder.parameters(), **dict(head.named_parameters())})
    for value in encoder.parameters().values():
        value.grad = None
    return found, stepper.told.means()


def test_a_cached_step_is_the_plain_one_and_an_accumulated_one_is_not(parts: Any) -> None:
    found: dict[str, Any] = {}
    for mode, micro, checkpointing in (
        ("plain", 500, False),
        ("cached", 7, False),
        ("cached", 7, True),
        ("accumulate", 2, False),
    ):
        batch = {"mode": mode, "size": 32, "micro": micro}
        encoder, data, settings = parts(batch=batch, gradient_checkpointing=checkpointing)
        encoder._peft.eval()  # dropout is drawn by micro-batch, and these differ
        if checkpointing:
            encoder.train()
            for module in encoder._peft.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        found[f"{mode}{checkpointing}"] = step_gradient(encoder, data, settings, 31)
    plain, told = found["plainFalse"]
    for name in ("cachedFalse", "cachedTrue"):
        assert ((found[name][0] - plain).norm() / plain.norm()) < 1e-4  # float32
        assert found[name][1] == pytest.approx(told, abs=1e-5)
    other, told_by_parts = found["accumulateFalse"]
    assert (other - plain).norm() / plain.norm() > 0.05
    assert told_by_parts["with_negative"] < told["with_negative"]  # a small pool has fewer semi-hard negatives


def test_a_text_is_encoded_once_and_missing_ones_not_at_all(parts: Any) -> None:
    _, data, _ = parts()
    rows = epoch_order(len(data.training), 0, 0)[:32]
    batch = batch_of(data.training, rows, data.tokens, 5, torch.device("cpu"))
    texts = [tuple(row.tolist()) for chunk in batch.chunks for row in chunk.rows]
    assert all(len(chunk.rows) <= 5 for chunk in batch.chunks)
    assert [len(text) for text in texts] == sorted(map(len, texts), reverse=True)
    part = data.training.take(rows)
    for tower, table in data.tokens.items():
        for at, slot in zip(batch.at[tower].tolist(), table.slots(part.rows[tower]).tolist(), strict=True):
            assert (at == -1) == (slot == -1)
            assert at == -1 or texts[at] == tuple(table[slot].tolist())
    assert (batch.at["resume"] == -1).any()
    distinct = sum(len(np.unique(each[each >= 0])) for each in part.rows.values())
    assert len(texts) == distinct


def _one_of_two(rank: int, port: int, build: Any, target: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    folder, bert, given = build
    transformer = base_transformer(TextConfig(encoder=bert), folder)
    source = planted(Path(target) / f"texts{rank}")
    found = finetune(
        source,
        config(**given),
        transformer,
        Path(target) / f"work{rank}",
        Path(target) / "adapters",
        group=TorchGroup(),
    )
    (Path(target) / f"done{rank}.json").write_text(json.dumps([found.folder.name, found.manifest]))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("mode", ["cached", "accumulate"])
def test_two_processes_train_what_one_does(
    mode: str, learn: Callable[..., Done], tiny_bert: Path, tmp_path: Path
) -> None:
    given = {"batch": {"mode": mode, "size": 32, "micro": 8}, "lora": {"dropout": 0.1}}
    alone = learn(**given)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    build = (tmp_path, str(tiny_bert), given)
    torch.multiprocessing.spawn(_one_of_two, (port, build, str(tmp_path)), nprocs=2)
    names = [json.loads((tmp_path / f"done{rank}.json").read_text()) for rank in (0, 1)]
    assert names[0][0] == names[1][0]  # both say where the adapter is, and one wrote it
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [names[0][0]]
    text = TextConfig(encoder=str(tiny_bert))
    words = ["we hire a nurse", "a senior engineer for our team"]

    def vectors(folder: Path) -> Any:
        return encode(open_encoder(text.model_copy(update={"adapter": str(folder)}), tmp_path), words)

    together = vectors(tmp_path / "adapters" / names[0][0])
    assert np.abs(together - vectors(alone.folder)).max() < 1e-3  # sums of float32 in another order


# --- small things -----------------------------------------------------------------------------------------------------


def test_the_rate_rises_and_falls() -> None:
    assert [schedule(step, 10, 2) for step in (0, 1, 2, 6, 9)] == [0.5, 1.0, 1.0, 0.5, 0.125]
    assert schedule(0, 1, 0) == 1.0
    assert config(warm_up="auto", batch={"size": 3172}).warm_up_steps(10_000) == 30
    assert config(warm_up="auto", batch={"size": 16}).warm_up_steps(1_000_000) == round(30 * 3172 / 16)
    assert config(warm_up="auto", batch={"size": 16}).warm_up_steps(50) == 10  # a short run is not all warm-up


def test_auc_by_hand() -> None:
    labels, scores = np.asarray([True, False, True, False]), np.asarray([0.9, 0.5, 0.5, 0.1])
    assert auc(labels, scores) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert auc(labels[:1], scores[:1]) is None
    buckets = auc_by_length(labels, scores, np.asarray([10, 64, 65, 3000]))
    assert buckets["1-64"] == {"rows": 2, "auc": 1.0}
    assert (buckets["65-128"]["auc"], buckets["2049-"]["rows"]) == (None, 1)


def test_what_cannot_be_tuned_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(TextError, match="T020"):
        base_transformer(TextConfig(), tmp_path)
    transformer = base_transformer(TextConfig(encoder=str(tiny_bert)), tmp_path)
    with pytest.raises(TextError, match="T024"):
        TunedEncoder.of(transformer, config(lora={"targets": ["q_proj"]}))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"profile": None}, "a request needs"),
        ({"negatives": {}}, "name one of"),
        ({"negatives": {"edge": "a", "uniform": 1}}, "name one of"),
        ({"resume": {"feature": "person.cv"}}, "one node type"),
        ({"head": {"pairs": ["dc"]}}, "none of dc"),
        ({"loss": {"weights": {"bce": 0, "profile": 0, "resume": 0}}}, "at least"),
        ({"lorra": {}}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**given)
