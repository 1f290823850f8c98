"""What the tests know of the tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

_SENTENCE = (
    "we hire a senior data engineer nurse teacher for our team in the city who likes graphs and tests of text "
    "passage query : . , é ñ 日 本 work remote lead sales"
)
WORDS = tuple(_SENTENCE.split())


def edit_config(folder: Path, target: Path, **changes: object) -> Path:
    """A copy of a model folder with changes in its config.json."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | changes))
    return target


def save_tokenizer(folder: Path, *, decoder: bool) -> None:
    """A word-piece tokenizer over the words that the tests use."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = dict.fromkeys([*special, *WORDS, *letters, *(f"##{letter}" for letter in letters)])
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if not decoder:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)


def save_tiny_bert(folder: Path) -> Path:
    """A BERT of 24 dimensions with random weights."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=128,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.4,  # large, so that texts differ clearly
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    save_tokenizer(folder, decoder=False)
    return folder
