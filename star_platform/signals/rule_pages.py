"""Pages of rules that a declaration breaks: S039 on."""

from __future__ import annotations

from star_platform.errors import ErrorPage

PAGES: dict[str, ErrorPage] = {
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
    "S057": ErrorPage(
        "a scorer is one thing",
        "A consumer's frozen model is a Python entry point or an ONNX file: exactly one of 'python' and 'onnx'.",
        example="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: r3
scorer: {python: 'ranking.model:load', onnx: ranker.onnx}
cases: {path: data/cases.parquet, label: clicked, keys: {member: member_id}}
""",
        fix="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: r3
scorer: {onnx: ranker.onnx}
cases: {path: data/cases.parquet, label: clicked, keys: {member: member_id}}
""",
    ),
    "S058": ErrorPage(
        "a scorer without a pinned release",
        "A frozen model was trained on the vectors of one release, and a map is judged by what that model makes of"
        " mapped vectors. 'latest' does not say which release it was.",
        example="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: latest
scorer: {onnx: ranker.onnx}
cases: {path: data/cases.parquet, label: clicked, keys: {member: member_id}}
""",
        fix="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: r3
scorer: {onnx: ranker.onnx}
cases: {path: data/cases.parquet, label: clicked, keys: {member: member_id}}
""",
    ),
    "S059": ErrorPage(
        "a scorer without cases, or cases without a scorer",
        "The gate of a map scores labelled cases with the frozen model of the consumer, so it needs both. With neither,"
        " the geometry of the map decides.",
        example="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: r3
scorer: {onnx: ranker.onnx}
""",
        fix="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: r3
scorer: {onnx: ranker.onnx}
cases: {path: data/cases.parquet, label: clicked, keys: {member: member_id}}
""",
    ),
    "S060": ErrorPage(
        "cases with a key that is not read",
        "The keys of a consumer's cases say which column holds the ids of each node type whose vectors its model takes;"
        " it takes none of a node type that the consumer does not read.",
        example="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [member]
release: r3
scorer: {onnx: ranker.onnx}
cases: {path: data/cases.parquet, label: clicked, keys: {job: job_id}}
""",
        fix="""\
consumer: job-ranker
owner: ranking@example.com
nodes: [job]
release: r3
scorer: {onnx: ranker.onnx}
cases: {path: data/cases.parquet, label: clicked, keys: {job: job_id}}
""",
    ),
    "S061": ErrorPage(
        "unknown feature",
        "A node classification predicts a feature that no branch file declares under 'features:'.",
        example="""\
features:
  member.seniority: {kind: categorical, source: members, key: member_id, column: seniority}
objectives:
  seniority: {kind: node-classification, node: member, feature: member.senority}
""",
        fix="""\
features:
  member.seniority: {kind: categorical, source: members, key: member_id, column: seniority}
objectives:
  seniority: {kind: node-classification, node: member, feature: member.seniority}
""",
    ),
    "S062": ErrorPage(
        "a label of another node",
        "A node classification predicts a feature of its own node type: the part of the name before the dot.",
        example="""\
features:
  member.seniority: {kind: categorical, source: members, key: member_id, column: seniority}
  job.level: {kind: categorical, source: jobs, key: job_id, column: level}
objectives:
  seniority: {kind: node-classification, node: member, feature: job.level}
""",
        fix="""\
features:
  member.seniority: {kind: categorical, source: members, key: member_id, column: seniority}
  job.level: {kind: categorical, source: jobs, key: job_id, column: level}
objectives:
  seniority: {kind: node-classification, node: member, feature: member.seniority}
""",
    ),
    "S063": ErrorPage(
        "a share of hard negatives without hard negatives",
        "'hard_share' says which part of the negatives of kind 'hard' is hard. Other kinds have none.",
        example="""\
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {node: member, key: member_id, unknown: create}
    dst: {node: job, key: job_id, unknown: create}
    timestamp: viewed_at
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {kind: uniform, hard_share: 0.3}}
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
  views: {kind: link-prediction, edge: member-views-job, negatives: {kind: hard, hard_share: 0.3}}
""",
    ),
    "S064": ErrorPage(
        "a label that is not categorical",
        "The classes of a node classification are the values of a categorical feature. To predict a column of any other"
        " kind, declare it as one: a feature that is a label is no input of the model.",
        example="""\
features:
  member.age: {kind: numeric, source: members, key: member_id, columns: [age]}
objectives:
  age: {kind: node-classification, node: member, feature: member.age}
""",
        fix="""\
features:
  member.age_group: {kind: categorical, source: members, key: member_id, column: age_group}
objectives:
  age: {kind: node-classification, node: member, feature: member.age_group}
""",
    ),
    "S065": ErrorPage(
        "hard negatives of nodes without attributes",
        "A hard negative shares an attribute with the positive: a company, a city, a skill. Where no edge of kind"
        " `attribute` joins the type of the destination to another one, there is nothing to share.",
        example="""\
edges:
  member-views-job: {kind: interaction, source: views, src: {node: member, key: m}, dst: {node: job, key: j}}
objectives:
  views: {kind: link-prediction, edge: member-views-job, negatives: {kind: hard}}
""",
        fix="""\
edges:
  job-at-company: {kind: attribute, source: jobs, src: {node: job, key: j}, dst: {node: company, key: company}}
""",
    ),
}
