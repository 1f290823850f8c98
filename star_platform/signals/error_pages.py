"""A page for every code of a branch or consumer file: what it means, a wrong example, and the right one.

The examples are checked: each wrong one gives its code, each right one does not.
"""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "S001": ErrorPage(
        "the file is not text",
        "Branch files are UTF-8 text. A byte that is not UTF-8, or a control character, usually comes from an"
        " editor with another encoding or from a file that was pasted as binary.",
        fix="iconv -f latin1 -t utf-8 signal_branches/first.yaml > fixed.yaml",
    ),
    "S002": ErrorPage(
        "the file is empty",
        "The file holds nothing but space and comments. A branch says at least what it is called and who owns it.",
        example="# only a comment",
        fix="""\
branch: first
owner: team@example.com
""",
    ),
    "S003": ErrorPage(
        "unresolved merge",
        "Markers of a git merge conflict are still in the file, so it says two things at once. Keep one side,"
        " or both as two signals, and delete the marker lines.",
        example="""\
<<<<<<< HEAD
status: draft
=======
status: ready
>>>>>>> feature
""",
        fix="status: ready",
    ),
    "S004": ErrorPage(
        "indented with a tab",
        "YAML counts spaces; a tab has no width. Set the editor to write spaces, or run `star-platform fmt` "
        "after replacing the tabs.",
        example="nodes:\n\tmember: {kind: attribute}",
        fix="""\
nodes:
  member: {kind: attribute}
""",
    ),
    "S005": ErrorPage(
        "not valid YAML",
        "The text cannot be read as YAML. The usual causes are a quote or bracket that never closes, text "
        "with ': ' in it that is not quoted, and indentation that differs from the line above.",
        example="description: views: of jobs",
        fix='description: "views: of jobs"',
    ),
    "S006": ErrorPage(
        "not one mapping",
        "A file is one mapping of fields: one document, with names such as 'branch:' at its left margin. A "
        "list, a bare word, or a second document after '---' is something else.",
        example="""\
- branch: first
- branch: second
""",
        fix="""\
branch: first
owner: team@example.com
""",
    ),
    "S007": ErrorPage(
        "a key stands twice",
        "The same key stands twice in one mapping. Most YAML readers let the last one win without a word, "
        "which is how signals get lost; here it is an error.",
        example="""\
description: one
description: two
""",
        fix="description: one",
    ),
    "S008": ErrorPage(
        "YAML feature that is not used here",
        "Anchors, aliases, merge keys, tags and directives let a value stand somewhere else than where it is "
        "used. A reviewer of a branch must see what it says, so they are refused: write the value out.",
        example="""\
sources:
  a: &file {path: views.parquet}
  b: *file
""",
        fix="""\
sources:
  a: {path: views.parquet}
  b: {path: views.parquet}
""",
    ),
    "S009": ErrorPage(
        "a key that is not text",
        "Keys are names. YAML reads a bare number, true or false, and a missing word as something else than text.",
        example="""\
sources:
  2026: {path: views.parquet}
""",
        fix="""\
sources:
  views_2026: {path: views.parquet}
""",
    ),
    "S010": ErrorPage(
        "unknown field",
        "The schema is closed: a field that it does not know is most often a typing error, and would "
        "otherwise be ignored in silence. The note lists the fields that may stand there.",
        example="""\
nodes:
  member: {kind: entity, source: members, keys: member_id}
sources:
  members: {path: members.parquet}
""",
        fix="""\
nodes:
  member: {kind: entity, source: members, key: member_id}
sources:
  members: {path: members.parquet}
""",
    ),
    "S011": ErrorPage(
        "a field is missing",
        "A field that has no default is absent.",
        example="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    dst: {node: job, key: job_id}
    timestamp: viewed_at
""",
        fix="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: viewed_at
""",
    ),
    "S012": ErrorPage(
        "a value of the wrong type",
        "Values are not converted in silence: a number in quotes is text, and 'yes' is text too (YAML 1.2 "
        "knows only true and false).",
        example="""\
features:
  member.id: {kind: id, dim: "32"}
""",
        fix="""\
features:
  member.id: {kind: id, dim: 32}
""",
    ),
    "S013": ErrorPage(
        "a value that is not one of the known ones",
        "The field takes one of a few values; the note lists them.",
        example="status: reday",
        fix="status: ready",
    ),
    "S014": ErrorPage(
        "unknown node",
        "An edge, feature, cohort, opt-out or consumer names a node type that no branch file declares under "
        "'nodes:'. All files of the folder are looked at, drafts included. Either the name is misspelt, or "
        "the branch that declares it is not here.",
        example="""\
nodes:
  group: {kind: attribute}
edges:
  member-joins-group:
    kind: attribute
    source: groups
    src: {node: group, key: group_id, unknown: create}
    dst: {node: grupo, key: member_id}
sources:
  groups: {path: groups.parquet}
""",
        fix="""\
nodes:
  group: {kind: attribute}
  member: {kind: attribute}
edges:
  member-joins-group:
    kind: attribute
    source: groups
    src: {node: group, key: group_id, unknown: create}
    dst: {node: member, key: member_id, unknown: create}
sources:
  groups: {path: groups.parquet}
""",
    ),
    "S015": ErrorPage(
        "not a valid name",
        "Names become parts of file names, table names and Feast objects: lower case letters, digits and '_',"
        " starting with a letter. Branches, sources, edges, objectives and cohorts may use '-' too; nodes may"
        " not, and features are <node>.<feature>.",
        example="""\
nodes:
  Company: {kind: attribute}
""",
        fix="""\
nodes:
  company: {kind: attribute}
""",
    ),
    "S016": ErrorPage(
        "not a duration",
        "A duration is a whole number and a unit: s, m (minutes), h, d, w. Months and years have no fixed "
        "length: write days.",
        example="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: viewed_at
    window: 6 months
""",
        fix="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: viewed_at
    window: 180d
""",
    ),
    "S017": ErrorPage(
        "out of range",
        "A number or a text is outside of what the field takes.",
        example="""\
features:
  member.id: {kind: id, dim: 0}
""",
        fix="""\
features:
  member.id: {kind: id, dim: 32}
""",
    ),
    "S018": ErrorPage(
        "no value",
        "A field stands there without a value, or with an empty text or list. It says nothing, and looks as "
        "if it did. Write a value, or delete the field: its default then holds.",
        example="""\
description:
status: draft
""",
        fix="""\
description: Who viewed which job.
status: draft
""",
    ),
    "S019": ErrorPage(
        "a source without a place",
        "A source says where its rows come from, by exactly one of path, table, sql and feast.",
        example="""\
sources:
  views: {format: csv}
""",
        fix="""\
sources:
  views: {path: views.csv}
""",
    ),
    "S020": ErrorPage(
        "a source with two places",
        "A source has exactly one of path, table, sql and feast.",
        example="""\
sources:
  views: {path: views.parquet, sql: "select * from v"}
""",
        fix="""\
sources:
  views: {path: views.parquet}
""",
    ),
    "S021": ErrorPage(
        "unknown apiVersion",
        "The file is written for another version of the schema. Leave the field out, or upgrade the platform.",
        example="apiVersion: star/v2",
        fix="apiVersion: star/v1",
    ),
    "S022": ErrorPage(
        "not a table or feature view",
        "A table is named as table, schema.table or database.schema.table; a Feast feature view by its name, "
        "with @vN for a version.",
        example="""\
sources:
  views: {table: "select * from v", connection: warehouse}
""",
        fix="""\
sources:
  views: {table: tracking.views, connection: warehouse}
""",
    ),
    "S023": ErrorPage(
        "two branches with one name",
        "A branch is one file: its name says who declared a signal, in the plan and in the registry.",
        example="""\
# signal_branches/a.yaml
branch: views
# signal_branches/b.yaml
branch: views
""",
        fix="""\
# signal_branches/b.yaml
branch: saves
""",
    ),
    "S024": ErrorPage(
        "unknown source",
        "A declaration reads a source that its own file does not declare. Sources are local to a file, so "
        "that a branch can be read on its own.",
        example="""\
nodes:
  member: {kind: entity, source: members, key: member_id}
""",
        fix="""\
sources:
  members: {path: members.parquet}
nodes:
  member: {kind: entity, source: members, key: member_id}
""",
    ),
    "S025": ErrorPage(
        "a source that reads itself",
        "A sql source may name the other sources of its branch as tables, but following these names must not "
        "lead back to it.",
        example="""\
sources:
  recent: {sql: "select * from recent where viewed_at > '2026-01-01'"}
""",
        fix="""\
sources:
  views: {path: views.parquet}
  recent: {sql: "select * from views where viewed_at > '2026-01-01'"}
""",
    ),
    "S026": ErrorPage(
        "unknown variable",
        "${name} in a source is a variable of star.yaml, under 'variables:'. Environment variables "
        "(${env:NAME}) belong into star.yaml, not into branches.",
        example="""\
sources:
  views: {path: "${dta}/views.parquet"}
""",
        fix="""\
sources:
  views: {path: "${data}/views.parquet"}
""",
    ),
    "S027": ErrorPage(
        "unknown connection",
        "A table is read through a connection that star.yaml names under 'connections:', so that no branch "
        "holds a password.",
        example="""\
sources:
  views: {table: tracking.views, connection: lake}
""",
        fix="""\
sources:
  views: {table: tracking.views, connection: warehouse}
""",
    ),
    "S028": ErrorPage(
        "unknown edge",
        "An objective predicts an edge, or takes its negatives from one, that no branch file declares under 'edges:'.",
        example="""\
objectives:
  views: {kind: link-prediction, edge: member-view-job}
""",
        fix="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
objectives:
  views: {kind: link-prediction, edge: member-views-job}
""",
    ),
    "S029": ErrorPage(
        "negatives with other endpoints",
        "A negative is a pair that could have been a positive, so the edge that gives the negatives joins the"
        " same node types, in the same direction, as the edge that is predicted.",
        example="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
  recruiter-skips-member:
    kind: interaction
    source: views
    src: {node: recruiter, key: recruiter_id}
    dst: {node: member, key: member_id}
    timestamp: skipped_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {edge: recruiter-skips-member}}
""",
        fix="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
  member-skips-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: skipped_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {edge: member-skips-job}}
