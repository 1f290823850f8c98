"""The pages of `star-platform explain F0xx`."""

from __future__ import annotations

from star_platform.errors import ErrorPage

_RETRY = "Run `star-platform release --resume`. The active release is served meanwhile; nothing of this one is visible."

ERROR_PAGES: dict[str, ErrorPage] = {
    "F001": ErrorPage(
        "Feast has another version",
        "Publishing relies on how Feast stores versions and vectors, and that changes between its releases."
        " Only the versions that this platform is tested with are accepted.",
        fix='pip install "feast>=0.67.0,<0.68"',
    ),
    "F002": ErrorPage(
        "Feast's record format changed",
        "Vectors are handed to Feast as the bytes that Feast itself would write. A check before every publish found"
        " that these bytes are no longer the same, so nothing was written.",
        fix="Install the versions of the lock file: `make install`.",
    ),
    "F003": ErrorPage(
        "feature_store.yaml has settings that lose vectors",
        "Without online versioning a client reads nulls or the wrong release; with another key format it finds nothing;"
        " with Redis and without skip_dedup a repeated write is silently dropped.",
        example="registry:\n  enable_online_feature_view_versioning: true\nentity_key_serialization_version: 3",
        fix="Set the lines that the message names.",
    ),
    "F004": ErrorPage(
        "There is no feature_store.yaml",
        "The Feast repository of the project, `publishing.feature_repo` in star.yaml, holds no feature_store.yaml.",
        fix="Run `star-platform init` in the project's folder; it writes only what is missing.",
    ),
    "F010": ErrorPage(
        "Vectors of the wrong shape or type",
        "One float32 row per id is published. The artefact of the embed stage holds something else.",
        fix="Run `star-platform release` again: a damaged artefact is rebuilt.",
    ),
    "F011": ErrorPage(
        "Ids are not unique",
        "Two vectors under one id would overwrite each other in the online store, and the count would be wrong.",
        fix="Look for keys that differ only before they are turned into the key's type.",
    ),
    "F012": ErrorPage(
        "Ids that Feast cannot hold",
        "Feast keys are Int64 or String. Whole numbers of up to 64 bits and everything that has a text form fit.",
        example='sources:\n  members: {sql: "SELECT CAST(uid AS VARCHAR) AS uid, * EXCLUDE uid FROM raw"}',
        fix="Cast the key in the branch's source.",
    ),
    "F013": ErrorPage(
        "Vectors with NaN or infinity",
        "A model that diverged writes values that no downstream model can use. They are refused before any is written.",
        fix="Lower `training.lr` in star.yaml and release again.",
    ),
    "F014": ErrorPage(
        "Nothing to publish",
        "A release needs a number from 1 on, at least one entity node type, and the fingerprint of its space.",
        fix="Declare a node of `kind: entity` in a branch that is ready.",
    ),
    "F015": ErrorPage(
        "A published release does not change",
        "Consumers pin a release by its number, so its vectors stay what they are. The number was published before"
        " with other vectors.",
        fix="Make a new release: `star-platform release`.",
    ),
    "F016": ErrorPage(
        "The type of a key changed",
        "Feast has one entity for all versions of a view, and a key's type is part of the bytes it is stored under.",
        fix="Cast the key to its former type in the branch's source, or declare a node type with a new name.",
    ),
    "F020": ErrorPage(
        "Offline vectors differ from the artefact",
        "Every row of the Parquet dataset is compared with the artefact after it is written. One differs or is gone.",
        fix=_RETRY + " The dataset is written anew.",
    ),
    "F021": ErrorPage(
        "The online store holds another number of vectors",
        "The rows of the version were counted in the online store, and the artefact has more or fewer.",
        fix=_RETRY,
    ),
    "F022": ErrorPage(
        "Online vectors differ from the artefact",
        "At least 1,000 ids of every node type, with the first and last of every shard, are read back through a stock"
        " Feast client and compared bit for bit. Some came back different or not at all.",
        fix=_RETRY,
    ),
    "F023": ErrorPage(
        "The online store finds ids that do not exist",
        "Ids without a vector were asked for, and vectors came back: two releases or projects share storage.",
        fix="Give every project its own `project:` name and, with Redis, its own database.",
    ),
    "F024": ErrorPage(
        "The historical join returns other vectors",
        "The sample, joined at the time of the release's data, must come back bit for bit; a microsecond before,"
        " nothing may come back.",
        fix="feature_store.yaml must name `offline_store: {type: duckdb}`. " + _RETRY,
    ),
    "F030": ErrorPage(
        "The release lacks this node type",
        "Only entity node types are published, and a release has those that its branches declared then.",
        fix="`star-platform show rN` lists what a release holds.",
    ),
    "F031": ErrorPage(
        "Ids of the wrong type",
        "The key of this node type is a whole number, and an id that was asked for is not one.",
        example="star-platform fetch member 17 23",
        fix="Ask with the ids of the source tables.",
    ),
    "F032": ErrorPage(
        "The historical join lost rows",
        "As many rows must come out as went in. Some of Feast's offline stores drop rows that are older than the first"
        " vector, or that share key and time.",
        fix="Set `offline_store: {type: duckdb}` in feature_store.yaml.",
    ),
    "F033": ErrorPage(
        "A vector of the wrong length",
        "What Feast returned has another length than the release declares.",
        fix="Publish the release again; `star-platform doctor` compares all of it.",
    ),
    "F034": ErrorPage(
        "Feast does not know this consumer",
        "Every consumer of consumers/*.yaml gets a feature service when a release is activated.",
        fix="Declare the consumer and activate a release.",
    ),
    "F050": ErrorPage(
        "The online store does not answer",
        "The connection broke, or the file cannot be read or written. What the store had acknowledged is not sent again"
        " unless it lost it; nothing of an unfinished release is visible.",
        fix="See that the server runs and is reachable. " + _RETRY,
    ),
    "F051": ErrorPage(
        "The online store refused a command",
        "Redis answered with an error instead of taking the rows: its memory is full, it is a read-only replica, or the"
        " password is wrong. The message holds its words.",
        fix="Make room (`star-platform purge` of a retired release), or correct the settings. " + _RETRY,
    ),
    "F052": ErrorPage(
        "Two versions share a field name",
        "Feast names the fields of a Redis hash by 32 bits of a hash. Two versions of this node type came out alike and"
        " would overwrite each other.",
        fix="Release again: numbers are never reused, and the next one has another name.",
    ),
    "F053": ErrorPage(
        "A process that wrote to the online store died",
        "A large release is written by several processes; one of them ended without an answer.",
        fix=_RETRY,
    ),
    "F054": ErrorPage(
        "A map that leads elsewhere",
        "A retired release is answered from a newer one through a map. This map was fitted between other spaces or"
        " dimensions than those that the two releases have, so its vectors would mean nothing to their readers.",
        fix="`star-platform show rN` names the spaces of a release; take the map of these two.",
    ),
    "F055": ErrorPage(
        "The online store cannot remove rows",
        "Feast deletes all versions of a view or none. SQLite, Redis and Postgres are handled by this platform itself;"
        " this is another store.",
        fix="Remove the version with the store's own tools.",
    ),
    "F056": ErrorPage(
        "Vectors that do not belong into this release",
        "Publishing into a release that is there keeps its space: dimensions and type of ids stay, and new rows carry"
        " an event time after all that are there, or past training rows would see them.",
        fix="Pass `as_of`, the newest event of the new data. Vectors of another model are another release.",
    ),
    "F057": ErrorPage(
        "A name that Postgres would cut",
        "Postgres keeps 63 bytes of a table's name and drops the rest without an error. The number of the release is at"
        " the end of `<project>_<node>_embedding_vN`, so two versions could be one table, and publishing the one would"
        " destroy the other. Nothing was written.",
        fix="Give the project in feature_store.yaml or the node type a shorter name.",
    ),
    "F041": ErrorPage(
        "Feast's registry is out of step",
        "Feast's registry is derived from ours. They differ, most likely because a process died between the two"
        " writes. `feast apply` is refused meanwhile, since it would drop tables.",
        fix="Run `star-platform doctor --repair`.",
    ),
    "F042": ErrorPage(
        "Feast did not take what was applied",
        "After the objects were applied, Feast's registry was read back and says something else. It was not put into"
        " use.",
        fix="Check that nobody else writes to this registry, then run the command again.",
    ),
    "F043": ErrorPage(
        "A consumer reads what its release does not hold",
        "The consumer is pinned to a release that lacks one of its node types, or names none.",
        example="consumer: ranker\nowner: ads@example.com\nnodes: [member, job]\nrelease: latest",
        fix="Correct `nodes` or `release` in its file in consumers/.",
    ),
    "F060": ErrorPage(
        "The release is no longer served",
        "Its vectors were removed, and no map within the gate leads to its space from a later release. A later release"
        " has another embedding space, so nothing is put in its place.",
        example="star-platform who-uses r1",
        fix="Pin the release that the message names and retrain on its vectors.",
    ),
    "F061": ErrorPage(
        "It is not clear which node type to read",
        "Members and jobs may share an id, so a read says which of them it means. It may leave that out only where the"
        " consumer declares a single node type.",
        example='client.read([17, 23], consumer="ranker", node="member")',
        fix="Name the node type.",
    ),
    "F062": ErrorPage(
        "A published version does not say which space it is",
        "Views of releases carry the fingerprint and the dimension of their embedding space as tags. Those that an"
        " older version of this platform registered do not, and vectors of an unknown space are not read.",
        fix="Run `star-platform doctor --repair`; it registers the views anew and touches no vector.",
    ),
    "F063": ErrorPage(
        "A map does not fit",
        "A retired release is answered from a newer one through a map. The spaces or dimensions that the map was fitted"
        " for are not those that Feast holds, so nothing is answered.",
        fix="Run `star-platform doctor --repair`.",
    ),
    "F064": ErrorPage(
        "A query of another embedding space",
        "Distances mean something within one space only. Vectors of a newer release are mapped into an older space"
        " where a map was published; there is no way back, nor between releases without one.",
        example='search.search(vector, node="job", release=2, of=3)',
        fix="Search by id, or with a vector of the release that is searched.",
    ),
    "F065": ErrorPage(
        "There is no usable search index",
        "Online stores that cannot search vectors are searched through an index that is exported beside the offline"
        " dataset of a release. It is missing, damaged, or was made of other vectors.",
        fix="star-platform index r2 --node job",
    ),
    "F066": ErrorPage(
        "The entity to search by has no vector",
        "Neighbours of an entity are those of its own vector, and the release holds none for this id.",
        fix="Check the id, or search with a vector.",
    ),
    "D030": ErrorPage(
        "usearch is not installed",
        "Online stores that cannot search vectors are searched through an exported index, which the package usearch"
        " builds and reads. It also finds similar nodes for `training.densify` among more than 20,000 candidates.",
        "",
        'pip install "star-platform[ann]"',
    ),
}
