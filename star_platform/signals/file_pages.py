"""Pages of what a file, a field or a source can have wrong: S001 to S020."""

from __future__ import annotations

from star_platform.errors import ErrorPage

PAGES: dict[str, ErrorPage] = {
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
}
