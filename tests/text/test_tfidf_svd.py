from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.errors import TextError
from star_platform.text.encoder import encode
from star_platform.text.tfidf_svd import TfidfSvdEncoder

FIELDS = {
    "care": ["registered nurse night shift hospital", "nurse for the hospital ward", "ward nurse, night shifts"],
    "data": ["data engineer python and sql", "python developer, sql and data", "sql data analyst using python"],
    "road": ["truck driver, long routes", "driver for a delivery truck", "delivery routes by truck"],
}
CORPUS = [text for texts in FIELDS.values() for text in texts]


def test_texts_of_one_field_are_near() -> None:
    encoder = TfidfSvdEncoder(4).fitted(CORPUS)
    vectors = encode(encoder, CORPUS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -1.0)
    assert (similar.argmax(axis=1) // 3 == np.arange(9) // 3).all()
    field = np.arange(9) // 3
    assert similar[field[:, None] != field[None, :]].mean() < 0.1


def test_full_rank_keeps_the_cosines_of_tf_idf() -> None:
    """With as many axes as texts the SVD only rotates; scikit-learn's own TF-IDF on the same counts is the witness."""
    from sklearn.feature_extraction.text import TfidfTransformer

    from star_platform.text.tfidf_svd import _count

    weights = TfidfTransformer(sublinear_tf=True, smooth_idf=True).fit_transform(_count(CORPUS))
    vectors = encode(TfidfSvdEncoder(len(CORPUS)).fitted(CORPUS), CORPUS)
    np.testing.assert_allclose(vectors @ vectors.T, (weights @ weights.T).toarray(), atol=1e-5)


def test_the_corpus_is_a_set() -> None:
    one = TfidfSvdEncoder(4).fitted(CORPUS)
    other = TfidfSvdEncoder(4).fitted([*CORPUS[::-1], CORPUS[0], ""])
    assert one.fingerprint == other.fingerprint
    np.testing.assert_array_equal(encode(one, CORPUS), encode(other, CORPUS))


def test_the_fingerprint_covers_corpus_and_dim() -> None:
    fingerprints = {
        TfidfSvdEncoder(4).fingerprint,
        TfidfSvdEncoder(5).fingerprint,
        TfidfSvdEncoder(4).fitted(CORPUS).fingerprint,
        TfidfSvdEncoder(4).fitted(CORPUS[1:]).fingerprint,
    }
    assert len(fingerprints) == 4


@settings(max_examples=15, deadline=None)
@given(st.permutations(CORPUS), st.integers(1, len(CORPUS)))
def test_companions_never_change_a_bit(order: list[str], size: int) -> None:
    encoder = TfidfSvdEncoder(4).fitted(CORPUS)
    whole = dict(zip(CORPUS, encode(encoder, CORPUS), strict=True))
    for text, vector in zip(order[:size], encode(encoder, order[:size]), strict=True):
        np.testing.assert_array_equal(vector, whole[text])


def test_bytes_do_not_depend_on_threads() -> None:
    code = (
        "import sys, hashlib; from star_platform.text.tfidf_svd import TfidfSvdEncoder;"
        "from star_platform.text.encoder import encode;"
        "texts = [f'word{i % 7} word{i % 11} word{i % 13} number {i}' for i in range(400)];"
        "print(hashlib.sha256(encode(TfidfSvdEncoder(32).fitted(texts), texts).tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1


def test_a_small_corpus_leaves_the_other_axes_empty() -> None:
    vectors = encode(TfidfSvdEncoder(64).fitted(CORPUS[:3]), CORPUS[:3])
    assert vectors.shape == (3, 64)
    assert not vectors[:, 3:].any()


def test_a_text_without_a_known_feature_has_no_direction() -> None:
    assert not encode(TfidfSvdEncoder(4).fitted(CORPUS), ["ζζζ"]).any()


def test_no_corpus_at_all() -> None:
    assert not encode(TfidfSvdEncoder(4).fitted([]), ["nurse"]).any()


def test_it_must_be_fitted_first() -> None:
    encoder = TfidfSvdEncoder(4)
    assert not encoder.ready
    with pytest.raises(TextError) as caught:
        encode(encoder, CORPUS)
    assert caught.value.code == "T007"


def test_it_is_labelled() -> None:
    facts = TfidfSvdEncoder(4).fitted(CORPUS).describe()
    assert facts["encoder_kind"] == "tfidf_svd"
    assert "no language model" in facts["note"]
