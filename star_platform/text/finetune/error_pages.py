"""What `star-platform explain` says about the codes of fine-tuning."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "T020": ErrorPage(
        "The text encoder cannot be fine-tuned",
        "`tfidf-svd` is a statistic of the release's texts: it has no weights that could learn.",
        "text: {encoder: tfidf-svd, finetune: {...}}",
        "Name a model: `minilm`, a folder, or a hub name.",
    ),
    "T021": ErrorPage(
        "`text.finetune` names something that the branches do not have",
        "The towers are features of `kind: text`, and `positives` and `negatives.edge` are edge types between the node "
        "types of the document and of the request. The message says which name is wrong, and what there is.",
        "text: {finetune: {positives: aplies, ...}}",
        "Correct the name, or declare the feature or the edge type in a branch that is ready.",
    ),
    "T022": ErrorPage(
        "The texts of a feature cannot be read",
        "A `texts` artefact holds `texts.parquet`, sorted by node and `valid_from`. The file is damaged, or somebody "
        "else wrote it.",
        "",
        "Remove the artefact in the message and run the command again: it is compiled anew.",
    ),
    "T023": ErrorPage(
        "Nothing is left to train on",
        "An action counts when the document had a text at its time, and the member a profile or a resume. What became "
        "valid later does not count. After that no positives, or no negatives, are left.",
        "",
        "Compare the times of the actions with `valid_from` of the texts, and check the edge types.",
    ),
    "T024": ErrorPage(
        "The adapter does not fit the model",
        "`lora.targets` are names of linear layers of the model, as far as they are equal in all blocks. `auto` takes "
        "all linear layers of the blocks.",
        "lora: {targets: [q_proj, v_proj]}      # BERT calls them query and value",
        "Write `targets: auto`, or names that the model has.",
    ),
    "T025": ErrorPage(
        "The checkpoint of a fine-tuning cannot be used",
        "The file is damaged, or of a run with other settings, data or weights.",
        "",
        "Remove the folder in the message: it holds only unfinished work.",
    ),
    "T026": ErrorPage(
        "An adapter's folder is damaged",
        "A folder made by `star-platform text finetune` has manifest.json, probe.json, probe.npy and head.safetensors "
        "beside the weights.",
        "",
        "Name the folder that the command printed, or fine-tune again.",
    ),
    "T027": ErrorPage(
        "An adapter gives other vectors than when it was trained",
        "Each adapter comes with 20 texts and their vectors. Served with the encoder of star.yaml they come out "
        "differently: another base, revision, pooling or truncation, or a server that ignores the adapter.",
        "",
        "Compare `text:` in star.yaml with `base` in the adapter's manifest.json.",
    ),
    "T028": ErrorPage(
        "There is nothing to fine-tune by",
        "`star-platform text finetune` reads what to learn from below `text.finetune` of star.yaml, and there is no "
        "such section.",
        "text: {encoder: minilm}",
        "text:\n  encoder: minilm\n  finetune:\n    document: {feature: job.text}\n"
        "    profile: {feature: member.profile}\n    positives: applies\n    negatives: {uniform: 4}",
    ),
}
