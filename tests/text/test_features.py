"""Prompts and limits by feature: what tells the towers of a fine-tuned encoder apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from star_platform.errors import TextError
from star_platform.text.config import TextConfig
from star_platform.text.encoder import encode, open_encoder
from star_platform.text.tfidf_svd import TfidfSvdEncoder

PROFILE, JOB = "member.profile", "job.description"


def _config(folder: Path) -> TextConfig:
    return TextConfig(
        encoder=str(folder), prompt="passage: ", max_tokens=40, prompts={PROFILE: "query: "}, limits={PROFILE: 8}
    )


def test_a_feature_is_read_with_its_own_prompt_and_limit(tiny_bert: Path) -> None:
    whole = open_encoder(_config(tiny_bert), Path("/"))
    profile, plain = whole.for_feature(PROFILE), open_encoder(TextConfig(encoder=str(tiny_bert)), Path("/"))
    np.testing.assert_array_equal(
        encode(profile, ["nurse in the team"])[0], encode(plain, ["query: nurse in the team"])[0]
    )
    long = ["nurse in the team " * 6, "nurse in the team " * 5]
    short, full = encode(profile, long), encode(whole.for_feature(JOB), long)
    np.testing.assert_array_equal(short[0], short[1])  # cut to the same 8 tokens
    assert not np.allclose(full[0], full[1])


def test_fingerprints_tell_how_a_feature_is_read(tiny_bert: Path) -> None:
    whole = open_encoder(_config(tiny_bert), Path("/"))
    same = TextConfig(encoder=str(tiny_bert), prompt="query: ", max_tokens=8)
    assert whole.for_feature(PROFILE).fingerprint == open_encoder(same, Path("/")).fingerprint
    assert whole.for_feature(JOB).fingerprint == whole.fingerprint != whole.for_feature(PROFILE).fingerprint


def test_towers_share_their_weights(tiny_bert: Path) -> None:
    whole = open_encoder(_config(tiny_bert), Path("/"))
    towers = [whole.for_feature(name) for name in (PROFILE, JOB)]
    assert towers[0]._transformer is towers[1]._transformer  # type: ignore[attr-defined]


def test_an_encoder_without_prompts_reads_all_features_alike() -> None:
    encoder = TfidfSvdEncoder(8)
    assert encoder.for_feature(PROFILE) is encoder


def test_a_prompt_of_no_feature_is_an_error(tiny_bert: Path) -> None:
    config = _config(tiny_bert)
    config.check_features([PROFILE, JOB])
    with pytest.raises(TextError, match=r"member\.profile.*no text feature") as caught:
        config.check_features([JOB])
    assert caught.value.code == "T011"
    assert caught.value.hint is not None
    assert JOB in caught.value.hint
