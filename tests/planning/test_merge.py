"""Merging branches: every type of conflict at its places, and the algebra of merges."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.errors import Conflict, ExitCode, MergeConflict, PlanError
from star_platform.planning.base import BaseRelease
from star_platform.planning.merge import declared, join, merge
from star_platform.planning.plan import make_plan
from star_platform.planning.snapshot import take_snapshots
from tests.planning.market import CORE, LEVELS, SETTINGS, SKILLS, VIEWS, Tables, load, load_dict
from tests.strategies import Document, agreeing_branches, any_branches

CALM = settings(max_examples=25, deadline=None)


def conflicts(*texts: str, base: BaseRelease | None = None) -> tuple[Conflict, ...]:
    with pytest.raises(MergeConflict) as raised:
        merge([load(text) for text in texts], base)
    assert raised.value.exit_code is ExitCode.MERGE_CONFLICT
    assert raised.value.code == "P001"
    return raised.value.conflicts


def release(*texts: str) -> BaseRelease:
    spec = merge([load(text) for text in texts])
    plan = make_plan(spec, take_snapshots(spec, Tables()), SETTINGS, exists=lambda kind, fingerprint: False)
    return BaseRelease.from_record(1, plan.record())


def rename(text: str, branch: str) -> str:
    """The same declarations in a branch of another name and owner."""
    lines = text.splitlines(keepends=True)
    new = {"branch:": f"branch: {branch}\n", "owner:": f"owner: {branch}@example.com\n"}
    return "".join(new.get(line.split(" ")[0], line) for line in lines)


# --- what merges ------------------------------------------------------------------------------------------------------


def test_branches_become_one_spec() -> None:
    spec = merge([load(CORE), load(VIEWS), load(SKILLS)])
    assert list(spec.nodes) == ["job", "member", "skill"]
    assert list(spec.edges) == ["member-has-skill", "member-views-job"]
    assert spec.deny_columns == {"email"}
    edge = spec.signals["edge", "member-views-job"]
    assert (edge.branch, edge.owner, str(edge.place)) == (
        "views",
        "search@example.com",
        "signal_branches/views.yaml:9:3",
    )
    assert str(edge.place_of("window")) == "signal_branches/views.yaml:16:13"
    assert list(edge.sources) == ["views"]


def test_drafts_do_not_count() -> None:
    draft = SKILLS.replace("status: ready", "status: draft")
    assert merge([load(CORE), load(VIEWS), load(draft)]) == merge([load(CORE), load(VIEWS)])


def test_identical_signals_merge_whatever_their_sources_are_called() -> None:
    other = rename(VIEWS, "copy").replace("  views:", "  rows:").replace("source: views", "source: rows")
    spec = merge([load(CORE), load(VIEWS), load(other)])
    edge = spec.signals["edge", "member-views-job"]
    assert edge.declared_by == ("copy", "views")
    assert edge.branch == "copy"


def test_a_query_takes_the_sources_it_mentions_along() -> None:
    text = VIEWS.replace(
        "  views: {path: views.parquet}\n",
        "  views: {sql: 'select * from raw join \"jobs\" using (job_id) -- not members'}\n"
        "  raw: {path: views.parquet}\n  jobs: {path: jobs.parquet}\n  members: {path: members.parquet}\n",
    )
    edge = merge([load(CORE), load(text)]).signals["edge", "member-views-job"]
    assert list(edge.sources) == ["jobs", "raw", "views"]


def test_an_opt_out_finds_its_node_type_by_the_key() -> None:
    text = CORE + "  opt_out: {source: members, key: member_id, where: opted_out}\n"
    assert merge([load(text)]).opt_outs["core"].node == "member"


def test_an_unclear_opt_out_says_what_to_write() -> None:
    text = CORE + "  opt_out: {source: members, key: id}\n"
    with pytest.raises(PlanError) as raised:
        merge([load(text)])
    assert raised.value.code == "P006"
    assert str(raised.value.place) == "signal_branches/core.yaml:18:35"
    assert "job (job_id), member (member_id)" in str(raised.value.hint)


# --- conflicts --------------------------------------------------------------------------------------------------------


def test_value_differs_names_the_field_and_both_places() -> None:
    (found,) = conflicts(CORE, VIEWS, rename(VIEWS, "other").replace("180d", "90d"))
    assert (found.type, found.path) == ("value_differs", "/edges/member-views-job/window")
    assert str(found.ours) == "signal_branches/other.yaml:16:13"
    assert str(found.theirs) == "signal_branches/views.yaml:16:13"
    assert found.message == "edge 'member-views-job' has window 90d in branch 'other' and 180d in branch 'views'"
    assert found.hint == (
        "agree with other@example.com on one value, "
        "or declare yours as a new signal edges.member-views-job_2, which changes nothing for others"
    )


def test_every_field_and_every_signal_is_reported_at_once() -> None:
    other = rename(VIEWS, "other").replace("180d", "90d").replace("aggregate: sum", "aggregate: max")
    other = other.replace("    edge: member-views-job\n", "    edge: member-views-job\n    weight: 0.5\n")
    assert [found.path for found in conflicts(CORE, VIEWS, other)] == [
        "/edges/member-views-job/weight/aggregate",
        "/edges/member-views-job/window",
        "/objectives/view/weight",
    ]


def test_two_sources_for_one_feature() -> None:
    other = rename(CORE, "other").replace("{path: jobs.parquet}", "{path: jobs_v2.parquet}")
    found = conflicts(CORE, VIEWS, other)
    assert [(item.type, item.path) for item in found] == [
        ("source_claimed_twice", "/features/job.title/source"),
        ("source_claimed_twice", "/nodes/job/source"),
    ]
    assert str(found[0].ours) == "signal_branches/core.yaml:13:35"


def test_the_same_query_over_other_tables_is_another_source() -> None:
    query = "  views: {sql: select * from raw}\n  raw: {path: RAW.parquet}\n"
    ours = VIEWS.replace("  views: {path: views.parquet}\n", query.replace("RAW", "one"))
    theirs = rename(VIEWS, "other").replace("  views: {path: views.parquet}\n", query.replace("RAW", "two"))
    (found,) = conflicts(CORE, ours, theirs)
    assert (found.type, found.path) == ("value_differs", "/edges/member-views-job/source")


def test_one_name_for_two_things() -> None:
    other = rename(CORE, "other").replace(
        "job.title: {kind: text, source: jobs, key: job_id, columns: [title]}",
        "job.title: {kind: categorical, source: jobs, key: job_id, column: title}",
    )
    (found,) = conflicts(CORE, VIEWS, other)
    assert (found.type, found.path) == ("key_exists", "/features/job.title")
    assert found.message == "feature 'job.title' is text in branch 'core' and categorical in branch 'other'"


def test_an_edge_to_a_node_type_of_a_draft() -> None:
    edge = SKILLS.replace("nodes:\n  skill: {kind: attribute}\n", "").replace(
        "features:\n  skill.id_embedding: {kind: id, dim: 16}\n", ""
    )
    draft = rename(SKILLS, "later").replace("status: ready", "status: draft")
    (found,) = conflicts(CORE, VIEWS, edge, draft)
    assert (found.type, found.path) == ("dangling_reference", "/edges/member-has-skill/dst/node")
    assert "which only the draft 'later' declares" in found.message
    assert str(found.theirs) == "signal_branches/later.yaml:8:3"
    assert "status: ready" in found.hint
    assert found.hint.endswith("a new signal changes nothing for others")


def test_a_misspelt_reference_suggests_the_nearest() -> None:
    found = conflicts(CORE, VIEWS.replace("    edge: member-views-job", "    edge: member-view-job"))
    assert [item.path for item in found] == ["/objectives/view/edge"]
    assert found[0].hint.startswith("did you mean 'member-views-job'?")


def test_a_node_classification_needs_its_label() -> None:
    found = conflicts(CORE, VIEWS, LEVELS.replace("feature: member.level", "feature: member.leve"))
    assert [item.path for item in found] == ["/objectives/level/feature"]
    assert found[0].hint.startswith("did you mean 'member.level'?")
    feature = LEVELS[LEVELS.index("features:") : LEVELS.index("objectives:")]
    drafted = LEVELS.replace("objectives:" + LEVELS.partition("objectives:")[2], "").replace("ready", "draft")
    objective = LEVELS.replace(feature, "").replace("branch: levels", "branch: goals")
    found = conflicts(CORE, VIEWS, drafted, objective)
    assert [item.type for item in found] == ["dangling_reference"]
    assert "which only the draft 'levels' declares" in str(found[0])


def test_one_objective_cannot_be_of_two_kinds() -> None:
    other = LEVELS.replace(
        "  level: {kind: node-classification, node: member, feature: member.level}",
        ("  view: {kind: node-classification, node: member, feature: member.level}"),
    )
    (found,) = conflicts(CORE, VIEWS, other)
    assert (found.type, found.path) == ("key_exists", "/objectives/view")


def test_features_cohorts_and_opt_outs_need_their_node() -> None:
    text = CORE.replace("  member: {kind: entity, source: members, key: member_id}\n", "")
    text += "  opt_out: {source: members, key: member_id, node: member}\n"
    assert {item.path for item in conflicts(text)} == {
        "/features/member.profile",
        "/cohorts/seniority/node",
        "/privacy/core/node",
    }


def test_a_removed_signal_that_is_still_named() -> None:
    base = release(CORE, VIEWS, SKILLS)
    text = VIEWS.replace(VIEWS[VIEWS.index("edges:") : VIEWS.index("objectives:")], "").replace(
        "sources:\n  views: {path: views.parquet}\n", ""
    )
    (found,) = conflicts(CORE, text, SKILLS, base=base)
    assert (found.type, found.path) == ("dangling_reference", "/objectives/view/edge")
    assert "which branch 'views' (search@example.com) declared in r1 and no longer does" in found.message
    assert str(found.theirs) == "signal_branches/views.yaml:9:3"


def test_deleted_here_and_changed_there() -> None:
    base = release(CORE, VIEWS, rename(CORE, "mirror").replace("deny_columns: [email]", "deny_columns: []"))
    kept = CORE.replace("columns: [title]", "columns: [title, place]")
    dropped = rename(CORE, "mirror").replace(
        "  job.title: {kind: text, source: jobs, key: job_id, columns: [title]}\n", ""
    )
    (found,) = conflicts(kept, VIEWS, dropped, base=base)
    assert (found.type, found.path) == ("deleted_and_changed", "/features/job.title")
    assert found.message == "feature 'job.title' was dropped by branch 'mirror' since r1 and changed by 'core'"
    assert str(found.theirs).startswith("signal_branches/mirror.yaml:")
    merge([load(kept), load(VIEWS)], release(CORE, VIEWS))  # nobody dropped it


def test_moving_a_signal_to_another_branch_is_no_conflict() -> None:
    base = release(CORE, VIEWS)
    spec = merge([load(CORE), load(rename(VIEWS, "moved").replace("180d", "90d"))], base)
    (moved,) = [signal for signal in spec.of_kind("edge").values() if signal.definition.window is not None]
    assert (moved.branch, moved.definition.window) == ("moved", "90d")


# --- algebra ----------------------------------------------------------------------------------------------------------


@CALM
@given(agreeing_branches(), st.randoms())
def test_merge_is_commutative_and_idempotent(branches: list[Document], shuffle: random.Random) -> None:
    loaded = [load_dict(document) for document in branches]
    merged = merge(loaded)
    other = list(loaded)
    shuffle.shuffle(other)
    assert merge(other) == merged
    assert merge(loaded + other) == merged
    assert list(merged.signals) == sorted(merged.signals)


@CALM
@given(agreeing_branches(most=3))
def test_join_is_associative_with_an_identity(branches: list[Document]) -> None:
    specs = [declared(load_dict(document)) for document in branches] * 3
    a, b, c = specs[:3]

    def both(x: Any, y: Any) -> Any:
        spec, found = join([x, y])
        assert not found
        return spec

    assert both(both(a, b), c) == both(a, both(b, c)) == join([a, b, c])[0]
    assert both(a, join([])[0]) == both(a, a) == join([a])[0]


@CALM
@given(any_branches(), st.randoms())
def test_conflicts_do_not_depend_on_the_order(branches: list[Document], shuffle: random.Random) -> None:
    def outcome(documents: list[Document]) -> Any:
        try:
            return merge([load_dict(document) for document in documents])
        except MergeConflict as error:
            return error.conflicts

    other = list(branches)
    shuffle.shuffle(other)
    found = outcome(branches)
    assert found == outcome(other)
    if isinstance(found, tuple):
        assert all(item.ours and item.theirs and "changes nothing for others" in item.hint for item in found)


@CALM
@given(any_branches(most=2))
def test_two_branches_conflict_exactly_where_they_differ(branches: list[Document]) -> None:
    """A second opinion on what differs, from the plain documents and defaults left out."""
    first, second = branches
    differ = {
        f"/{section}/{name}"
        for section in ("nodes", "edges", "features")
        for name in set(first.get(section, {})) & set(second.get(section, {}))
        if _plain(first, section, name) != _plain(second, section, name)
    }
    try:
        merge([load_dict(document) for document in branches])
        found = set()
    except MergeConflict as error:
        found = {"/".join(item.path.split("/")[:3]) for item in error.conflicts}
    assert found == differ


def _plain(document: Document, section: str, name: str) -> Document:
    definition = dict(document[section][name])
    return {**definition, "source": document["sources"][definition["source"]]}
