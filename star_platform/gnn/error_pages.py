"""What `star-platform explain M0xx` prints."""

from __future__ import annotations

from star_platform.errors import ErrorPage
from star_platform.gnn.ltgnn.error_pages import LTGNN_PAGES

ERROR_PAGES: dict[str, ErrorPage] = {
    "M001": ErrorPage(
        "Nothing to train on",
        "A model learns from the edges that objectives name. No objective is ready, every objective has weight 0, or "
        "the edges of one give no example before the validation starts.",
        example="objectives:\n  views:\n    kind: link-prediction\n    edge: member-views-job",
        fix="Declare an objective in a ready branch, give it a positive weight, and check the edge's window.",
    ),
    "M002": ErrorPage(
        "The edge of an objective has no timestamp",
        "Examples are divided by time, and each sees only what came strictly before it. Without a time neither works.",
        example="edges:\n  member-views-job:\n    timestamp: viewed_at",
        fix="Declare `timestamp` on the edge. Attribute edges need none: they cannot be objectives.",
    ),
    "M003": ErrorPage(
        "An objective has no usable labels",
        "The objective names a label column that the compiled edge does not carry, or no training example is positive.",
        fix="Check the spelling of `label`, and that the column is true for some rows before the validation starts.",
    ),
    "M004": ErrorPage(
        "The edge that gives negatives joins other node types",
        "Negatives of kind `edge` must be pairs of the same node types as the objective's own edge.",
        fix="Name an edge with the same `src` and `dst` nodes, or use `uniform` or `in-batch` negatives.",
    ),
    "M005": ErrorPage(
        "The loss is not finite",
        "Training produced an infinite or undefined loss and was stopped; the last checkpoint is sound.",
        fix="Lower `training.lr`, and look for extreme values in numeric and vector features.",
    ),
    "M006": ErrorPage(
        "No validation examples",
        "No example of an objective falls between the start of validation and the start of test, so that nothing could "
        "tell when to stop. The boundaries are the same for all objectives of a model.",
        fix="Raise `training.validation_share`, widen the edge's window, or leave the objective out.",
    ),
    "M007": ErrorPage(
        "A checkpoint cannot be resumed",
        "The scratch folder of the run holds a checkpoint that is damaged or belongs to another run.",
        fix="Remove the folder that the message names and release again; only unfinished training is lost.",
    ),
    "M008": ErrorPage(
        "A model cannot be read",
        "`model.safetensors` or `config.json` is missing, damaged, or of an incompatible version.",
        fix="Run `star-platform release` again: a missing or damaged artefact is built anew.",
    ),
    "M009": ErrorPage(
        "A model and a graph do not belong together",
        "Learned id vectors, categories and relations are positions in the graph that a model was trained on; on "
        "another graph they would mean something else.",
        fix="Embed the graph that the model was trained on, or run `star-platform release`.",
    ),
    "M010": ErrorPage(
        "A model does not know an objective",
        "Scores were asked for an objective that the model was not trained for.",
        fix="Use one of the objectives that the message lists.",
    ),
    "M011": ErrorPage(
        "A model cannot be aligned to the old release",
        "Joint training keeps a new model a linear map away from the stored vectors of an old release. It needs nodes "
        "that both have, rows and earlier maps that fit them, and a moment that is not after validation starts.",
        fix="Use `compat: {mode: post-hoc}` for a release that shares no entity with the one before.",
    ),
    "M012": ErrorPage(
        "Hard negatives need attributes",
        "A hard negative shares an attribute with the positive destination: the walk goes over edges of `kind: "
        "attribute` at the destination's node type, and there are none.",
        example="objectives:\n  view: {kind: link-prediction, edge: member-views-job, negatives: {kind: hard}}",
        fix="Declare an attribute edge at that node type, such as job-has-title, or use `uniform` or `degree`.",
    ),
    "M013": ErrorPage(
        "A node classification has no usable labels",
        "The objective names a feature that the graph lacks or that is not categorical, or fewer than two classes have "
        "a training example.",
        example="objectives:\n  seniority: {kind: node-classification, node: member, feature: member.seniority}",
        fix="Name a feature of `kind: categorical` of that node type, and check its `min_count`.",
    ),
    "M020": ErrorPage(
        "A graph has what the model does not know",
        "Vectors for a newer graph can be made with a model that was trained before, as long as every node type and "
        "relation of the graph was there when it was trained. One that came later has no weights in the model.",
        fix="Run `star-platform release`: it trains a model that knows them.",
    ),
    "M021": ErrorPage(
        "A graph lacks an input of the model",
        "The model reads features, node types and ids as its training graph had them. In this graph one of them is "
        "missing, or of another kind, type or width.",
        fix="Declare it as it was in the model's release, or run `star-platform release`.",
    ),
    "M022": ErrorPage(
        "Texts come from another encoder than the model's",
        "A text's vector means something to a model only if it comes out of the encoder that made the texts of the "
        "training graph: the same weights, and for `tfidf-svd` the same texts that it was fitted to.",
        fix="Set `text:` in star.yaml back to what it was at the model's release, or run `star-platform release`.",
    ),
    "M023": ErrorPage(
        "A model of LTGNN embeds its own graph only",
        "LTGNN's vectors are the fixed point of a propagation over the whole training graph, so a refresh, which "
        "embeds some entities of a newer graph, has nothing to start from.",
        example="training: {encoder: ltgnn}",
        fix="Run `star-platform release` for new vectors, or train with `encoder: attention` or `encoder: mean`.",
    ),
    "M025": ErrorPage(
        "The optimiser state of id tables does not fit",
        "With `id_optimizer: sparse` the tables of learned ids have an optimiser of their own, whose state lies in the "
        "checkpoint beside the weights. It holds other tables, or tables of other sizes.",
        fix="Remove the run's scratch folder and release again; only unfinished training is lost.",
    ),
    "M026": ErrorPage(
        "No activities for the temporal encoder",
        "`training.sequence.activities` asks for the latest interactions of every node. Only edges of `kind: "
        "interaction`, which have a timestamp, are interactions, and the graph has none.",
        example="edges:\n  member-views-job: {kind: interaction, timestamp: viewed_at}",
        fix="Declare an interaction edge, or leave `training.sequence` out.",
    ),
    "M027": ErrorPage(
        "Heads of the temporal encoder do not divide the width",
        "The transformer over activities cuts vectors of `training.dim` numbers into as many equal parts as it has "
        "heads.",
        example="training:\n  dim: 200\n  sequence: {activities: 50, heads: 4}",
        fix="Set `training.sequence.heads` to a divisor of `training.dim`.",
    ),
    "M028": ErrorPage(
        "A model without edges does not fit the graph encoder",
        "With `mlp_init` the graph encoder starts from weights that were trained without edges, matched by name and "
        "shape. None of them fits.",
        fix="Train both with the same `dim`, features and objectives.",
    ),
    "M035": ErrorPage(
        "An adaptive fan-out has nothing to adapt",
        "`training.adaptive` starts with few neighbours per hop and draws more when validation stops improving. A "
        "model whose `fan_outs` are empty draws none that could grow.",
        example="training:\n  fan_outs: []\n  adaptive: {enabled: true}",
        fix="training:\n  fan_outs: [100, 10]\n  adaptive: {enabled: true}",
    ),
    "M036": ErrorPage(
        "A training history cannot be drawn",
        "`history.json` lies beside the weights of a model and holds an entry per validation. It is missing, damaged, "
        "or has no entry yet.",
        fix="star-platform train --plot training.png",
    ),
    "M037": ErrorPage(
        "Texts inside an LTGNN model",
        "With `text.mode: frozen` or `co-train` the encoder reads the texts of the nodes that a training step has "
        "sampled. LTGNN samples none: it propagates over the whole graph, from vectors that are there.",
        example="text: {encoder: minilm, mode: co-train}\ntraining: {encoder: ltgnn}",
        fix="text: {encoder: minilm, mode: embedding}\ntraining: {encoder: ltgnn}",
    ),
    "D040": ErrorPage(
        "matplotlib is not installed",
        "Training curves are drawn by the package matplotlib, which nothing else needs.",
        "",
        'pip install "star-platform[plots]"',
    ),
}
ERROR_PAGES |= LTGNN_PAGES
