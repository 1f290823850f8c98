"""What only several files, or the file system, can get wrong; and how one error keeps others from misleading."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_platform.errors import Diagnostic, SignalErrors
from star_platform.signals.load import load_branch, load_branches, read_branches

NODES = """\
branch: {name}
owner: team@example.com
status: {status}
sources:
  members: {{path: members.parquet}}
  views: {{path: views.parquet}}
nodes:
  member: {{kind: entity, source: members, key: member_id}}
  job: {{kind: attribute}}
edges:
  member-views-job:
    kind: interaction
    source: views
    src: {{node: member, key: member_id}}
    dst: {{node: job, key: job_id, unknown: create}}
    timestamp: viewed_at
"""
FEATURE = """\
branch: features
owner: team@example.com
status: ready
sources:
  jobs: {path: jobs.parquet}
features:
  job.title: {kind: text, source: jobs, key: job_id, columns: [title]}
objectives:
  views: {kind: link-prediction, edge: member-views-job}
"""


def read(folder: Path, **files: str) -> tuple[Diagnostic, ...]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return read_branches(folder)[1]


def codes(found: tuple[Diagnostic, ...]) -> list[str]:
    return [f"{Path(item.place.file).name}:{item.code}" for item in found if item.place]


def test_branches_may_build_on_each_other(tmp_path: Path) -> None:
    assert read(tmp_path, nodes=NODES.format(name="nodes", status="ready"), features=FEATURE) == ()
    assert [item.branch.branch for item in load_branches(tmp_path)] == ["features", "nodes"]


def test_two_branches_with_one_name(tmp_path: Path) -> None:
    text = NODES.format(name="same", status="draft")
    (found,) = read(tmp_path, a=text, b=text)
    assert found.code == "S023"
    assert found.place is not None
    assert (Path(found.place.file).name, found.place.line, found.place.column) == ("b.yaml", 1, 9)


def test_a_ready_branch_cannot_build_on_a_draft(tmp_path: Path) -> None:
    found = read(tmp_path, nodes=NODES.format(name="nodes", status="draft"), features=FEATURE)
    assert codes(found) == ["features.yaml:S043", "features.yaml:S043"]
    assert "make 'nodes' ready too" in found[0].notes[0]


def test_a_draft_may_build_on_a_draft(tmp_path: Path) -> None:
    draft = FEATURE.replace("ready", "draft")
    assert read(tmp_path, nodes=NODES.format(name="nodes", status="draft"), features=draft) == ()


def test_a_denied_column_holds_for_every_branch(tmp_path: Path) -> None:
    nodes = NODES.format(name="nodes", status="ready") + "privacy: {deny_columns: [Title]}\n"
    (found,) = read(tmp_path, nodes=nodes, features=FEATURE)
    assert (found.code, str(found.place)) == ("S044", f"{tmp_path.name}/features.yaml:7:64")
    assert f"{tmp_path.name}/nodes.yaml:17:26" in found.notes[0]


def test_what_a_draft_denies_holds_for_itself_only(tmp_path: Path) -> None:
    denying = "branch: d\nowner: x\nprivacy: {deny_columns: [title]}\n"
    assert read(tmp_path, nodes=NODES.format(name="nodes", status="ready"), features=FEATURE, draft=denying) == ()


def test_negatives_edge_of_another_kind_of_negatives(tmp_path: Path) -> None:
    text = NODES.format(name="nodes", status="ready") + (
        "objectives:\n  o: {kind: link-prediction, edge: member-views-job, "
        "negatives: {kind: uniform, edge: member-views-job}}\n"
    )
    (found,) = read(tmp_path, nodes=text)
    assert found.code == "S032"


def test_an_unreadable_file_keeps_names_from_being_called_unknown(tmp_path: Path) -> None:
    found = read(tmp_path, nodes="<<<<<<< HEAD\n" + NODES.format(name="nodes", status="ready"), features=FEATURE)
    assert codes(found) == ["nodes.yaml:S003"]


def test_a_broken_declaration_still_counts_as_declared(tmp_path: Path) -> None:
    broken = NODES.format(name="nodes", status="ready").replace("kind: attribute}", "kind: atribute}")
    broken = broken.replace("kind: interaction", "kind: interactoin")
    assert codes(read(tmp_path, nodes=broken, features=FEATURE)) == ["nodes.yaml:S013", "nodes.yaml:S013"]


def test_all_errors_of_all_files_in_one_run(tmp_path: Path) -> None:
    nodes = NODES.format(name="nodes", status="ready").replace("dst: {node: job,", "dst: {node: jop, wrong: 1,")
    features = FEATURE.replace("owner: team@example.com\n", "").replace("kind: text", "kind: txt")
    found = read(tmp_path, nodes=nodes, features=features, empty="", noise="a: [")
    assert codes(found) == [
        "empty.yaml:S002",
        "features.yaml:S011",
        "features.yaml:S013",
        "nodes.yaml:S010",
        "noise.yaml:S005",
    ]


def test_unknown_names_are_found_in_declarations_that_are_wrong_elsewhere(tmp_path: Path) -> None:
    nodes = NODES.format(name="nodes", status="ready").replace("dst: {node: job,", "dst: {node: jop, wrong: 1,")
    assert codes(read(tmp_path, nodes=nodes)) == ["nodes.yaml:S014", "nodes.yaml:S010"]


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nothing")
    (found,) = read(tmp_path)
    assert found.code == "S056"


def test_a_branch_alone_does_not_miss_its_neighbours(tmp_path: Path) -> None:
    read(tmp_path, features=FEATURE)
    loaded = load_branch(tmp_path / "features.yaml", root=tmp_path)
    assert str(loaded.place("features", "job.title")) == "features.yaml:7:3"
    assert str(loaded.value_place("features", "job.title", "columns", 0)) == "features.yaml:7:64"
    assert str(loaded.place("features", "job.title", "absent")) == "features.yaml:7:3"


def test_load_branches_raises_all(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("branch: A\nowner: 1\n")
    with pytest.raises(SignalErrors) as caught:
        load_branches(tmp_path)
    assert [item.code for item in caught.value.diagnostics] == ["S015", "S012"]


def test_the_order_of_files_does_not_matter_to_what_is_found(tmp_path: Path) -> None:
    """An error names the same file and place whatever the names of the other files sort like."""
    for first, second in (("a", "z"), ("z", "a")):
        folder = tmp_path / first
        folder.mkdir()
        draft = NODES.format(name="nodes", status="draft")
        assert codes(read(folder, **{first: draft, second: FEATURE})) == [f"{second}.yaml:S043"] * 2


LABEL = """\
branch: labels
owner: team@example.com
status: {status}
sources:
  members: {{path: members.parquet}}
features:
  member.level: {{kind: {kind}, source: members, key: member_id, {column}}}
"""
CLASSIFIES = """\
branch: goals
owner: team@example.com
status: ready
objectives:
  level: {kind: node-classification, node: member, feature: member.level}
"""


def test_a_label_may_be_declared_in_another_branch(tmp_path: Path) -> None:
    nodes = NODES.format(name="nodes", status="ready")
    label = LABEL.format(status="ready", kind="categorical", column="column: level")
    assert read(tmp_path, nodes=nodes, labels=label, goals=CLASSIFIES) == ()
    numeric = LABEL.format(status="ready", kind="numeric", column="columns: [level]")
    assert codes(read(tmp_path, nodes=nodes, labels=numeric, goals=CLASSIFIES)) == ["goals.yaml:S064"]
    draft = label.replace("status: ready", "status: draft")
    (found,) = read(tmp_path, nodes=nodes, labels=draft, goals=CLASSIFIES)
    assert (found.code, found.message) == (
        "S043",
        "objective 'level' predicts feature 'member.level', which only a draft declares",
    )
