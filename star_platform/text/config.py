"""The `text:` section of star.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from star_platform.errors import TextError
from star_platform.text.finetune.config import FineTuneConfig, LoraConfig

TFIDF_SVD = "tfidf-svd"
MINILM = "minilm"
E5_MISTRAL = "e5-mistral"
E5_MISTRAL_HUB_NAME = "intfloat/e5-mistral-7b-instruct"

Pooling = Literal["mean", "cls", "last", "layer_mean_cls"]
Precision = Literal["float32", "bfloat16", "int8"]
TextMode = Literal["embedding", "frozen", "co-train"]
INT8_VERSION = 1
"""Raised with every change of how `int8` rounds; it enters the fingerprint."""

PRESETS: dict[str, dict[str, Any]] = {
    E5_MISTRAL: {"pooling": "layer_mean_cls", "precision": "bfloat16", "max_tokens": 1800},
}
"""What the name of an encoder sets unless star.yaml says otherwise; that of STAR (arXiv 2507.09797), section 3."""


class CoTrainConfig(BaseModel):
    """How the encoder learns inside the GNN."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: Annotated[float, Field(gt=0)] = 2e-5
    """Of the adapter; far below that of the GNN, as in STAR's table 9."""
    lora: LoraConfig = LoraConfig()


class TextConfig(BaseModel):
    """Which model turns texts into vectors, and how it reads them.

    What changes a vector (model, revision, adapter, pooling, prompts, limits, truncate, precision, dim) enters the
    encoder's fingerprint; what only changes speed (token_budget, threads, device) does not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Annotated[str, Field(min_length=1)] = TFIDF_SVD
    """`tfidf-svd` (no weights), `minilm` (the extra of that name), `e5-mistral`, a folder, or a hub name (`a/b`)."""
    revision: str | None = None
    """Commit, tag or branch of a hub name."""
    adapter: Annotated[str, Field(min_length=1)] | None = None
    """A folder made by `star-platform text finetune`; merged into the weights."""
    pooling: Literal["auto"] | Pooling = "auto"
    """`auto`: what adapter or folder say, else `mean` for an encoder and `last` for a decoder."""
    prompt: str = ""
    """Put before every text."""
    prompts: dict[str, str] = {}
    """Put before the texts of a feature instead (`member.profile: "query: "`): what tells towers apart."""
    max_tokens: Annotated[int, Field(ge=4)] | None = None
    """Longer texts are cut; the model's own limit when absent."""
    limits: dict[str, Annotated[int, Field(ge=4)]] = {}
    """`max_tokens` of a feature's texts (`job.description: 1800`)."""
    truncate: Literal["tail", "head"] = "tail"
    """Which side of a longer text is cut off."""
    precision: Precision = "float32"
    """Of weights and arithmetic; `int8` is for CPUs, `bfloat16` for GPUs. Vectors are float32 always."""
    token_budget: Annotated[int, Field(ge=64)] = 4096
    """Tokens, padding included, of one batch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    """Batches encoded at once on a CPU; all cores when absent. Vectors do not depend on it."""
    dim: Annotated[int, Field(ge=1, le=4096)] = 128
    """Of `tfidf-svd`; other encoders have the dim of their model."""
    mode: TextMode = "embedding"
    """Where the encoder is while the GNN trains. `embedding`: done, its vectors are inputs. `frozen`: inside, and run
    on the texts of every step. `co-train`: the same, and its adapter learns what the GNN learns."""
    cotrain: CoTrainConfig = CoTrainConfig()
    """Read with `mode: co-train` alone."""
    finetune: FineTuneConfig | None = None
    """What `star-platform text finetune` learns from; a release does not read it."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {**PRESETS.get(str(given.get("encoder")), {}), **given}

    @model_validator(mode="after")
    def _int8_is_for_cpus(self) -> TextConfig:
        if self.precision == "int8" and self.device == "cuda":
            raise ValueError("`precision: int8` is for CPUs; write `bfloat16` for a GPU")
        return self

    @model_validator(mode="after")
    def _mode_has_an_encoder(self) -> TextConfig:
        if self.mode != "embedding" and self.encoder == TFIDF_SVD:
            raise ValueError(f"`mode: {self.mode}` needs an encoder with weights, such as `minilm`")
        if self.mode == "co-train" and self.precision == "int8":
            raise ValueError("`precision: int8` has no gradient; `mode: co-train` needs float32 or bfloat16")
        return self

    @property
    def inner(self) -> dict[str, Any]:
        """What of the mode decides on a trained model; empty for `embedding`."""
        if self.mode == "embedding":
            return {}
        learned = {"cotrain": self.cotrain.model_dump(mode="json")} if self.mode == "co-train" else {}
        return {"mode": self.mode, **learned}

    def check_features(self, known: Iterable[str]) -> None:
        """Raise TextError T011 for a prompt or a limit of something that is no text feature: a typing error."""
        features = sorted(known)
        strange = sorted({*self.prompts, *self.limits} - set(features))
        if strange:
            raise TextError(
                "T011",
                f"`text.prompts` or `text.limits` of star.yaml names {strange[0]!r}, which is no text feature",
                hint=f"text features: {', '.join(features) or 'none'}",
            )

    def for_feature(self, feature: str) -> TextConfig:
        """How the texts of one feature are read: its own prompt and limit where it has them."""
        own = {
            "prompt": self.prompts.get(feature, self.prompt),
            "max_tokens": self.limits.get(feature, self.max_tokens),
        }
        return self.model_copy(update={**own, "prompts": {}, "limits": {}})
