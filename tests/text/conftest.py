"""A tiny BERT and a tiny decoder with random weights, saved as any Hugging Face model is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_platform.registry.artefacts import Artefact, ArtefactStore

from .tiny import save_tiny_bert, save_tokenizer


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def tiny_decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("tiny-decoder")
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.4,
    )
    LlamaModel(config).save_pretrained(folder)
    save_tokenizer(folder, decoder=True)
    return folder


@pytest.fixture(scope="session")
def tiny_mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The architecture of e5-mistral-7b-instruct: grouped queries, a sliding window, no padding token of its own."""
    import torch
    from transformers import MistralConfig, MistralModel

    folder = tmp_path_factory.mktemp("tiny-mistral")
    torch.manual_seed(5)
    config = MistralConfig(
        vocab_size=128,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        sliding_window=48,
        initializer_range=0.3,
    )
    MistralModel(config).save_pretrained(folder)
    save_tokenizer(folder, decoder=True)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(tmp_path / "artefacts")


@pytest.fixture
def make_texts(store: ArtefactStore) -> Callable[..., Artefact]:
    """An artefact as `build_texts` leaves it."""

    def make(texts: Sequence[str | None], fingerprint: str = "t1") -> Artefact:
        table = pa.table(
            {
                "node": pa.array(range(len(texts)), pa.int32()),
                "valid_from": pa.nulls(len(texts), pa.int64()),
                "text": pa.array(texts, pa.string()),
            }
        )
        with store.create("texts", fingerprint) as draft:
            pq.write_table(table, draft.path / "texts.parquet")
            draft.details["feature"] = "member.profile"
        return store.open("texts", fingerprint)

    return make
