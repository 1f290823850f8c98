"""Hypothesis strategies that several rooms use.

Branches are drawn as plain data, the way a YAML file would hold them, over a small fixed world of node types, edge
types and features, so that branches often declare the same signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

NODES = ("member", "job", "skill")
EDGES: Mapping[str, tuple[str, str]] = {
    "member-views-job": ("member", "job"),
    "member-knows-member": ("member", "member"),
    "job-needs-skill": ("job", "skill"),
}
FEATURES = ("member.level", "job.size", "skill.code")
SOURCES = ("first.parquet", "second.parquet")


def _key(node: str) -> str:
    return f"{node}_id"


@st.composite
def nodes(draw: st.DrawFn, name: str) -> tuple[Document, str]:
    """A node type and the file that it is read from."""
    kind = draw(st.sampled_from(["entity", "attribute"]))
    return {"kind": kind, "key": _key(name)}, draw(st.sampled_from(SOURCES))


@st.composite
def edges(draw: st.DrawFn, name: str) -> tuple[Document, str]:
    """An edge type between its two node types, and its file."""
    src, dst = EDGES[name]
    value: Document = {
        "kind": "interaction",
        "src": {"node": src, "key": "a"},
        "dst": {"node": dst, "key": "b", "unknown": draw(st.sampled_from(["error", "drop", "create"]))},
        "timestamp": "at",
        "dedupe": draw(st.sampled_from(["event", "pair"])),
        "reverse": draw(st.booleans()),
    }
    window = draw(st.sampled_from([None, "30d", "90d"]))
    return (value if window is None else {**value, "window": window}), draw(st.sampled_from(SOURCES))


@st.composite
def features(draw: st.DrawFn, name: str) -> tuple[Document, str]:
    """A categorical or numeric feature, and its file."""
    key = _key(name.partition(".")[0])
    if draw(st.booleans()):
        return {"kind": "categorical", "key": key, "column": "x", "min_count": draw(st.integers(1, 3))}, SOURCES[0]
    return {"kind": "numeric", "key": key, "columns": ["x", "y"]}, draw(st.sampled_from(SOURCES))


@st.composite
def worlds(draw: st.DrawFn) -> Mapping[str, Mapping[str, tuple[Document, str]]]:
    """One definition for every signal of the world, by section and name."""
    return {
        "nodes": {name: draw(nodes(name)) for name in NODES},
        "edges": {name: draw(edges(name)) for name in EDGES},
        "features": {name: draw(features(name)) for name in FEATURES},
    }


@st.composite
def documents(
    draw: st.DrawFn, name: str, world: Mapping[str, Mapping[str, tuple[Document, str]]] | None = None
) -> Document:
    """A ready branch with some signals of `world`; of a world of its own when none is given, so that it may contradict.

    Its sources have local names and the branch its own owner: neither means anything to a merge. Every branch declares
    the node types that its signals name.
    """
    world = world if world is not None else draw(worlds())
    chosen = {
        section: draw(st.sets(st.sampled_from(sorted(definitions)), max_size=3))
        for section, definitions in world.items()
    }
    needed = {node for edge in chosen["edges"] for node in EDGES[edge]}
    chosen["nodes"] |= needed | {feature.partition(".")[0] for feature in chosen["features"]}
    if not any(chosen.values()):
        chosen["nodes"] = {"member"}
    local = {
        file: draw(st.sampled_from(["rows", "table", "input"])) + f"_{index}" for index, file in enumerate(SOURCES)
    }
    found: Document = {"apiVersion": "star/v1", "branch": name, "owner": f"{name}@example.com", "status": "ready"}
    used: set[str] = set()
    for section, names in chosen.items():
        if names:
            found[section] = {}
        for signal in sorted(names):
            definition, file = world[section][signal]
            found[section][signal] = {**definition, "source": local[file]}
            used.add(file)
    found["sources"] = {local[file]: {"path": file} for file in sorted(used)}
    denied = draw(st.sets(st.sampled_from(["email", "phone"]), max_size=2))
    if denied:
        found["privacy"] = {"deny_columns": sorted(denied)}
    return found


@st.composite
def agreeing_branches(draw: st.DrawFn, most: int = 4) -> list[Document]:
    """Branches that declare what they share identically."""
    world = draw(worlds())
    count = draw(st.integers(1, most))
    return [draw(documents(f"branch_{index}", world)) for index in range(count)]


@st.composite
def any_branches(draw: st.DrawFn, most: int = 3) -> list[Document]:
    """Branches that may contradict each other."""
    count = draw(st.integers(2, most))
    return [draw(documents(f"branch_{index}")) for index in range(count)]