""",
    ),
    "S030": ErrorPage(
        "positives as negatives",
        "The objective takes its negatives from the very edge that it predicts.",
        example="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {edge: member-views-job}}
""",
        fix="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {kind: uniform}}
""",
    ),
    "S031": ErrorPage(
        "labelled negatives without a label",
        "'negatives: {kind: labelled}' means that the rows whose label is false are the negatives, so the "
        "objective names the label column.",
        example="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {kind: labelled}}
""",
        fix="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, label: applied, negatives: {kind: labelled}}
""",
    ),
    "S032": ErrorPage(
        "negatives and their edge do not fit",
        "Negatives of kind 'edge' name the edge type that they come from; the other kinds name none.",
        example="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {kind: uniform, edge: member-skips-job}}
""",
        fix="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {kind: uniform}}
""",
    ),
    "S033": ErrorPage(
        "an interaction without a timestamp",
        "Interactions are dated history: without a date an edge could leak what happened later into what is "
        "predicted. If the edge holds at any time, it is of kind 'attribute'.",
        example="""\
edges:
  member-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
""",
        fix="""\
edges:
  member-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: viewed_at
""",
    ),
    "S034": ErrorPage(
        "a window without a timestamp",
        "A window keeps the edges within a span before the newest one, so it needs their dates.",
        example="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    window: 90d
""",
        fix="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: since
    window: 90d
