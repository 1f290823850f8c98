"""Adapters: merged they compute what they compute beside the weights, and what is damaged is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from star_platform.errors import TextError
from star_platform.registry.artefacts import sha256
from star_platform.text.config import TextConfig
from star_platform.text.encoder import TextEncoder, encode, open_encoder

TEXTS = ["we hire a senior data engineer", "nurse", "a teacher for our team in the city", "remote sales"]


def _adapter(base: Path, target: Path, seed: int = 0) -> tuple[Path, Any]:
    """A low-rank adapter with random weights, as peft saves it; and the model with it, not merged."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    torch.manual_seed(seed)
    decoder = "mistral" in str(base)
    targets = ["q_proj", "v_proj", "up_proj"] if decoder else ["query", "value", "intermediate.dense"]
    model: Any = get_peft_model(
        AutoModel.from_pretrained(base), LoraConfig(r=4, lora_alpha=8, target_modules=targets, init_lora_weights=False)
    )
    model.save_pretrained(target)
    return target, model.eval()


def _open(base: Path, adapter: Path | None, **given: object) -> TextEncoder:
    named = {} if adapter is None else {"adapter": str(adapter)}
    return open_encoder(TextConfig.model_validate({"encoder": str(base), **named, **given}), Path("/"))


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_mistral"])
def test_merged_is_unmerged(model: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = request.getfixturevalue(model)
    adapter, beside = _adapter(base, tmp_path / "adapter")
    merged = encode(_open(base, adapter, pooling="mean"), TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(base)
    for text, ours in zip(TEXTS, merged, strict=True):
        ids = tokenizer(text)["input_ids"]
        ids = ids if ids[-1] == tokenizer.eos_token_id else [*ids, tokenizer.eos_token_id]
        with torch.no_grad():
            states = beside(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
        assert torch.nn.functional.cosine_similarity(states, torch.from_numpy(ours), dim=0) > 0.9999
    plain = encode(_open(base, None, pooling="mean"), TEXTS)
    assert (plain * merged).sum(1).max() < 0.999


def test_its_content_is_what_counts(tiny_bert: Path, tmp_path: Path) -> None:
    one, _ = _adapter(tiny_bert, tmp_path / "one")
    other, _ = _adapter(tiny_bert, tmp_path / "other", seed=1)
    copy = shutil.copytree(one, tmp_path / "copy")
    settings = (copy / "adapter_config.json").read_text()
    (copy / "adapter_config.json").write_text(settings.replace(str(tiny_bert), "elsewhere"))
    encoders = [_open(tiny_bert, adapter) for adapter in (None, one, other, copy)]
    prints = [encoder.fingerprint for encoder in encoders]
    assert len(set(prints[:3])) == 3
    assert prints[3] == prints[1]
    assert "adapter" in encoders[1].describe()
    assert "adapter" not in encoders[0].describe()


def test_int8_and_bfloat16_have_it_too(tiny_bert: Path, tmp_path: Path) -> None:
    adapter, _ = _adapter(tiny_bert, tmp_path / "adapter")
    exact = encode(_open(tiny_bert, adapter), TEXTS)
    for precision in ("int8", "bfloat16"):
        cosine = (exact * encode(_open(tiny_bert, adapter, precision=precision), TEXTS)).sum(1)
        assert cosine.min() > 0.98


def test_absent_and_damaged_files(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no adapter_model") as caught:
        _open(tiny_bert, tmp_path)
    assert caught.value.code == "T010"
    adapter, _ = _adapter(tiny_bert, tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(TextError) as caught:
        _open(tiny_bert, adapter)
    assert caught.value.code == "T010"


def test_an_adapter_of_another_model_is_refused(tiny_bert: Path, tiny_mistral: Path, tmp_path: Path) -> None:
    adapter, _ = _adapter(tiny_mistral, tmp_path / "adapter")
    with pytest.raises(TextError) as caught:
        encode(_open(tiny_bert, adapter), TEXTS)
    assert caught.value.code == "T010"


def test_an_adapter_of_other_weights_of_that_shape_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    """Shapes and names fit: only the manifest of the fine-tuning run tells."""
    adapter, _ = _adapter(tiny_bert, tmp_path / "adapter")
    own = sha256(tiny_bert / "model.safetensors")
    for digest, opens in ((own, True), ("0" * 64, False)):
        told = {"base": {"encoder": "./models/e5", "weights_sha256": {"model.safetensors": digest}}}
        (adapter / "manifest.json").write_text(json.dumps(told))
        if opens:
            _open(tiny_bert, adapter)
            continue
        with pytest.raises(TextError, match=r"other weights, of './models/e5'") as caught:
            _open(tiny_bert, adapter)
        assert caught.value.code == "T010"


def test_it_is_pooled_as_it_was_trained(tiny_bert: Path, tmp_path: Path) -> None:
    """A server that pools in another way gives vectors that look right and are not."""
    adapter, _ = _adapter(tiny_bert, tmp_path / "adapter")
    (adapter / "manifest.json").write_text(json.dumps({"base": {"pooling": "cls"}}))
    trained = _open(tiny_bert, adapter)
    assert trained.describe()["pooling"] == "cls"
    assert trained.fingerprint == _open(tiny_bert, adapter, pooling="cls").fingerprint
    with pytest.raises(TextError, match="trained with `pooling: cls`") as caught:
        _open(tiny_bert, adapter, pooling="mean")
    assert caught.value.code == "T010"


def test_an_adapter_that_lacks_a_layer_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    """Peft would leave the layer's matrices at their random start."""
    from safetensors.torch import load_file, save_file

    adapter, _ = _adapter(tiny_bert, tmp_path / "adapter")
    weights = load_file(adapter / "adapter_model.safetensors")
    kept = {key: value for key, value in weights.items() if "layer.2" not in key}
    save_file(kept, adapter / "adapter_model.safetensors")
    with pytest.raises(TextError, match="no weights for") as caught:
        encode(_open(tiny_bert, adapter), TEXTS)
    assert caught.value.code == "T010"
