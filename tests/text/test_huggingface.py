from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_platform.errors import TextError
from star_platform.text.config import TextConfig
from star_platform.text.encoder import encode, open_encoder
from star_platform.text.huggingface import HuggingFaceEncoder

from .tiny import WORDS, edit_config

TEXTS = [
    "we hire a senior data engineer",
    "nurse",
    "a teacher for our team in the city who likes graphs and tests of text " * 6,
    "remote work . lead sales",
    "é ñ 日 本",
    "the city",
]


def _open(folder: Path, **options: object) -> HuggingFaceEncoder:
    found = open_encoder(TextConfig(encoder=str(folder), **options), Path("/"))
    assert isinstance(found, HuggingFaceEncoder)
    return found


def test_unit_vectors_in_the_order_of_the_texts(tiny_bert: Path) -> None:
    encoder = _open(tiny_bert)
    vectors = encode(encoder, TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim) == (6, 24)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(encode(encoder, TEXTS[::-1]), vectors[::-1])
    assert len(np.unique(vectors.round(3), axis=0)) == len(TEXTS)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "layer_mean_cls"])
def test_equals_transformers_one_at_a_time(tiny_bert: Path, pooling: str) -> None:
    """Against the plain model, one text at a time without padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(tiny_bert).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    for text, ours in zip(TEXTS, encode(_open(tiny_bert, pooling=pooling), TEXTS), strict=True):
        with torch.no_grad():
            out = model(**tokenizer(text, truncation=True, return_tensors="pt"), output_hidden_states=True)
        states = out.last_hidden_state[0]
        layers = torch.stack(out.hidden_states[1:])[:, 0]
        plain = {
            "mean": states.mean(0),
            "cls": states[0],
            "last": states[-1],
            "layer_mean_cls": layers[:, 0].mean(0),
        }[pooling]
        np.testing.assert_allclose(ours, torch.nn.functional.normalize(plain, dim=0).numpy(), atol=1e-5)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_companions_never_change_a_bit(tiny_bert: Path, data: st.DataObject) -> None:
    """Same text, other batch, other budget, other order: the same bytes."""
    sentence = st.lists(st.sampled_from(WORDS), min_size=1, max_size=70).map(" ".join)
    texts = data.draw(st.lists(sentence, min_size=1, max_size=8, unique=True))
    order = data.draw(st.permutations(range(len(texts))))
    budget = data.draw(st.sampled_from([64, 100, 512, 4096]))
    whole = encode(_open_cached(tiny_bert, 4096), texts)
    again = encode(_open_cached(tiny_bert, budget), [texts[i] for i in order])
    np.testing.assert_array_equal(again, whole[order])
    alone = np.concatenate([encode(_open_cached(tiny_bert, 64), [text]) for text in texts])
    np.testing.assert_array_equal(alone, whole)


_encoders: dict[tuple[Path, int], HuggingFaceEncoder] = {}


def _open_cached(folder: Path, budget: int) -> HuggingFaceEncoder:
    key = (folder, budget)
    if key not in _encoders:
        _encoders[key] = _open(folder, token_budget=budget)
    return _encoders[key]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "layer_mean_cls"])
@pytest.mark.parametrize("model", ["tiny_bert", "tiny_decoder"])
def test_padding_side_does_not_matter(model: str, pooling: str, request: pytest.FixtureRequest) -> None:
    encoder = _open(request.getfixturevalue(model), pooling=pooling)
    rows = [np.array(row, np.int32) for row in ([2, 5, 6, 7, 3], [2, 9, 3], [2, 8, 10, 11, 12, 13, 3])]
    right = encoder.encode_tokens(rows, 16, side="right")
    left = encoder.encode_tokens(rows, 16, side="left")
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_prompt_changes_vector_and_fingerprint(tiny_bert: Path) -> None:
    plain, asked = _open(tiny_bert), _open(tiny_bert, prompt="query: ")
    assert plain.fingerprint != asked.fingerprint
    assert not np.allclose(encode(plain, TEXTS), encode(asked, TEXTS))
    np.testing.assert_array_equal(encode(asked, ["nurse"]), encode(plain, ["query: nurse"]))


@pytest.mark.parametrize(
    "change", [{"pooling": "cls"}, {"max_tokens": 16}, {"truncate": "head"}, {"prompt": "x"}], ids=str
)
def test_what_changes_a_vector_changes_the_fingerprint(tiny_bert: Path, change: dict[str, object]) -> None:
    assert _open(tiny_bert).fingerprint != _open(tiny_bert, **change).fingerprint


def test_what_changes_only_speed_does_not(tiny_bert: Path) -> None:
    assert _open(tiny_bert).fingerprint == _open(tiny_bert, token_budget=64, device="cpu").fingerprint


def test_the_same_files_elsewhere_are_the_same_encoder(tiny_bert: Path, tmp_path: Path) -> None:
    copy = edit_config(tiny_bert, tmp_path / "copy")
    config = (tiny_bert / "config.json").read_bytes()
    (copy / "config.json").write_bytes(config)
    assert _open(copy).fingerprint == _open(tiny_bert).fingerprint
    (copy / "tokenizer_config.json").write_text('{"model_max_length": 63}')
    assert _open(copy).fingerprint != _open(tiny_bert).fingerprint


def test_truncation_side(tiny_bert: Path) -> None:
    text = "nurse " + "data " * 80 + "teacher"
    tail, head = _open(tiny_bert, truncate="tail"), _open(tiny_bert, truncate="head")
    np.testing.assert_array_equal(encode(tail, [text]), encode(tail, ["nurse " + "data " * 80 + "sales"]))
    np.testing.assert_array_equal(encode(head, [text]), encode(head, ["sales " + "data " * 80 + "teacher"]))
    assert not np.allclose(encode(head, [text]), encode(head, ["nurse " + "data " * 80 + "sales"]))


def test_the_end_token_of_a_decoder_survives_truncation(tiny_decoder: Path) -> None:
    encoder = _open(tiny_decoder, max_tokens=8)
    assert (encoder.kind, encoder.pooling) == ("llm", "last")
    ids, offsets = encoder._transformer.tokenise(["data " * 30, "nurse"])
    rows = [ids[offsets[i] : offsets[i + 1]].tolist() for i in range(2)]
    assert [row[-1] for row in rows] == [3, 3]
    assert len(rows[0]) == 8
    assert encode(encoder, ["nurse"]).shape == (1, 16)


def test_layer_mean_of_a_decoder_ends_with_the_state_that_last_reads(tiny_decoder: Path) -> None:
    """`last` and `layer_mean_cls` must not read the last layer once before and once after the final norm."""
    import torch

    encoder = _open(tiny_decoder)
    with torch.inference_mode():
        out = encoder._transformer.module(input_ids=torch.tensor([[5, 6, 3]]), output_hidden_states=True)
    assert torch.equal(out.hidden_states[-1], out.last_hidden_state)


def test_stated_pooling_is_followed(tiny_bert: Path, tmp_path: Path) -> None:
    copy = edit_config(tiny_bert, tmp_path / "copy")
    (copy / "1_Pooling").mkdir()
    (copy / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    assert _open(copy).pooling == "cls"
    assert _open(copy, pooling="mean").pooling == "mean"


def test_max_tokens_never_exceeds_the_model(tiny_bert: Path) -> None:
    assert _open(tiny_bert).max_tokens == 64
    assert _open(tiny_bert, max_tokens=1000).max_tokens == 64
    assert _open(tiny_bert, max_tokens=10).max_tokens == 10


def test_weights_that_lack_a_layer_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    """transformers would fill the missing layer with random numbers and only warn."""
    broken = edit_config(tiny_bert, tmp_path / "broken", num_hidden_layers=4)
    with pytest.raises(TextError, match="lack") as caught:
        encode(_open(broken), TEXTS)
    assert caught.value.code == "T004"


def test_a_damaged_tokenizer_is_a_clear_error(tiny_bert: Path, tmp_path: Path) -> None:
    broken = edit_config(tiny_bert, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(TextError) as caught:
        encode(_open(broken), TEXTS)
    assert caught.value.code == "T004"


def test_an_empty_text_has_no_vector(tiny_bert: Path) -> None:
    with pytest.raises(TextError) as caught:
        encode(_open(tiny_bert), ["nurse", " \u200b\n"])
    assert caught.value.code == "T005"


def test_manifest_facts(tiny_bert: Path) -> None:
    facts = _open(tiny_bert).describe()
    assert facts["encoder_kind"] == "encoder"
    assert facts["dim"] == 24
    assert list(facts["weights_sha256"]) == ["model.safetensors"]
