"""Encoders as they run inside a GNN: the same vectors, from token rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from star_platform.registry.artefacts import Artefact, ArtefactStore
from star_platform.text.cache import TextCache
from star_platform.text.config import TextConfig
from star_platform.text.encoder import encode, open_encoder
from star_platform.text.huggingface import HuggingFaceEncoder
from star_platform.text.inner import InnerText, inner_text, vectors_of
from star_platform.text.stage import encode_texts

TEXTS = ["we hire a nurse", "data engineer remote", "senior teacher in the city", "nurse", "we hire a nurse"]


def opened(folder: Path, mode: str, **given: object) -> InnerText:
    config = TextConfig.model_validate({"encoder": str(folder), "mode": mode, **given})
    found = inner_text(config, open_encoder(config, Path("/")))
    assert found is not None
    return found


def token_rows(encoder: HuggingFaceEncoder) -> np.ndarray:
    ids, offsets = encoder.tokenise(TEXTS)
    tokens = np.full((len(TEXTS), int(np.diff(offsets).max())), -1, np.int32)
    tokens[np.arange(tokens.shape[1]) < np.diff(offsets)[:, None]] = ids
    return tokens


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_decoder", "tiny_mistral"])
@pytest.mark.parametrize("mode", ["frozen", "co-train"])
def test_any_encoder_gives_the_vectors_that_it_gives_outside(
    model: str, mode: str, request: pytest.FixtureRequest
) -> None:
    text = opened(request.getfixturevalue(model), mode, prompt="query: ", token_budget=64)
    found = text.open(torch.device("cpu"), seed=0)(token_rows(text.encoder))
    assert found.requires_grad == (mode == "co-train")
    np.testing.assert_allclose(found.detach().numpy(), encode(text.encoder, TEXTS), atol=1e-5)


def test_equal_texts_are_encoded_once(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = opened(tiny_bert, "frozen").encoder
    seen: list[int] = []
    plain = encoder.encoded

    def counted(tokens: list[np.ndarray]) -> object:
        seen.append(len(tokens))
        return plain(tokens)

    monkeypatch.setattr(encoder, "encoded", counted)
    vectors = vectors_of(encoder, token_rows(encoder))
    assert seen == [4]
    np.testing.assert_array_equal(vectors[0], vectors[4])


def test_tokens_lie_beside_the_vectors(
    tiny_bert: Path, make_texts: Callable[..., Artefact], store: ArtefactStore, tmp_path: Path
) -> None:
    text = opened(tiny_bert, "frozen", max_tokens=6)
    cache = TextCache(tmp_path / "cache")
    rows = make_texts(["data engineer", None, "we hire a senior nurse in the city", " data  engineer"])
    before = open_encoder(TextConfig(encoder=str(tiny_bert), max_tokens=6), Path("/"))
    plain = encode_texts(rows, before, cache, store, "plain")
    found = encode_texts(rows, text.encoder, cache, store, "tokens")
    assert "tokens.npy" not in plain.files
    tokens = np.load(found.path / "tokens.npy")
    assert tokens.dtype == np.int32
    assert (tokens >= 0).sum(1).tolist() == [4, 0, 6, 4]
    np.testing.assert_array_equal(tokens[0], tokens[3])
    values, present = np.load(found.path / "values.npy"), np.load(found.path / "present.npy")
    np.testing.assert_array_equal(values, np.load(plain.path / "values.npy"))
    np.testing.assert_allclose(vectors_of(text.encoder, tokens[present]), values[present], atol=1e-6)
