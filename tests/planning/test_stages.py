"""The stages of a release: order, reuse and the reasons given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from star_platform.planning.plan import Plan
from star_platform.planning.settings import ServedSpace, StageSettings
from star_platform.planning.stages import Stage
from tests.planning.market import CORE, SETTINGS, SKILLS, VIEWS, Tables, planned, released

ALL = (CORE, VIEWS, SKILLS)
AGE = "  member.age: {kind: numeric, source: members, key: member_id, columns: [age]}\n"
WITH_AGE = CORE.replace("cohorts:\n", AGE + "cohorts:\n")


def stage(plan: Plan, name: str) -> Stage:
    return next(item for item in plan.stages if item.name == name)


def built(plan: Plan) -> set[str]:
    return {item.name for item in plan.to_build}


MODEL = {"graph", "train", "embed", "evaluate", "publish", "activate"}


def test_every_stage_comes_after_its_inputs() -> None:
    plan = planned(WITH_AGE, VIEWS, SKILLS)
    seen: set[str] = set()
    for item in plan.stages:
        assert set(item.inputs) <= seen
        assert item.name == (item.kind if item.subject is None else f"{item.kind}/{item.subject}")
        seen.add(item.name)
    kinds = list(dict.fromkeys(item.kind for item in plan.stages))
    assert "features/skill.id_embedding" not in seen
    signals = ["nodes", "edges", "features", "texts", "text", "cohorts"]
    assert kinds == [*signals, "graph", "train", "embed", "evaluate", "publish", "activate"]


def test_what_each_stage_takes() -> None:
    plan = planned(WITH_AGE, VIEWS, SKILLS)
    inputs = {item.name: set(item.inputs) for item in plan.stages}
    assert inputs["nodes/skill"] == set()
    assert inputs["edges/member-has-skill"] == {"nodes/member", "nodes/skill"}
    assert inputs["features/member.age"] == {"nodes/member"}
    assert inputs["text/job.title"] == {"texts/job.title"}
    assert inputs["graph"] == {item.name for item in plan.stages if item.subject is not None}
    assert inputs["embed"] == {"train", "graph"}
    assert inputs["evaluate"] == {"embed", "graph"}
    assert inputs["publish"] == {"embed"}
    assert inputs["activate"] == {"publish", "evaluate"}


def test_a_first_release_builds_everything() -> None:
    plan = planned(*ALL)
    assert plan.to_reuse == ()
    assert {item.why for item in plan.stages} == {"new"}
    assert all(item.estimate.seconds > 0 for item in plan.stages)


def test_nothing_changed_reuses_everything() -> None:
    base, store = released(planned(*ALL))
    plan = planned(*ALL, base=base, store=store)
    assert plan.nothing_changed
    assert plan.to_build == ()
    assert {item.why for item in plan.stages} == {"unchanged since r1"}
    assert plan.estimate.seconds == 0


def test_an_artefact_that_is_gone_is_built_again() -> None:
    base, store = released(planned(*ALL))
    gone = {(kind, fingerprint) for kind, fingerprint in store if kind != "graph"}
    plan = planned(*ALL, base=base, store=gone)
    assert built(plan) == {"graph"}
    assert stage(plan, "graph").why == "unchanged since r1, but gone from the store"


def test_new_data_of_one_source() -> None:
    base, store = released(planned(*ALL))
    plan = planned(*ALL, base=base, store=store, tables=Tables(views=1))
    assert built(plan) == {"edges/member-views-job"} | MODEL
    assert stage(plan, "edges/member-views-job").why == "data of source views changed"
    assert stage(plan, "graph").why == "edges/member-views-job changed"
    assert stage(plan, "train").why == "graph changed"
    assert stage(plan, "nodes/member").why == "unchanged since r1"


def test_data_of_an_edge_that_creates_nodes() -> None:
    base, store = released(planned(*ALL))
    plan = planned(*ALL, base=base, store=store, tables=Tables(skills=1))
    assert built(plan) == {"nodes/skill", "edges/member-has-skill"} | MODEL
    assert stage(plan, "nodes/skill").why == "data of source skills changed"


def test_a_changed_declaration() -> None:
    base, store = released(planned(*ALL))
    plan = planned(CORE, VIEWS.replace("180d", "90d"), SKILLS, base=base, store=store)
    assert built(plan) == {"edges/member-views-job"} | MODEL
    assert stage(plan, "edges/member-views-job").why == "edge member-views-job changed"


@pytest.mark.parametrize(
    ("changes", "stages", "first", "why"),
    [
        (
            {"training": {"dim": 64, "max_epochs": 6, "seed": 0}},
            MODEL - {"graph"},
            "train",
            "training settings changed",
        ),
        ({"evaluation": {"gate": 0.7}}, {"evaluate", "publish", "activate"}, "evaluate", "evaluation settings changed"),
        ({"publishing": {"feature_repo": "x"}}, {"publish", "activate"}, "publish", "publishing settings changed"),
        (
            {"text_fingerprint": "tfidf-svd-2"},
            {"text/job.title", "text/member.profile"} | MODEL,
            "text/job.title",
            "text settings changed",
        ),
    ],
)
def test_settings(changes: dict[str, object], stages: set[str], first: str, why: str) -> None:
    base, store = released(planned(*ALL))
    plan = planned(*ALL, base=base, store=store, settings=replace(SETTINGS, **changes))  # type: ignore[arg-type]
    assert built(plan) == stages
    assert stage(plan, first).why == why


def test_a_cohort_trains_nothing_again() -> None:
    base, store = released(planned(*ALL))
    core = CORE.replace("privacy:", "  age: {node: member, source: members, key: member_id, column: age}\nprivacy:")
    plan = planned(core, VIEWS, SKILLS, base=base, store=store)
    assert built(plan) == {"cohorts/age", "graph", "evaluate", "publish", "activate"}
    assert stage(plan, "publish").why == "a release is published under its own number"
    assert str(plan.category) == "additive"


def test_an_owner_builds_nothing_but_publishes() -> None:
    base, store = released(planned(*ALL))
    plan = planned(CORE, VIEWS.replace("search@", "find@"), SKILLS, base=base, store=store)
    assert built(plan) == {"publish", "activate"}
    assert str(plan.category) == "metadata"
    assert not plan.nothing_changed


def test_the_kind_of_a_node_type_reaches_model_and_vectors() -> None:
    base, store = released(planned(*ALL))
    plan = planned(CORE.replace("job: {kind: entity", "job: {kind: attribute"), VIEWS, SKILLS, base=base, store=store)
    assert built(plan) == MODEL
    assert stage(plan, "graph").why == "node job changed"


def test_an_id_feature_is_part_of_graph_and_model() -> None:
    base, store = released(planned(*ALL))
    plan = planned(CORE, VIEWS, SKILLS.replace("dim: 16", "dim: 8"), base=base, store=store)
    assert built(plan) == MODEL
    assert stage(plan, "graph").why == "feature skill.id_embedding changed"


def test_opting_out_and_back_in() -> None:
    text = CORE + "  opt_out: {source: members, key: member_id, where: opted_out}\n"
    base, store = released(planned(*ALL))
    out = planned(text, VIEWS, SKILLS, base=base, store=store)
    assert stage(out, "nodes/member").why == "opt-out core is new"
    base, more = released(out, 2)
    back = planned(*ALL, base=base, store=store | more)
    assert stage(back, "nodes/member").why == "built before; opt-out core is gone"
    assert built(back) == {"publish", "activate"}


def test_a_removed_edge_is_missed_by_the_graph() -> None:
    base, store = released(planned(*ALL))
    plan = planned(CORE, VIEWS, base=base, store=store)
    assert built(plan) == MODEL
    assert stage(plan, "graph").why == (
        "edge member-has-skill is gone; feature skill.id_embedding is gone; node skill is gone"
    )


def test_work_of_another_release_is_found_again() -> None:
    _, earlier = released(planned(*ALL))
    base, later = released(planned(CORE, VIEWS.replace("180d", "90d"), SKILLS), 2)
    plan = planned(*ALL, base=base, store=earlier | later)
    assert built(plan) == {"publish", "activate"}
    assert stage(plan, "train").why == "built before; graph changed"


SERVED = (ServedSpace(2, "embed-2", "maps-2"), ServedSpace(1, "embed-1"))
POST_HOC = {"mode": "post-hoc", "method": "ridge", "align_weight": 16.0}
JOINT = {**POST_HOC, "mode": "joint-single"}


def prints(**changes: object) -> dict[str, str]:
    plan = planned(*ALL, settings=replace(SETTINGS, **changes))  # type: ignore[arg-type]
    return {stage.name: stage.fingerprint for stage in plan.stages}


def test_maps_are_made_where_somebody_reads_an_older_release() -> None:
    assert "compat" not in prints(compat=POST_HOC)
    assert "compat" not in prints(compat={"mode": "none"}, served=SERVED)
    plan = planned(*ALL, settings=replace(SETTINGS, compat=POST_HOC, served=SERVED))
    names = [stage.name for stage in plan.stages]
    assert names[-4:] == ["evaluate", "compat", "publish", "activate"]
    stage = plan.stages[-3]
    assert (stage.what, stage.inputs) == ("map to r2, r1, and judge the maps", ("embed", "graph"))
    assert plan.stages[-2].inputs == ("embed", "compat")


def test_the_identity_of_maps_is_all_that_they_are_made_from() -> None:
    base = prints(compat=POST_HOC, served=SERVED)
    others = [
        prints(compat=POST_HOC, served=SERVED[:1]),
        prints(compat=POST_HOC, served=(replace(SERVED[0], embed="other"), SERVED[1])),
        prints(compat={**POST_HOC, "method": "procrustes"}, served=SERVED),
        prints(compat=POST_HOC, served=SERVED, gate_inputs="a scorer"),
    ]
    assert len({base["compat"], *(other["compat"] for other in others)}) == 5
    assert {base["train"]} == {other["train"] for other in others}, "post-hoc maps leave the vectors alone"


def test_joint_training_depends_on_the_space_that_it_stays_close_to() -> None:
    plain = prints(compat=POST_HOC, served=SERVED)
    joint = prints(compat=JOINT, served=SERVED, aligned_to=SERVED[0])
    assert joint["train"] != plain["train"]
    heavier = prints(compat={**JOINT, "align_weight": 4.0}, served=SERVED, aligned_to=SERVED[0])
    other_target = prints(compat=JOINT, served=SERVED, aligned_to=replace(SERVED[0], embed="other"))
    other_maps = prints(compat=JOINT, served=SERVED, aligned_to=replace(SERVED[0], maps="other"))
    assert len({joint["train"], heavier["train"], other_target["train"]}) == 3
    assert other_maps["train"] == joint["train"], "a single step does not look through the maps of the target"
    multi = {**JOINT, "mode": "joint-multi"}
    one = prints(compat=multi, served=SERVED, aligned_to=SERVED[0])
    other = prints(compat=multi, served=SERVED, aligned_to=replace(SERVED[0], maps="other"))
    assert one["train"] != other["train"]


# --- edges derived from the graph -------------------------------------------------------------------------------------

PPR = {"strategy": "ppr", "ppr": {"alpha": 0.5, "snapshots": 4}, "densify": {"neighbours": 0}, "lr": 0.1}
DENSE = {**PPR, "strategy": "uniform", "densify": {"neighbours": 5}}


def with_training(training: dict[str, object]) -> StageSettings:
    return replace(SETTINGS, training={**SETTINGS.training, **training})


@pytest.mark.parametrize(
    ("training", "what"),
    [
        (PPR, "compute neighbours by PageRank, as of several moments"),
        (DENSE, "compute edges between similar nodes, as of several moments"),
        (
            {**DENSE, "strategy": "ppr"},
            "compute neighbours by PageRank and edges between similar nodes, as of several moments",
        ),
    ],
)
def test_derived_edges_are_made_where_training_asks_for_them(training: dict[str, object], what: str) -> None:
    plan = planned(*ALL, settings=with_training(training))
    names = [item.name for item in plan.stages]
    assert names[names.index("derive") - 1 : names.index("derive") + 2] == ["graph", "derive", "train"]
    made = stage(plan, "derive")
    assert (made.what, made.inputs) == (what, ("graph",))
    assert made.estimate.seconds > 0
    assert made.estimate.store_bytes > 0
    inputs = {item.name: item.inputs for item in plan.stages}
    assert inputs["train"] == ("graph", "derive")
    assert inputs["embed"] == ("train", "graph", "derive")
    assert inputs["evaluate"] == ("embed", "graph", "derive")


@pytest.mark.parametrize("training", [{}, {**PPR, "strategy": "latest"}])
def test_no_derived_edges_where_nothing_reads_them(training: dict[str, object]) -> None:
    assert not [item for item in planned(*ALL, settings=with_training(training)).stages if item.name == "derive"]


def test_derived_edges_depend_on_graph_settings_and_split_alone() -> None:
    base = with_training(PPR)

    def derived(settings: StageSettings, *texts: str) -> str:
        return stage(planned(*(texts or ALL), settings=settings), "derive").fingerprint

    def training(**changes: object) -> str:
        return derived(with_training({**PPR, **changes}))

    same, split = derived(base), {"validation_share": 0.2}
    assert training(lr=0.2, dim=8) == same
    core = CORE.replace("privacy:", "  age: {node: member, source: members, key: member_id, column: age}\nprivacy:")
    assert derived(base, core, VIEWS, SKILLS) == same, "cohorts only divide reports"
    assert derived(base, CORE, VIEWS.rstrip() + "\n    weight: 3.0\n", SKILLS) == same
    others = [training(ppr={"alpha": 0.2}), training(densify={"neighbours": 3}), training(**split)]
    others += [derived(base, CORE, VIEWS.replace("180d", "90d"), SKILLS)]
    others += [training(window="90d")]
    assert len({same, *others}) == 6
    assert derived(with_training({**DENSE, "window": "90d"})) == derived(with_training(DENSE)), "walks alone have one"
    plain = stage(planned(*ALL, settings=SETTINGS), "train").fingerprint
    assert stage(planned(*ALL, settings=base), "train").fingerprint != plain


def test_the_next_release_reuses_derived_edges() -> None:
    base, store = released(planned(*ALL, settings=with_training(PPR)))
    plan = planned(*ALL, base=base, store=store, settings=with_training({**PPR, "lr": 0.2}))
    assert built(plan) == MODEL - {"graph"}
    assert (stage(plan, "derive").action, stage(plan, "derive").why) == ("reuse", "unchanged since r1")
    plan = planned(*ALL, base=base, store=store, settings=with_training({**PPR, "ppr": {"alpha": 0.2}}))
    assert built(plan) == MODEL - {"graph"} | {"derive"}
    assert stage(plan, "derive").why == "training settings changed"
    assert stage(plan, "train").why == "training settings changed; derive changed"
    plan = planned(*ALL, base=base, store=store, tables=Tables(views=1), settings=with_training(PPR))
    assert stage(plan, "derive").why == "graph changed"
