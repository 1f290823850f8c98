"""Rules about names: whatever a declaration names is declared, and where a release will see it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from star_platform.errors import Diagnostic, Place
from star_platform.signals.locate import Steps
from star_platform.signals.model import CategoricalFeature, LinkPrediction, TableSource
from star_platform.signals.suggest import did_you_mean, known
from star_platform.signals.tree import MappingNode
from star_platform.signals.world import Draft, World, references

_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def branch_names(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """One file per branch."""
    name = draft.branch.branch
    if ("branch",) in draft.broken:
        return
    twins = [other for other in world.drafts if other.branch.branch == name and ("branch",) not in other.broken]
    if twins and twins[0] is not draft:
        yield draft.document.diagnostic(
            "S023",
            f"branch '{name}' is also declared in {twins[0].document.file}",
            draft.document.value_place("branch"),
            "choose another name",
            "a branch is one file: move the signals together, or name this one anew",
        )


def source_names(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """Declarations read sources of their own file."""
    names = draft.names("sources")
    for reference in references(draft):
        if reference.section == "sources" and reference.name not in names:
            elsewhere = [item.document.file for item in world.declaring("sources", reference.name)]
            yield draft.document.diagnostic(
                "S024",
                f"{reference.sentence} unknown source '{reference.name}'",
                draft.document.value_place(*reference.steps),
                did_you_mean(reference.name, names) or "declare it under 'sources:'",
                known("sources", names),
                f"{elsewhere[0]} has a source of that name, but sources are local to a file" if elsewhere else None,
            )


def connection_names(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """Tables are read through connections of star.yaml."""
    connections = world.context.connections
    for name, source in draft.branch.sources.items():
        if isinstance(source, TableSource) and connections is not None and source.connection not in connections:
            yield draft.document.diagnostic(
                "S027",
                f"source '{name}' uses the unknown connection '{source.connection}'",
                draft.document.value_place("sources", name, "connection"),
                did_you_mean(source.connection, connections) or "add it to 'connections:' in star.yaml",
                known("connections", connections),
            )


def variable_names(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """Every `${name}` of a source is a variable of star.yaml."""
    variables = world.context.variables
    for name, source in draft.branch.sources.items():
        for field in ("path", "sql", "feature_repo"):
            for match in _VARIABLE.finditer(getattr(source, field, None) or ""):
                variable, closing = match.groups()
                place = _inside(draft, ("sources", name, field), match.group())
                if not closing or not _NAME.fullmatch(variable):
                    yield draft.document.diagnostic(
                        "S026", f"'{match.group()}' is not a variable", place, "write ${name}"
                    )
                elif variables is not None and variable not in variables:
                    yield draft.document.diagnostic(
                        "S026",
                        f"star.yaml has no variable '{variable}'",
                        place,
                        did_you_mean(variable, variables) or "add it to 'variables:' in star.yaml",
                        known("variables", variables),
                    )


def _inside(draft: Draft, steps: Steps, part: str) -> Place:
    """The place of `part` within the value at `steps`, where it stands there as written."""
    return part_place(draft, draft.document.value_place(*steps), part)


def part_place(draft: Draft, place: Place, part: str) -> Place:
    """`place` narrowed to the first `part` in it."""
    line = draft.document.lines[place.line - 1]
    found = line.find(part, place.column - 1, place.column - 1 + place.length)
    return Place(place.file, place.line, found + 1, len(part)) if found >= 0 else place


# --- nodes and edges, across files ------------------------------------------------------------------------------------


def declared_names(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """Nodes and edges that a declaration names are declared, and not by drafts only when the file is ready."""
    for reference in references(draft):
        if reference.section != "sources":
            place = draft.document.value_place(*reference.steps)
            yield from _declared(draft, world, reference.section, reference.name, reference.sentence, place)
    features = draft.document.node("features")
    for key, _ in features.entries if isinstance(features, MappingNode) else ():
        name, (node, dot, _rest) = str(key.value), str(key.value).partition(".")
        if dot and ("features", name) not in draft.wrong:
            place = part_place(draft, draft.document.place("features", name), node)
            yield from _declared(draft, world, "nodes", node, f"feature '{name}' describes", place)


def _declared(draft: Draft, world: World, section: str, name: str, sentence: str, place: Place) -> Iterator[Diagnostic]:
    what, code = {"nodes": ("node", "S014"), "edges": ("edge", "S028"), "features": ("feature", "S061")}[section]
    declaring = world.declaring(section, name)
    if not declaring:
        if world.complete:
            names = world.names(section)
            label = did_you_mean(name, names) or "no branch declares it"
            message = f"{sentence} unknown {what} '{name}'"
            yield draft.document.diagnostic(code, message, place, label, known(section, names))
    elif draft.ready and not any(item is draft or item.ready for item in declaring):
        yield _only_a_draft(draft, declaring[0], f"{sentence} {what} '{name}'", place)


def _only_a_draft(draft: Draft, other: Draft, what: str, place: Place) -> Diagnostic:
    return draft.document.diagnostic(
        "S043",
        f"{what}, which only a draft declares",
        place,
        f"{other.document.file} is a draft",
        f"branch '{draft.branch.branch}' is ready, and a release leaves drafts out: make '{other.branch.branch}' "
        "ready too, or this branch a draft",
    )


def objective_edges(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """Objectives predict dated edges; their negatives join the same types of nodes."""
    for name, objective in draft.branch.objectives.items():
        if not isinstance(objective, LinkPrediction):
            continue
        edge = world.edge(draft, objective.edge)
        if edge is not None and edge.timestamp is None and edge.kind == "attribute":
            yield draft.document.diagnostic(
                "S050",
                f"objective '{name}' predicts edge '{objective.edge}', which has no timestamp",
                draft.document.value_place("objectives", name, "edge"),
                "give the edge a timestamp",
                "training and evaluation are split by time: without dates nothing is later than what was learned",
            )
        if objective.negatives.edge is not None and objective.negatives.kind == "edge":
            yield from _negative_edge(draft, world, name, objective.edge, objective.negatives.edge)


def _negative_edge(draft: Draft, world: World, name: str, positive: str, negative: str) -> Iterator[Diagnostic]:
    place = draft.document.value_place("objectives", name, "negatives", "edge")
    if negative == positive:
        message = f"objective '{name}' takes the edges it predicts as negatives too"
        yield draft.document.diagnostic("S030", message, place, "name another edge")
        return
    wanted, given = world.edge(draft, positive), world.edge(draft, negative)
    if wanted is None or given is None:
        return
    ends, other = (wanted.src.node, wanted.dst.node), (given.src.node, given.dst.node)
    if ends != other:
        yield draft.document.diagnostic(
            "S029",
            f"negatives of objective '{name}' join {' -> '.join(other)}, but its edge joins {' -> '.join(ends)}",
            place,
            "not the same endpoints",
            "a negative is a pair that could have been a positive",
        )


def hard_negatives(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """Hard negatives share an attribute with the positive, so its type has edges of kind `attribute`."""
    if not world.complete or any(item.broken for item in world.drafts):
        return
    edges = [edge for other in world.visible(draft) for edge in other.branch.edges.values()]
    described = {
        node
        for edge in edges
        if edge.kind == "attribute" and edge.src.node != edge.dst.node
        for node in (edge.src.node, edge.dst.node)
    }
    for name, objective in draft.branch.objectives.items():
        if not isinstance(objective, LinkPrediction) or objective.negatives.kind != "hard":
            continue
        edge = world.edge(draft, objective.edge)
        if edge is not None and edge.dst.node not in described:
            yield draft.document.diagnostic(
                "S065",
                f"objective '{name}' wants hard negatives, but no attribute edge describes '{edge.dst.node}'",
                draft.document.value_place("objectives", name, "negatives"),
                f"declare an edge of 'kind: attribute' at '{edge.dst.node}'",
                "or take negatives of kind uniform or degree",
            )


def objective_labels(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """The label of a node classification is a categorical feature."""
    for name, objective in draft.branch.objectives.items():
        if isinstance(objective, LinkPrediction):
            continue
        feature = world.feature(draft, objective.feature)
        if feature is not None and not isinstance(feature, CategoricalFeature):
            yield draft.document.diagnostic(
                "S064",
                f"objective '{name}' predicts '{objective.feature}', which is not categorical",
                draft.document.value_place("objectives", name, "feature"),
                f"its kind is '{feature.kind}'",
                "a class is a value of a categorical feature: declare the label column as one",
            )


def created_nodes(draft: Draft, world: World) -> Iterator[Diagnostic]:
    """A node type without a source has an edge that creates its nodes."""
    if not world.complete or any(item.broken for item in world.drafts):
        return
    created = {
        end.node
        for other in world.visible(draft)
        for edge in other.branch.edges.values()
        for end in (edge.src, edge.dst)
        if end.unknown == "create"
    }
    sourced = {name for other in world.visible(draft) for name, node in other.branch.nodes.items() if node.source}
    for name, node in draft.branch.nodes.items():
        if node.source is None and name not in created | sourced:
            yield draft.document.diagnostic(
                "S042",
                f"nothing creates the nodes of '{name}': it has no source, and no edge creates them",
                draft.document.place("nodes", name),
                "add 'source:' and 'key:'",
                f"or write 'unknown: create' at an endpoint of an edge that holds ids of '{name}'",
            )


RULES = (
    branch_names,
    source_names,
    connection_names,
    variable_names,
    declared_names,
    objective_edges,
    hard_negatives,
    objective_labels,
    created_nodes,
)
