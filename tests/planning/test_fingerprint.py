"""What enters a fingerprint and what does not; known values keep the recipe as it is."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from star_platform.planning.fingerprint import FINGERPRINT_VERSION, SignalFingerprint, fingerprints, parents
from star_platform.planning.merge import merge
from star_platform.planning.snapshot import SourceSnapshot, take_snapshots
from star_platform.planning.sources import source_id
from star_platform.planning.spec import GraphSpec, SignalKey
from tests.planning.market import CORE, LEVELS, SKILLS, VIEWS, Tables, load, load_dict
from tests.strategies import Document, agreeing_branches

EDGE: SignalKey = ("edge", "member-views-job")
MEMBER: SignalKey = ("node", "member")
JOB: SignalKey = ("node", "job")
SKILL: SignalKey = ("node", "skill")


def prints(*texts: str, tables: Tables | None = None) -> dict[SignalKey, SignalFingerprint]:
    spec = merge([load(text) for text in texts])
    return fingerprints(spec, take_snapshots(spec, tables or Tables()))


def changed(before: Mapping[SignalKey, SignalFingerprint], after: Mapping[SignalKey, SignalFingerprint]) -> set[str]:
    return {"/".join(key) for key in before if before[key].physical != after[key].physical}


def test_known_values() -> None:
    """If this fails, the recipe has changed: raise FINGERPRINT_VERSION, note it in the changelog, then freeze anew."""
    assert FINGERPRINT_VERSION == 1
    found = {"/".join(key): value.full for key, value in prints(CORE, VIEWS, SKILLS).items()}
    assert found == KNOWN


def test_comments_order_owner_description_and_local_names_do_not_count() -> None:
    views = VIEWS.replace("search@example.com", "else@example.com").replace("Who looked", "Nobody looked")
    views = views.replace("branch: views", "branch: renamed  # moved").replace("  views:", "  rows:")
    views = views.replace("source: views", "source: rows")
    lines = views.splitlines()
    window, weight = lines.index("    window: 180d"), lines.index("    timestamp: viewed_at")
    lines[window], lines[weight] = lines[weight], lines[window]
    assert prints(SKILLS, "\n".join(lines) + "\n", CORE) == prints(CORE, VIEWS, SKILLS)


def test_written_defaults_do_not_count() -> None:
    assert prints(CORE, VIEWS.replace("    window: 180d\n", "    window: 180d\n    dedupe: event\n")) == prints(
        CORE, VIEWS
    )


def test_a_definition_reaches_what_depends_on_it() -> None:
    before = prints(CORE, VIEWS, SKILLS)
    assert changed(before, prints(CORE, VIEWS.replace("180d", "90d"), SKILLS)) == {
        "edge/member-views-job",
        "objective/view",
    }


def test_data_reaches_what_depends_on_it() -> None:
    before = prints(CORE, VIEWS, SKILLS)
    assert changed(before, prints(CORE, VIEWS, SKILLS, tables=Tables(views=1))) == {
        "edge/member-views-job",
        "objective/view",
    }
    assert changed(before, prints(CORE, VIEWS, SKILLS, tables=Tables(jobs=1))) == {
        "node/job",
        "edge/member-views-job",
        "feature/job.title",
        "objective/view",
    }


def test_edges_that_create_nodes_belong_to_the_nodes() -> None:
    before = prints(CORE, VIEWS, SKILLS)
    assert changed(before, prints(CORE, VIEWS, SKILLS, tables=Tables(skills=1))) == {
        "node/skill",
        "edge/member-has-skill",
        "feature/skill.id_embedding",
    }


def test_opt_outs_belong_to_their_nodes() -> None:
    text = CORE + "  opt_out: {source: members, key: member_id, where: opted_out}\n"
    found = changed(prints(CORE, VIEWS), prints(text, VIEWS))
    assert {"node/member", "edge/member-views-job", "cohort/seniority"} <= found
    assert "node/job" not in found


def test_labels_are_part_of_their_edge() -> None:
    label = VIEWS.replace("    edge: member-views-job\n", "    edge: member-views-job\n    label: applied\n")
    assert "edge/member-views-job" in changed(prints(CORE, VIEWS), prints(CORE, label))


def test_the_kind_of_a_node_is_metadata() -> None:
    before = prints(CORE, VIEWS)
    after = prints(CORE.replace("job: {kind: entity", "job: {kind: attribute"), VIEWS)
    assert not changed(before, after)
    assert before[JOB].metadata != after[JOB].metadata
    assert before[EDGE].parent_metadata != after[EDGE].parent_metadata
    assert before[EDGE].full != after[EDGE].full
    assert before[MEMBER] == after[MEMBER]


def test_parents() -> None:
    spec = merge([load(CORE), load(VIEWS), load(SKILLS)])
    assert parents(spec, spec.signals[EDGE]) == (JOB, MEMBER)
    assert parents(spec, spec.signals[SKILL]) == (("edge", "member-has-skill"),)
    assert parents(spec, spec.signals["objective", "view"]) == (EDGE,)
    assert parents(spec, spec.signals["feature", "job.title"]) == (JOB,)


def test_a_node_classification_depends_on_its_label() -> None:
    spec = merge([load(CORE), load(VIEWS), load(LEVELS)])
    assert parents(spec, spec.signals["objective", "level"]) == (("feature", "member.level"), MEMBER)
    before = prints(CORE, VIEWS, LEVELS)
    after = prints(CORE, VIEWS, LEVELS.replace("column: seniority", "column: headline"))
    assert changed(before, after) == {"feature/member.level", "objective/level"}
    assert before["objective", "view"] == prints(CORE, VIEWS)["objective", "view"]


def test_an_absent_share_of_hard_negatives_does_not_count() -> None:
    with_kind = VIEWS + "    negatives: {kind: uniform}\n"
    assert prints(CORE, with_kind)["objective", "view"] == prints(CORE, VIEWS)["objective", "view"]
    half, third = (VIEWS + f"    negatives: {{kind: hard, hard_share: {share}}}\n" for share in (0.5, 0.3))
    assert prints(CORE, half)["objective", "view"] != prints(CORE, third)["objective", "view"]


class OneHash:
    """Snapshots that depend on the file alone."""

    def of(self, spec: GraphSpec, edition: Mapping[str, int]) -> dict[str, SourceSnapshot]:
        found = {}
        for signal in spec.signals.values():
            name = signal.source_name
            if name is not None:
                path = signal.sources[name].path  # type: ignore[union-attr]
                found[source_id(name, signal.sources)] = SourceSnapshot(f"{path}:{edition.get(path, 0)}", 1, 1)
        return found


@settings(max_examples=15, deadline=None)
@given(agreeing_branches(), st.permutations(range(4)))
def test_fingerprints_depend_on_the_union_alone(branches: list[Document], order: list[int]) -> None:
    """Neither the order of branches nor which of them declares a signal matters."""
    shuffled = [branches[index] for index in order if index < len(branches)]
    renamed = [{**document, "branch": f"other_{index}", "owner": "x"} for index, document in enumerate(shuffled)]
    first, second = (merge([load_dict(item) for item in items]) for items in (branches, renamed))
    assert fingerprints(first, OneHash().of(first, {})) == fingerprints(second, OneHash().of(second, {}))


@settings(max_examples=15, deadline=None)
@given(agreeing_branches())
def test_new_data_reaches_every_reader_and_nobody_else(branches: list[Document]) -> None:
    spec = merge([load_dict(item) for item in branches])
    before = fingerprints(spec, OneHash().of(spec, {}))
    after = fingerprints(spec, OneHash().of(spec, {"first.parquet": 1}))
    reads = {
        key
        for key, signal in spec.signals.items()
        if signal.sources[signal.source_name or ""].path == "first.parquet"  # type: ignore[union-attr]
    }
    for key, signal in spec.signals.items():
        assert (before[key].data != after[key].data) == (key in reads)
        if reads & {key, *parents(spec, signal)}:
            assert before[key].physical != after[key].physical
        assert before[key].metadata == after[key].metadata


KNOWN = {
    "cohort/seniority": "2d6a6fe027d90c5add4e1f89b1612cef",
    "edge/member-has-skill": "087383f52038fc82022dc1b6059bb1f7",
    "edge/member-views-job": "ad5bbfb2e3c63f2ba7c6a644e61467d1",
    "feature/job.title": "59891c961389d966d20bddd9c0cdcbcb",
    "feature/member.profile": "8f692ab714e7d43e64d0c9a17af29166",
    "feature/skill.id_embedding": "f31e02ac035b6d56a87099c6a62e0951",
    "node/job": "9bc740decba4061493613d60d7898fc3",
    "node/member": "9253ede17a891ab84ae12aa226a7f49b",
    "node/skill": "17d835a596cf6fe1e2b60e0900e2e37c",
    "objective/view": "266969eb2e72942aec3f242075418204",
}
