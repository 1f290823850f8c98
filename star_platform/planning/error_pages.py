"""Pages of `star-platform explain` for the codes of planning."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "P001": ErrorPage(
        "Branches contradict each other",
        "The graph is the merge of all branches whose status is ready. Two branches may declare the same signal only "
        "identically: comments, order and local names of sources do not count, everything else does. Each conflict has "
        "one of these types:\n"
        "  key_exists            one name for two different things (a text feature here, a numeric one there)\n"
        "  value_differs         the same signal with another value of a field\n"
        "  source_claimed_twice  a node type or a feature that is read from two sources\n"
        "  deleted_and_changed   one branch dropped a signal that another changed since the last release\n"
        "  dangling_reference    a node or edge type is named that no ready branch declares\n"
        "  dtype_mismatch        the keys of a node type are integers in one source and strings in another",
        "# branches/a.yaml                          # branches/b.yaml\n"
        "features:                                  features:\n"
        "  member.title: {..., min_count: 2}          member.title: {..., min_count: 5}",
        "Agree with the other owner and write the same, or declare yours under a new name: a new signal changes "
        "nothing for others. Every conflict names both places.",
    ),
    "P002": ErrorPage(
        "A signal reads a column that its source does not have",
        "The columns of every source are looked up before anything is built. The message names the column that is "
        "missing, the place that asks for it, and the columns that are there.",
        "edges:\n  member-views-job: {source: views, timestamp: viewd_at, ...}   # the column is viewed_at",
        "Correct the name, or add the column with a `sql:` source: sql: select *, epoch_ms(t) as viewed_at from views.",
    ),
    "P003": ErrorPage(
        "A column has a type that does not fit its use",
        "A timestamp must be a timestamp, a date or text that is one: a number does not tell its unit. A weight and "
        "the columns of a numeric feature must be numbers, the column of a vector feature a list or array, a label a "
        "boolean or 0 and 1, a key something that can be compared: an integer, a string, a uuid.",
        "edges:\n  member-views-job: {timestamp: seen, ...}   # seen is BIGINT: 1767225600",
        "Cast it in a `sql:` source, and read that one: sql: select *, to_timestamp(seen) as viewed_at from views.",
    ),
    "P004": ErrorPage(
        "Sources read each other in a circle",
        "A `sql:` source may name the other sources of its branch as tables. Following these names must come to an end "
        "at files, tables or feature views.",
        "sources:\n  a: {sql: select * from b}\n  b: {sql: select * from a}",
        "Let one of them read a file or a table.",
    ),
    "P005": ErrorPage(
        "A signal reads a denied column",
        "`privacy.deny_columns` of any ready branch holds for the whole project: no signal, query or predicate may "
        "name such a column, whatever it would do with it.",
        "privacy: {deny_columns: [email]}\nfeatures:\n  member.mail_domain: {kind: categorical, column: email, ...}",
        "Use another column, or let whoever provides the data derive one that may be read.",
    ),
    "P006": ErrorPage(
        "It is unclear which node type an opt-out means",
        "An opt-out without `node:` means the node type whose declared key is the opt-out's key column. No node type "
        "has it, or more than one.",
        'privacy:\n  opt_out: {source: settings, key: id, where: "allow_modelling = false"}',
        "Write the node type: opt_out: {node: member, source: settings, key: id, ...}.",
    ),
    "P007": ErrorPage(
        "There are no nodes",
        "No ready branch declares a node type, or one is declared that nothing brings nodes of: a node type needs a "
        "source with a key column, or an edge type whose endpoint says `unknown: create`.",
        "nodes:\n  skill: {kind: attribute}",
        "nodes:\n  skill: {kind: attribute}\n"
        "edges:\n  member-has-skill: {dst: {node: skill, key: skill, unknown: create}, ...}",
    ),
    "P008": ErrorPage(
        "There is nothing to learn or nothing to publish",
        "A release trains a model on the objectives of the ready branches and publishes one embedding per entity. It "
        "needs at least one objective and at least one node type of kind entity.",
        "objectives: {}",
        "objectives:\n  apply: {kind: link-prediction, edge: member-applies-job}",
    ),
    "P009": ErrorPage(
        "The record of the base release cannot be read",
        "A plan compares what is declared now with what the registry recorded of the last release. That record is "
        "damaged, or a newer version of star-platform wrote it.",
        "",
        "Use the version that made the release, or a newer one; otherwise restore the registry from a backup.",
    ),
}
