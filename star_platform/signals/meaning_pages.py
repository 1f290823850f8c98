"""Pages of declarations that do not fit together: S021 to S038."""

from __future__ import annotations

from star_platform.errors import ErrorPage

PAGES: dict[str, ErrorPage] = {
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
}
