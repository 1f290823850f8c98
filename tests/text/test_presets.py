"""The preset `e5-mistral`, on a tiny model of that architecture with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from star_platform.text.config import TextConfig
from star_platform.text.encoder import encode, open_encoder
from star_platform.text.huggingface import HuggingFaceEncoder

TEXTS = ["we hire a senior data engineer", "nurse", "a teacher who likes graphs " * 12, "remote sales . é ñ"]


def _open(folder: Path, **given: object) -> HuggingFaceEncoder:
    """As `encoder: e5-mistral` would be opened, but from another folder."""
    preset = TextConfig.model_validate({"encoder": "e5-mistral", **given})
    found = open_encoder(preset.model_copy(update={"encoder": str(folder)}), Path("/"))
    assert isinstance(found, HuggingFaceEncoder)
    return found


def test_what_it_sets_and_that_star_yaml_comes_first() -> None:
    preset = TextConfig.model_validate({"encoder": "e5-mistral"})
    assert (preset.pooling, preset.precision, preset.max_tokens) == ("layer_mean_cls", "bfloat16", 1800)
    own = TextConfig.model_validate({"encoder": "e5-mistral", "pooling": "last", "limits": {"member.profile": 1024}})
    assert (own.pooling, own.precision, own.max_tokens) == ("last", "bfloat16", 1800)
    assert own.for_feature("member.profile").max_tokens == 1024
    assert TextConfig.model_validate({"encoder": "minilm"}).precision == "float32"


def test_it_is_an_llm_that_reads_the_token_that_has_seen_everything(tiny_mistral: Path) -> None:
    encoder = _open(tiny_mistral, precision="float32")
    assert encoder.kind == "llm"
    late, early = encode(encoder, ["nurse in the city", "nurse in the team"])
    assert not np.allclose(late, early, atol=1e-3)  # the first token of both has seen the same


@pytest.mark.parametrize("pooling", ["layer_mean_cls", "last", "mean", "cls"])
def test_padding_on_either_side_gives_the_same_vector(tiny_mistral: Path, pooling: str) -> None:
    encoder = _open(tiny_mistral, pooling=pooling, precision="float32")
    rows = [np.array(row, np.int32) for row in ([5, 6, 7, 3], [9, 3], [8, 10, 11, 12, 13, 14, 3])]
    right, left = (encoder.encode_tokens(rows, 16, side=side) for side in ("right", "left"))
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_the_end_token_survives_the_limit(tiny_mistral: Path) -> None:
    encoder = _open(tiny_mistral, limits={"member.profile": 8}).for_feature("member.profile")
    ids, offsets = encoder._transformer.tokenise(["data " * 60, "nurse"], "query: ", encoder.max_tokens)
    rows = [ids[offsets[i] : offsets[i + 1]].tolist() for i in range(2)]
    assert len(rows[0]) == encoder.max_tokens == 8
    assert {row[-1] for row in rows} == {3}
    assert rows[0][:2] == rows[1][:2]  # the prompt is not what is cut off


def test_bfloat16_is_close_and_alone(tiny_mistral: Path) -> None:
    """Sums of bfloat16 depend on the shape of a batch on a CPU, so there every text is a batch of its own."""
    half, exact = _open(tiny_mistral), _open(tiny_mistral, precision="float32")
    whole = encode(half, TEXTS)
    assert whole.dtype == np.float32
    assert (whole * encode(exact, TEXTS)).sum(1).min() > 0.99
    np.testing.assert_array_equal(np.concatenate([encode(half, [text]) for text in TEXTS]), whole)
    assert half.fingerprint != exact.fingerprint


def test_int8_on_a_gpu_is_refused() -> None:
    with pytest.raises(ValidationError, match="CPUs"):
        TextConfig.model_validate({"precision": "int8", "device": "cuda"})