""",
    ),
    "S035": ErrorPage(
        "a weight without a column",
        "A weight is the sum, mean, max, min or last of a column over repeated edges. Only 'aggregate: count'"
        " needs no column.",
        example="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    weight: {aggregate: sum}
""",
        fix="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    weight: {column: replies, aggregate: sum}
""",
    ),
    "S036": ErrorPage(
        "a counted weight with a column",
        "'aggregate: count' counts the rows of an edge; a column beside it would be ignored.",
        example="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    weight: {column: replies, aggregate: count}
""",
        fix="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    weight: {aggregate: count}
""",
    ),
    "S037": ErrorPage(
        "the last weight without a timestamp",
        "'aggregate: last' takes the weight of the newest row, so the edge needs a timestamp.",
        example="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    weight: {column: level, aggregate: last}
""",
        fix="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    weight: {column: level, aggregate: max}
""",
    ),
    "S038": ErrorPage(
        "both ends read one column",
        "src and dst take their keys from the same column, so every edge would join a value to itself.",
        example="""\
edges:
  member-views-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: member_id}
""",
        fix="""\
edges:
  member-views-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
""",
    ),
    "S039": ErrorPage(
        "a name kept for reverse edges",
        "The reverse of edge 'x' is compiled as 'rev_x', so a declared edge must not begin with 'rev_'.",
        example="""\
