"""The model without padding beside the same model as transformers computes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from star_platform.text.batching import plan_packed
from star_platform.text.config import TextConfig
from star_platform.text.encoder import encode, open_encoder
from star_platform.text.huggingface import HuggingFaceEncoder
from star_platform.text.packed import MIN_ROWS, Packed
from star_platform.text.pooling import pool_packed
from star_platform.text.workers import in_order

from .conftest import save_tokenizer
from .tiny import WORDS, edit_config

ROWS = [np.array(row, np.int32) for row in ([2, 5, 6, 7, 3], [2, 9, 3], [2, 8, 10, 11, 12, 13, 3], [2, 14, 3])]


@pytest.fixture(scope="module")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts its positions from the padding id, which is 1 here."""
    from transformers import RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("tiny-roberta")
    torch.manual_seed(6)
    config = RobertaConfig(
        vocab_size=128,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        max_position_embeddings=66,
        pad_token_id=1,
        type_vocab_size=1,
        initializer_range=0.4,
    )
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    save_tokenizer(folder, decoder=False)
    return folder


def _open(folder: Path | str, **options: object) -> HuggingFaceEncoder:
    found = open_encoder(TextConfig.model_validate({"encoder": str(folder), **options}), Path("/"))
    assert isinstance(found, HuggingFaceEncoder)
    return found


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "layer_mean_cls"])
@pytest.mark.parametrize("model", ["tiny_bert", "tiny_roberta"])
def test_as_transformers_computes_it(model: str, pooling: str, request: pytest.FixtureRequest) -> None:
    encoder = _open(request.getfixturevalue(model), pooling=pooling)
    np.testing.assert_allclose(encoder.encode_packed(ROWS), encoder.encode_tokens(ROWS, 9), atol=2e-6)


def test_other_models_are_computed_with_padding(tiny_bert: Path, tiny_decoder: Path, tmp_path: Path) -> None:
    assert Packed.fits(_open(tiny_bert)._transformer)
    assert not Packed.fits(_open(tiny_decoder)._transformer)
    relative = edit_config(tiny_bert, tmp_path / "relative", position_embedding_type="relative_key")
    assert not Packed.fits(_open(relative)._transformer)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_bits_of_real_weights_do_not_depend_on_companions_or_threads(precision: str) -> None:
    """Of products with fewer than MIN_ROWS rows, or shared out to several threads, they would."""
    texts = ["nurse", "a nurse", "senior data engineer in the city", " ".join(WORDS * 4), "work " * 90, "remote sales"]
    whole = encode(_open("minilm", precision=precision), texts)
    for threads in (1, 2, 3):
        encoder = _open("minilm", precision=precision, threads=threads, token_budget=64)
        np.testing.assert_array_equal(encode(encoder, texts[::-1])[::-1], whole)
        np.testing.assert_array_equal(np.concatenate([encode(encoder, [text]) for text in texts]), whole)
    assert MIN_ROWS == 16  # "nurse" has 3 tokens: its matrix was filled up


def test_bfloat16_is_close(tiny_bert: Path) -> None:
    texts = [" ".join(WORDS[i : i + 9]) for i in range(20)]
    for model, least in (("minilm", 0.9997), (str(tiny_bert), 0.999)):
        cosine = (encode(_open(model), texts) * encode(_open(model, precision="bfloat16"), texts)).sum(1)
        assert cosine.min() > least


def test_pooling_by_hand() -> None:
    last = torch.tensor([[3.0, 4.0], [1.0, 0.0], [5.0, 4.0]])
    layers = [torch.full((3, 2), 9.0), last * 2, last]
    third = 13**0.5
    expected = {
        "mean": [[2 / 8**0.5, 2 / 8**0.5], [5 / 41**0.5, 4 / 41**0.5]],
        "cls": [[0.6, 0.8], [5 / 41**0.5, 4 / 41**0.5]],
        "last": [[1.0, 0.0], [5 / 41**0.5, 4 / 41**0.5]],
    }
    for how, vectors in expected.items():
        torch.testing.assert_close(pool_packed(last, layers, [2, 1], how), torch.tensor(vectors))  # type: ignore[arg-type]
    layers[1] = torch.tensor([[1.0, 2.0], [7.0, 7.0], [0.0, 0.0]])
    found = pool_packed(last, layers, [2, 1], "layer_mean_cls")
    torch.testing.assert_close(found[0], torch.tensor([2 / third, 3 / third]))  # of (1, 2) and (3, 4)


def test_a_plan_covers_every_text_within_its_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 500)
    batches = list(plan_packed(lengths, 1000))
    assert sorted(np.concatenate([batch.positions for batch in batches]).tolist()) == list(range(500))
    sizes = [int(lengths[batch.positions].sum()) for batch in batches]
    assert max(sizes) <= 1000
    assert sum(size > 700 for size in sizes) >= len(sizes) - 1
    starts = [batch.length for batch in batches]
    assert starts == sorted(starts, reverse=True)
    rest = np.concatenate([batch.positions for batch in batches[2:]])
    again = [rest[batch.positions].tolist() for batch in plan_packed(lengths[rest], 1000)]
    assert again == [batch.positions.tolist() for batch in batches[2:]]
    assert [len(batch.positions) for batch in plan_packed(np.array([5000, 10]), 1000)] == [1, 1]


def test_workers_keep_the_order_and_their_caller_his_threads() -> None:
    before = torch.get_num_threads()
    found = list(in_order(lambda item: (item, torch.get_num_threads()), range(50), 3))
    assert found == [(item, 1) for item in range(50)]
    assert torch.get_num_threads() == before


def test_an_error_of_a_worker_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda item: 1 // item, [3, 2, 1, 0, 5], 2))
