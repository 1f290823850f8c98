"""What `star-platform explain G0xx` prints."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "G001": ErrorPage(
        "A source has no file",
        "The path of a `path:` source, with its variables filled in and its glob expanded, matches no file. The engine "
        "reads local files only; a folder stands for all Parquet files below it.",
        example="sources:\n  views: {path: '${data}/view.parquet'}   # the file is views.parquet",
        fix="Correct the path, or the variable in star.yaml that it uses. The hint lists near names in that folder.",
    ),
    "G002": ErrorPage(
        "A file cannot be read",
        "The file is there but is not what its format says: cut short, another format, or CSV whose rows do not have "
        "the columns of its header. Values that the reader quotes are left out of the message: they may be personal.",
        fix="Check the file, or declare `format`, `delimiter` and `null_values` of the source.",
    ),
    "G003": ErrorPage(
        "An unknown variable",
        "A path uses `${name}`, and star.yaml has no such entry under `variables`.",
        fix="Define the variable in star.yaml, or correct its name.",
    ),
    "G004": ErrorPage(
        "A connection cannot be used",
        "A `table:` source names a connection that star.yaml does not define, or the database behind it does not "
        "answer. URLs are SQLAlchemy URLs: `sqlite:///path.db`, `postgresql+psycopg2://user@host/database`.",
        fix="Correct `connections` in star.yaml, and check that the server is up and takes the user.",
    ),
    "G005": ErrorPage(
        "A SQL table cannot be read",
        "The connection works, but the table does not exist, the user may not read it, or a column holds values of "
        "another type than it declares (SQLite allows that).",
        fix="Correct `table` (`schema.table` where needed), or clean the column.",
    ),
    "G006": ErrorPage(
        "A Feast feature view cannot be read",
        "There is no Feast repository in the folder, the repository has no such feature view or version, or its "
        "offline store fails on it.",
        example="sources:\n  stats: {feast: driver_stats@v2, feature_repo: ../feature_repo}",
        fix="Set `feature_repo` to the folder with feature_store.yaml; `feast feature-views list` shows the names.",
    ),
    "G010": ErrorPage(
        "A source has no such column",
        "A signal names a column that its source does not have. Names are compared exactly, with case.",
        fix="Correct the name; the hint shows near ones. A query can rename columns: `sql: SELECT x AS y FROM ...`.",
    ),
    "G011": ErrorPage(
        "A denied column",
        "`privacy.deny_columns` of any branch holds for the whole project. A denied column cannot be a key, a value, a "
        "label, or part of a `where:` or `sql:`, not even as a field of a struct; `SELECT *` leaves it out.",
        fix="Use another column. If the column is harmless, its denial is what has to change, in review.",
    ),
    "G012": ErrorPage(
        "SQL that the engine does not take",
        "A `sql:` source is one SELECT over other sources of its branch; a `where:` is one condition over the columns "
        "of a row. Both are DuckDB SQL. They cannot read files, call table functions, or hold several statements.",
        example='sources:\n  recent: {sql: "SELECT * FROM views WHERE seen_at > now() - INTERVAL 90 DAY"}',
        fix="Declare what the query reads as sources, and name them. Instead of a subquery in `where:`, use a "
        "`sql:` source.",
    ),
    "G013": ErrorPage(
        "A value cannot be converted",
        "Text that is no time where a time is needed, or a number out of range. A plain number is not taken as a time, "
        "because its unit cannot be told.",
        example="edges:\n  views: {timestamp: seen}   # seen holds 1733948435",
        fix="Convert it in a `sql:` source: `SELECT *, to_timestamp(seen) AS seen_at FROM views`.",
    ),
    "G014": ErrorPage(
        "Ids of different types",
        "Ids of a node type have one type. Integers of every width are one type; text and integers are two, since "
        '"7" and 7 may be different things, and joining them would match nothing without a word.',
        fix="Cast one of them in a `sql:` source: `SELECT CAST(member_id AS BIGINT) AS member_id, ... FROM ...`.",
    ),
    "G015": ErrorPage(
        "Edges with unknown ends",
        "Some edges name a node that the node type's source does not list. The message counts them and shows "
        "pseudonyms of some; the real ids are left out on purpose.",
        example="dst: {node: job, key: job_id, unknown: drop}",
        fix="`unknown: drop` leaves such edges out and counts them, `unknown: create` adds the nodes; or complete the "
        "source of the node type.",
    ),
    "G016": ErrorPage(
        "An opt-out that concerns no node type",
        "`privacy.opt_out` names no node type, and its key is the key column of none.",
        fix="Add `node:` to the opt-out.",
    ),
    "G017": ErrorPage(
        "Vectors that cannot be used",
        "A vector feature needs a column of lists of numbers, all of one length (the declared `dim` if there is one), "
        "every number finite.",
        fix="Leave bad vectors out in a `sql:` source: a node without a vector is a node with a missing value.",
    ),
    "G018": ErrorPage(
        "Numbers that cannot be used",
        "A weight or a numeric feature is not a number, is infinite, or is negative where log1p is asked for.",
        fix="Cast or clean it in a `sql:` source, or choose another `transform`.",
    ),
    "G019": ErrorPage(
        "Too many nodes of one type",
        "Node indices are 32-bit: a node type holds at most 2,147,483,647 nodes.",
        fix="Split the node type, or narrow its source.",
    ),
    "G020": ErrorPage(
        "The memory limit",
        "The engine spills to disk what does not fit `memory_limit`, but some steps need a minimum per thread.",
        example="engine: {memory_limit: 4GB, threads: 2}",
        fix="Raise `memory_limit` in star.yaml (512MB, 4GB), or lower `threads`.",
    ),
    "G021": ErrorPage(
        "Labels that are not true or false",
        "The label of an objective is a boolean, or a number that is 0 or 1; null means unknown and is never used.",
        fix="Derive it in a `sql:` source: `SELECT *, rating >= 4 AS liked FROM ...`.",
    ),
    "G022": ErrorPage(
        "A node type without nodes",
        "A node type gets its nodes from a source, or from edges whose end says `unknown: create`; "
        "this one has neither.",
        fix="Give it `source` and `key`, or set `unknown: create` on an end that names it.",
    ),
    "G023": ErrorPage(
        "Too many groups in a cohort",
        "A cohort divides nodes into groups that are reported apart; more than 10,000 of them is an id, not a group.",
        fix="Choose a coarser column, or group it in a `sql:` source.",
    ),
    "G030": ErrorPage(
        "A compiled graph cannot be opened",
        "The folder holds another artefact, or one of its arrays is missing or cut short.",
        fix="Run the release again: what is damaged is built again from the sources.",
    ),
    "G031": ErrorPage(
        "The graph has no such type",
        "A node type or edge type was asked for that the graph does not hold. Reverse edge types are `rev_<name>`.",
        fix="The hint lists what the graph has.",
    ),
    "D001": ErrorPage(
        "DGL is not installed",
        "`to_dgl` hands the graph to DGL, which is the extra `dgl`: its last wheel is for Python 3.11. Everything else "
        "works without it.",
        fix='pip install "star-platform[dgl]" on Python 3.11.',
    ),
    "G050": ErrorPage(
        "A graph too large to sample",
        "The sampler numbers all nodes of a graph with 31 bits and all edge types with 15.",
        fix="Sample a graph of fewer than 2,147,483,648 nodes, or split it by node type.",
    ),
    "G060": ErrorPage(
        "A fan-out for an edge type that is not there",
        "A fan-out given as a mapping names edge types, reverses as `rev_<name>`; edge types that it leaves out are "
        "not followed at that hop.",
        example="training:\n  budget: per-relation\n  fan_outs: [{views: 10, rev_views: 10}, {has-skill: 5}]",
        fix="Correct the name; the hint shows near ones.",
    ),
    "G061": ErrorPage(
        "No weights to draw by",
        "`strategy: weighted` draws neighbours with chances that follow edge weights, and no edge of the graph "
        "declares any. Beside weighted edge types, those without weights count 1 for every edge.",
        fix="Declare `weight` on an edge in a branch file, or choose the strategy uniform or latest.",
    ),
    "G062": ErrorPage(
        "Fan-outs by edge type need lists by edge type",
        "With a joint budget a node has one list of neighbours over all its edge types, and a fan-out counts them "
        "together; a fan-out by edge type needs a list for each.",
        fix="Set `budget: per-relation`, or give the fan-out as one number.",
    ),
    "G065": ErrorPage(
        "A channel over an unknown edge type",
        "`training.ppr.channels` lists edge types that walks may take, by the name of the declared edge type; its "
        "reverse belongs to it. The graph has no edge type of that name.",
        example="training: {strategy: ppr, ppr: {channels: [[member-applies-jobs]]}}   # it is member-applies-job",
        fix="Correct the name; the hint shows near ones. No channels at all means one over every edge type.",
    ),
    "G066": ErrorPage(
        "A node type that cannot be densified",
        "Densification joins nodes of one type whose texts or vectors are alike. The named node type is not there, or "
        "has neither a text nor a vector feature.",
        example="training: {densify: {neighbours: 10, nodes: [company]}}   # company has only an id feature",
        fix="Give the node type a text or vector feature, or leave it out of `training.densify.nodes`.",
    ),
    "G067": ErrorPage(
        "Derived edges of another graph",
        "PageRank neighbours and similar nodes are computed from one compiled graph and mean nothing on another: their "
        "node indices are those of its nodes. Or the folder holds another kind of artefact.",
        fix="Release again: edges that do not fit are computed anew.",
    ),
    "G068": ErrorPage(
        "A graph without PageRank neighbours",
        "`strategy: ppr` draws neighbours that the stage `derive` computes once per graph. This graph was opened "
        "without them, or nothing in it could be scored.",
        example='graph = open_graph(".../graph/<fingerprint>")   # without its derived edges',
        fix="Open it with `open_extended(graph, derived)`, or train with another `strategy`.",
    ),
    "G069": ErrorPage(
        "A declared edge type has the name of a derived one",
        "The stage `derive` adds edge types named `ppr__<src>__<dst>`, `ppr_<channel>__<src>__<dst>` and "
        "`similar_<node>`. A branch declares one of these names.",
        fix="Rename the edge type in its branch file.",
    ),
    "G040": ErrorPage(
        "The pseudonym key is damaged",
        "Pseudonyms in logs and exports are made with a secret key of 16 to 64 bytes, kept as hex text beside the "
        "project's data.",
        fix="Remove the key file: a new one is made. Pseudonyms from before then no longer match those from after.",
    ),
}