edges:
  rev_member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
""",
        fix="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
""",
    ),
    "S040": ErrorPage(
        "a node without a key",
        "A node type that reads a source says which column holds the id of each node.",
        example="""\
sources:
  members: {path: members.parquet}
nodes:
  member: {kind: entity, source: members}
""",
        fix="""\
sources:
  members: {path: members.parquet}
nodes:
  member: {kind: entity, source: members, key: member_id}
""",
    ),
    "S041": ErrorPage(
        "a node's column without a source",
        "'key' and 'created_at' are columns of the node's source, and the node has none.",
        example="""\
nodes:
  skill: {kind: attribute, key: skill_id}
""",
        fix="""\
sources:
  skills: {path: skills.parquet}
nodes:
  skill: {kind: attribute, source: skills, key: skill_id}
""",
    ),
    "S042": ErrorPage(
        "nothing creates the nodes",
        "A node type without a source consists of the ids that edges bring, at endpoints with 'unknown: "
        "create'. No edge does, so the type would have no node.",
        example="""\
sources:
  skills: {path: skills.parquet}
  members: {path: members.parquet}
nodes:
  member: {kind: entity, source: members, key: member_id}
  skill: {kind: attribute}
edges:
  member-has-skill:
    kind: attribute
    source: skills
    src: {node: member, key: member_id}
    dst: {node: skill, key: skill_id}
""",
        fix="""\
sources:
  skills: {path: skills.parquet}
  members: {path: members.parquet}
nodes:
  member: {kind: entity, source: members, key: member_id}
  skill: {kind: attribute}
edges:
  member-has-skill:
    kind: attribute
    source: skills
    src: {node: member, key: member_id}
    dst: {node: skill, key: skill_id, unknown: create}
""",
    ),
    "S043": ErrorPage(
        "a ready branch builds on a draft",
        "A release leaves drafts out. What a ready branch names must be declared by a ready branch, or by itself.",
        example="""\
# a.yaml, status: draft
nodes: {group: {kind: attribute, source: groups, key: group_id}}
# b.yaml, status: ready
features: {group.name: {kind: text, source: groups, key: group_id, columns: [name]}}
""",
        fix="# a.yaml, status: ready",
    ),
    "S044": ErrorPage(
        "a denied column",
        "'privacy.deny_columns' of any ready branch, or of this one, says that nobody reads the column. The "
        "note names who denied it: they decide. Names are compared without upper and lower case.",
        example="""\
sources:
  members: {path: members.parquet}
features:
  member.contact: {kind: categorical, source: members, key: member_id, column: email}
privacy:
  deny_columns: [email]
""",
        fix="""\
sources:
  members: {path: members.parquet}
features:
  member.country: {kind: categorical, source: members, key: member_id, column: country}
privacy:
  deny_columns: [email]
""",
    ),
    "S045": ErrorPage(
        "a denied column in SQL",
        "SQL text of a source or a predicate names a column that nobody may read, even if only to filter by "
        "it. The engine checks once more when it runs the query, and never hands a denied column out of "
        "'select *'.",
        example="""\
sources:
  members: {sql: "select member_id, lower(email) as handle from 'members.parquet'"}
privacy:
  deny_columns: [email]
""",
        fix="""\
sources:
  members: {sql: "select member_id, handle from 'members.parquet'"}
privacy:
  deny_columns: [email]
""",
    ),
    "S046": ErrorPage(
        "an item stands twice",
        "A list names the same column, value or node twice.",
        example="""\
privacy:
  deny_columns: [email, phone, email]
""",
        fix="""\
privacy:
  deny_columns: [email, phone]
""",
    ),
    "S047": ErrorPage(
        "it is not clear who opts out",
        "The rows of an opt-out name nodes by their key. Without 'node:', the node type is the one whose own "
        "key column has that name, and there is none.",
        example="""\
sources:
  settings: {path: settings.parquet}
nodes:
  member: {kind: entity, source: settings, key: member_id}
privacy:
  opt_out: {source: settings, key: account_id}
""",
        fix="""\
sources:
  settings: {path: settings.parquet}
nodes:
  member: {kind: entity, source: settings, key: member_id}
privacy:
  opt_out: {source: settings, key: account_id, node: member}
""",
    ),
    "S048": ErrorPage(
        "several node types could opt out",
        "More than one node type has a key column of that name: say which one opts out. Write one branch per "
        "node type if several do.",
        example="""\
sources:
  settings: {path: settings.parquet}
nodes:
  member: {kind: entity, source: settings, key: member_id}
  buyer: {kind: entity, source: settings, key: member_id}
privacy:
  opt_out: {source: settings, key: member_id}
""",
        fix="""\
sources:
  settings: {path: settings.parquet}
nodes:
  member: {kind: entity, source: settings, key: member_id}
  buyer: {kind: entity, source: settings, key: member_id}
privacy:
  opt_out: {source: settings, key: member_id, node: member}
""",
    ),
    "S049": ErrorPage(
        "a ready branch without signals",
        "The branch is ready for a release but declares nothing.",
        example="status: ready",
        fix="status: draft",
    ),
    "S050": ErrorPage(
        "an objective on edges without dates",
        "Objectives are trained on the past and measured on what came later, so the edge that is predicted "
        "has a timestamp.",
        example="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
objectives:
  has: {kind: link-prediction, edge: member-job}
""",
        fix="""\
edges:
  member-job:
    kind: attribute
    source: views
    src: {node: member, key: member_id}
    dst: {node: job, key: job_id}
    timestamp: since
objectives:
  has: {kind: link-prediction, edge: member-job}
""",
    ),
    "S051": ErrorPage(
        "unknown file format",
        "The format of a file source follows from its extension. For any other name, say it.",
        example="""\
sources:
  views: {path: views.dat}
""",
        fix="""\
sources:
  views: {path: views.dat, format: csv}
""",
    ),
    "S052": ErrorPage(
        "a csv option on parquet",
        "'delimiter' and 'null_values' are about csv files.",
        example="""\
sources:
  views: {path: views.parquet, delimiter: ";"}
""",
        fix="""\
sources:
  views: {path: views.parquet}
""",
    ),
    "S053": ErrorPage(
        "broken SQL text",
        "A query or predicate has a quote, bracket or comment that never closes, or a ';'. It is one query or"
        " one expression, which the engine puts into a larger one.",
        example="""\
sources:
  views: {sql: "select * from 'views.parquet' where (seconds > 3"}
""",
        fix="""\
sources:
  views: {sql: "select * from 'views.parquet' where (seconds > 3)"}
""",
    ),
    "S054": ErrorPage(
        "two consumers with one name",
        "A consumer is one file: its name is the Feast feature service that it reads.",
        example="""\
# consumers/a.yaml
consumer: job-ranker
# consumers/b.yaml
consumer: job-ranker
""",
        fix="""\
# consumers/b.yaml
consumer: feed-ranker
""",
    ),
    "S055": ErrorPage(
        "not a release",
        "A consumer reads a release by its number, such as r3, or 'latest': the active one.",
        example="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: v3
""",
        fix="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: r3
""",
    ),
    "S056": ErrorPage(
        "the file cannot be read",
        "The file is there but cannot be opened: a link to nowhere, or no permission to read it.",
        fix="""\
ls -l signal_branches/
chmod u+r signal_branches/first.yaml
""",
    ),
}
