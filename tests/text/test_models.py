from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from star_platform.errors import DependencyMissing, TextError
from star_platform.text import models
from star_platform.text.config import TextConfig
from star_platform.text.encoder import encode, open_encoder
from star_platform.text.models import MINILM_WEIGHTS, ModelFolder, check_weights, locate

from .tiny import edit_config

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(models.MINILM_PACKAGE) is None, reason="the extra `minilm` is not installed"
)
TEXTS = [
    "Registered nurse, night shift, Chicago",
    "Senior data engineer: Python, Spark, and a lot of SQL. " * 40,
    "Cashier",
    "Señor señora — 日本 ½",
    "Truck driver in Atlanta, Georgia @ UPS",
    "python developer",
    "software engineer",
]


@needs_minilm
def test_minilm_equals_sentence_transformers() -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = open_encoder(TextConfig(encoder="minilm"), Path.cwd())
    ours = encode(encoder, TEXTS)
    folder = locate(TextConfig(encoder="minilm"), Path.cwd()).path
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    similar = ours @ ours.T
    assert similar[5, 6] > similar[5, 0] + 0.2


@needs_minilm
def test_minilm_bits_do_not_depend_on_companions() -> None:
    small = encode(open_encoder(TextConfig(encoder="minilm", token_budget=64), Path.cwd()), TEXTS[::-1])[::-1]
    large = encode(open_encoder(TextConfig(encoder="minilm", token_budget=8192), Path.cwd()), TEXTS)
    np.testing.assert_array_equal(small, large)


@needs_minilm
def test_opening_minilm_imports_neither_torch_nor_sentence_transformers() -> None:
    code = (
        "import sys; from pathlib import Path; from star_platform.text.config import TextConfig;"
        "from star_platform.text.encoder import open_encoder;"
        "e = open_encoder(TextConfig(encoder='minilm'), Path('.')); assert e.dim == 384 and e.fingerprint;"
        "loaded = {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@needs_minilm
def test_pinned_weights() -> None:
    folder = locate(TextConfig(encoder="minilm"), Path.cwd())
    assert folder.weights == {"model.safetensors": MINILM_WEIGHTS}


def test_other_weights_are_refused_with_both_hashes(tiny_bert: Path) -> None:
    folder = ModelFolder(tiny_bert, "minilm")
    with pytest.raises(TextError) as caught:
        check_weights(folder, MINILM_WEIGHTS)
    assert caught.value.code == "T002"
    assert MINILM_WEIGHTS in caught.value.message
    assert folder.weights["model.safetensors"] in caught.value.message


def test_a_changed_package_is_refused(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: a package of that name whose weights are others."""
    package = tmp_path / "site" / models.MINILM_PACKAGE
    edit_config(tiny_bert, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('the package must not be run')")
    monkeypatch.setattr(sys, "path", [str(package.parent)])
    importlib.invalidate_caches()
    with pytest.raises(TextError) as caught:
        open_encoder(TextConfig(encoder="minilm"), tmp_path)
    assert caught.value.code == "T002"


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "MINILM_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(DependencyMissing) as caught:
        open_encoder(TextConfig(encoder="minilm"), tmp_path)
    assert caught.value.code == "D010"
    assert "star-platform[minilm]" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["./no-such-folder", "../elsewhere/model", "a/b/c"])
def test_a_missing_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(TextError) as caught:
        open_encoder(TextConfig(encoder=name), tmp_path)
    assert caught.value.code == "T001"


def test_a_folder_counts_from_the_project(tiny_bert: Path) -> None:
    assert locate(TextConfig(encoder=tiny_bert.name), tiny_bert.parent).path == tiny_bert


def test_pickled_weights_are_not_read(tiny_bert: Path, tmp_path: Path) -> None:
    copy = edit_config(tiny_bert, tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(TextError) as caught:
        open_encoder(TextConfig(encoder=str(copy)), tmp_path)
    assert caught.value.code == "T004"
    assert "safetensors" in caught.value.message


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_broken_configuration(tiny_bert: Path, tmp_path: Path, content: str) -> None:
    copy = edit_config(tiny_bert, tmp_path / "copy")
    (copy / "config.json").write_text(content)
    with pytest.raises(TextError) as caught:
        open_encoder(TextConfig(encoder=str(copy)), tmp_path)
    assert caught.value.code == "T004"


def test_a_hub_name_without_a_network(tmp_path: Path) -> None:
    """Its own process: the hub library reads its settings when it is imported."""
    code = (
        "from pathlib import Path; from star_platform.errors import TextError\n"
        "from star_platform.text.config import TextConfig; from star_platform.text.encoder import open_encoder\n"
        "try: open_encoder(TextConfig(encoder='someone/some-model'), Path('.'))\n"
        "except TextError as error: assert error.code == 'T003', error\n"
        "else: raise AssertionError('it opened')"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


def test_a_hub_name_that_is_here_needs_no_network(tiny_bert: Path, tmp_path: Path) -> None:
    """The layout of the hub's own cache."""
    commit = "a" * 40
    home = tmp_path / "hub" / "models--someone--tiny"
    edit_config(tiny_bert, home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    code = (
        "from pathlib import Path; from star_platform.text.config import TextConfig\n"
        "from star_platform.text.encoder import open_encoder\n"
        "facts = open_encoder(TextConfig(encoder='someone/tiny'), Path('.')).describe()\n"
        "assert facts['encoder'] == 'someone/tiny' and facts['dim'] == 24, facts"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("config", "decoder", "limit"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, False, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, False, 512),
        ({"model_type": "mistral", "max_position_embeddings": 4096}, True, 4096),
        ({"model_type": "new", "architectures": ["NewForCausalLM"]}, True, 1 << 20),
    ],
)
def test_what_a_configuration_says(tmp_path: Path, config: dict[str, object], decoder: bool, limit: int) -> None:
    import json

    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = ModelFolder(tmp_path, "x")
    assert (folder.is_decoder, folder.max_tokens) == (decoder, limit)
