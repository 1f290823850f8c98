"""What `star-platform explain C0xx` prints."""

from __future__ import annotations

from star_platform.errors import ErrorPage

_AGAIN = "Run `star-platform release` again: unchanged stages are reused, the damaged one is made anew."

ERROR_PAGES: dict[str, ErrorPage] = {
    "C001": ErrorPage(
        "Stored maps cannot be read",
        "The maps of a release are two files, `maps.safetensors` and `maps.json`, in its `compat` artefact. One of "
        "them is missing, cut short, or does not belong to the other.",
        fix=_AGAIN,
    ),
    "C002": ErrorPage(
        "Ids and vectors do not belong together",
        "There must be one row of vectors per id. A count that differs means that ids and vectors come from two "
        "different artefacts; nothing is fitted on rows that may belong to somebody else.",
        fix=_AGAIN,
    ),
    "C003": ErrorPage(
        "Vectors of another dimension than the map takes",
        "A map takes vectors of the release that it starts at. Another dimension means that vectors of another release "
        "were handed in. Vectors of an equal dimension but another space cannot be told by their shape: releases and "
        "spaces are compared before a map is used.",
        fix="Read the vectors of the release that the message names.",
    ),
    "C004": ErrorPage(
        "Two maps with one name",
        "A map is known by its node type, the release that it starts at and the one that it leads to; there is one of "
        "each.",
        fix="List every older release once.",
    ),
    "C010": ErrorPage(
        "An id is missing or stands twice",
        "Two releases are joined on the id of the entity, never by row. An id that stands twice, or a row without one, "
        "would pair vectors of different entities.",
        fix=_AGAIN,
    ),
    "C011": ErrorPage(
        "Ids of two kinds",
        "In one release the ids of a node type are numbers, in the other they are text, so that no entity is found in "
        "both. The same is said when the keys of a labelled set are of another kind than the ids.",
        fix="Keep the type of a key across releases, cast the key of the labelled set, or rename the node type.",
    ),
    "C012": ErrorPage(
        "Vectors that no map can be fitted on",
        "A vector holds an infinite number or none, or the two sides of a fit have a different number of rows.",
        fix="Look at the embeddings of both releases with `star-platform show`, and train the damaged one again.",
    ),
    "C013": ErrorPage(
        "No entity in common",
        "A map is fitted on entities that both releases have, and there is none.",
        fix="Were the ids made anew (another pseudonym key, another key column)? Then old readers cannot be served.",
    ),
    "C014": ErrorPage(
        "A map with a network cannot be composed",
        "Maps of method `residual` hold a small network beside the matrix. Two matrices multiply to one; a network "
        "does not, so each older release needs a map of its own, fitted while its vectors are still stored.",
        example="compat:\n  method: residual",
        fix="compat:\n  method: ridge",
    ),
    "C015": ErrorPage(
        "Maps that do not follow each other",
        "Maps are composed along the chain of releases: the second starts at the release, and in the embedding space, "
        "in which the first ends. These two do not, and their product would be numbers without a meaning.",
        fix=_AGAIN,
    ),
    "C020": ErrorPage(
        "A release would break who reads an older one",
        "A consumer is pinned to an older release, and the map from the new vectors to those is not good enough for "
        "it: its own AUC or calibration on its labelled set, or, for a consumer without a scorer, the geometry of "
        "held-out entities. Too few labelled rows or held-out entities to tell fail as well. Nothing was published "
        "and the active release is unchanged.",
        example="compat:\n  mode: post-hoc",
        fix="# train the encoder to stay mappable:\ncompat:\n  mode: joint-multi\n"
        "# or keep the old vectors served until the consumer has moved:\ncompat:\n  keep: [r1]",
    ),
    "C030": ErrorPage(
        "The scorer of a consumer cannot be opened",
        "A consumer file names its frozen model as a Python entry point (a function that returns a callable) or as an "
        "ONNX file, relative to the project. It could not be imported or loaded. The consumer is judged "
        "`inconclusive`, which stops a release as `fail` does.",
        example="scorer: {python: scorers.feed}",
        fix='scorer: {python: "scorers.feed:load"}\n# or\nscorer: {onnx: models/feed.onnx}',
    ),
    "C031": ErrorPage(
        "The scorer of a consumer fails",
        "The model was loaded, and raised an error or answered with something other than one finite number per row. It "
        "is called with `{node type: float32 [rows, d]}` and `{column: [rows]}`; an ONNX model gets inputs of the same "
        "names.",
        fix="Call it on a few rows of its labelled set; rows are scored on their own, in blocks.",
    ),
    "C032": ErrorPage(
        "The labelled set of a consumer cannot be read",
        "`cases` names a Parquet file relative to the project, its label column, the key column of each node type, "
        "further columns for the scorer, and the column that tells which rows belong together. The file or a column is "
        "not there.",
        fix="cases: {path: cases/feed.parquet, label: clicked, keys: {member: member_id, job: job_id}, "
        "cluster: member_id}",
    ),
    "C033": ErrorPage(
        "Labels other than 0 and 1",
        "The label column of a labelled set says of each row whether it turned out positive: true/false or 1/0, and "
        "never missing.",
        fix="Write the label as a comparison, such as `clicks > 0`, before the file is written.",
    ),
    "C034": ErrorPage(
        "A labelled set with keys that its consumer does not read",
        "`cases.keys` names a node type that is not under `nodes` of the consumer, so nothing says which release of it "
        "the model was trained on.",
        example="nodes: [member]\ncases: {keys: {member: member_id, job: job_id}, ...}",
        fix="nodes: [member, job]\ncases: {keys: {member: member_id, job: job_id}, ...}",
    ),
    "D020": ErrorPage(
        "onnxruntime is not installed",
        "A consumer's scorer is an ONNX file, and running it takes the extra `onnx`. Consumers with a Python entry "
        "point, or without a scorer, do not need it.",
        fix='pip install "star-platform[onnx]"',
    ),
}
