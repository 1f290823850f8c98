"""A finished adapter as a folder named by its content, and the check that it is served as it was trained.

<root>/<hash>/adapter_model.safetensors, adapter_config.json     as `peft` reads them
              head.safetensors                                   the layers over Hadamard products
              manifest.json                                      base weights, settings, prompts, data, figures
              probe.json, probe.npy                              20 texts with their vectors
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from star_platform.errors import TextError
from star_platform.registry.artefacts import sha256
from star_platform.text.config import TextConfig

if TYPE_CHECKING:
    from star_platform.text.finetune.heads import Head

MANIFEST, PROBE, PROBE_VECTORS, HEAD = "manifest.json", "probe.json", "probe.npy", "head.safetensors"
LEAST_COSINE = 0.999
"""Between a probe's vector as trained and as served."""
_NAME = 16


@dataclass(frozen=True)
class Probe:
    """A text with its tower's prompt and limit."""

    text: str
    prompt: str
    max_tokens: int


def write_adapter(root: Path, draft: Path, manifest: Mapping[str, Any]) -> Path:
    """Give the files in `draft` their manifest and their place below `root`; equal content is equal place."""
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
    (draft / MANIFEST).write_text(text + "\n", encoding="utf-8")
    files = sorted(path for path in draft.iterdir() if path.is_file())
    lines = "".join(f"{path.name}\0{sha256(path)}\n" for path in files)
    target = root / hashlib.sha256(lines.encode()).hexdigest()[:_NAME]
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    root.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(draft)
    else:
        draft.rename(target)
    return target


def write_probe(draft: Path, probes: list[Probe], vectors: npt.NDArray[np.float32]) -> None:
    """Texts and vectors `[n, d]` as the trained encoder gives them."""
    entries = [vars(probe) for probe in probes]
    (draft / PROBE).write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    np.save(draft / PROBE_VECTORS, vectors)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises TextError T026 when there is none, or it cannot be read."""
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    return found


def load_head(folder: Path) -> Head:
    """The layers that were trained with the adapter.

    Raises:
        TextError: T026 when the folder is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from star_platform.text.finetune.config import FineTuneConfig
    from star_platform.text.finetune.heads import Head

    manifest = read_manifest(folder)
    try:
        config = FineTuneConfig.model_validate(manifest["settings"])
        head = Head(config.head, int(manifest["base"]["dim"]), frozenset(config.towers), config.seed)
        head.load_state_dict(load_file(folder / HEAD))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise _damaged(folder, error) from error
    return head.eval()


@dataclass(frozen=True)
class Verified:
    """How far served vectors of the probes are from trained ones."""

    probes: int
    least_cosine: float
    widest_norm_error: float


def verify(folder: Path, config: TextConfig, root: Path) -> Verified:
    """Encode the probes as a release would, adapter merged, and compare.

    Args:
        folder: of the adapter.
        config: how star.yaml names the encoder; its prompts are not read, each probe has its own.
        root: folder of star.yaml.

    Raises:
        TextError: T026 when the folder is damaged, T027 when a vector differs.
    """
    from star_platform.text.encoder import encode, open_encoder

    read_manifest(folder)
    try:
        probes = [Probe(**entry) for entry in json.loads((folder / PROBE).read_text(encoding="utf-8"))]
        trained = np.load(folder / PROBE_VECTORS, allow_pickle=False)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(folder, error) from error
    served = np.zeros_like(trained)
    ways = sorted({(probe.prompt, probe.max_tokens) for probe in probes})
    for prompt, limit in ways:
        own = {"adapter": str(folder.resolve()), "prompt": prompt, "max_tokens": limit, "prompts": {}, "limits": {}}
        rows = [i for i, probe in enumerate(probes) if (probe.prompt, probe.max_tokens) == (prompt, limit)]
        encoder = open_encoder(config.model_copy(update=own), root)
        served[rows] = encode(encoder, [probes[i].text for i in rows])
    cosine = (served * trained).sum(1) / np.linalg.norm(trained, axis=1)
    norm_error = float(np.abs(np.linalg.norm(served, axis=1) - 1).max(initial=0))
    found = Verified(len(probes), float(cosine.min(initial=1)), norm_error)
    if not found.least_cosine > LEAST_COSINE or norm_error > 1e-3:
        raise TextError(
            "T027",
            f"adapter {folder.name} gives other vectors than when it was trained: least cosine {found.least_cosine:.5f}"
            f" of {found.probes} texts, above {LEAST_COSINE} is demanded",
            hint="encoder, revision, pooling and truncation must be those of the adapter's manifest",
        )
    return found


def _damaged(folder: Path, why: object) -> TextError:
    return TextError(
        "T026", f"adapter {folder} cannot be read: {why}", hint="it is a folder that `star-platform text finetune` made"
    )
