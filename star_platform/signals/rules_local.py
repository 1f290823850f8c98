"""Rules about one declaration on its own."""

from __future__ import annotations

from collections.abc import Iterator

from star_platform.errors import Diagnostic
from star_platform.signals.locate import Steps
from star_platform.signals.model import Edge, FileSource, LinkPrediction, SqlSource
from star_platform.signals.sqltext import flaw, tables
from star_platform.signals.tree import SequenceNode, plain
from star_platform.signals.world import Draft, sql_texts

PARQUET_SUFFIXES = (".parquet", ".pq")
CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def empty_branch(draft: Draft) -> Iterator[Diagnostic]:
    """A ready branch must declare something."""
    branch, document = draft.branch, draft.document
    signals = (branch.nodes, branch.edges, branch.features, branch.objectives, branch.cohorts)
    private = branch.privacy.opt_out is not None or branch.privacy.deny_columns
    if draft.ready and not draft.broken and not any(signals) and not private:
        yield document.diagnostic(
            "S049",
            f"branch '{branch.branch}' is ready but declares no signal",
            document.value_place("status"),
            "write draft until there is one",
            "a signal is an entry of nodes, edges, features, objectives or cohorts",
        )


def file_sources(draft: Draft) -> Iterator[Diagnostic]:
    """The format of a file source is known, and CSV options belong to CSV."""
    document = draft.document
    for name, source in draft.branch.sources.items():
        if not isinstance(source, FileSource):
            continue
        steps = ("sources", name)
        format_ = source.format or _format(source.path)
        if format_ is None:
            yield document.diagnostic(
                "S051",
                f"the format of '{source.path}' is not clear from its name",
                document.value_place(*steps, "path"),
                "add 'format: parquet' or 'format: csv'",
                f"known extensions: {', '.join((*PARQUET_SUFFIXES, *CSV_SUFFIXES))}",
            )
        if format_ == "parquet":
            for option in ("delimiter", "null_values"):
                if document.node(*steps, option) is not None:
                    yield document.diagnostic(
                        "S052",
                        f"'{option}' is for csv, and source '{name}' is parquet",
                        document.place(*steps, option),
                        "delete it",
                    )


def _format(path: str) -> str | None:
    lowered = path.lower().rstrip("*")
    if lowered.endswith(PARQUET_SUFFIXES):
        return "parquet"
    return "csv" if lowered.endswith(CSV_SUFFIXES) else None


def sql_flaws(draft: Draft) -> Iterator[Diagnostic]:
    """SQL text is one expression or query, with every quote and bracket closed."""
    for text, steps in sql_texts(draft.branch):
        found = flaw(text)
        if found:
            place = draft.document.value_place(*steps)
            yield draft.document.diagnostic("S053", f"the SQL of {'.'.join(map(str, steps))} is broken", place, found)


def source_cycles(draft: Draft) -> Iterator[Diagnostic]:
    """No `sql:` source reads itself, directly or through others."""
    sources = draft.branch.sources
    reads = {
        name: sorted(tables(source.sql) & set(sources))
        for name, source in sources.items()
        if isinstance(source, SqlSource)
    }
    reported: set[frozenset[str]] = set()
    for start in reads:
        cycle = _cycle(reads, start)
        if cycle and frozenset(cycle) not in reported:
            reported.add(frozenset(cycle))
            yield draft.document.diagnostic(
                "S025",
                f"source '{start}' reads itself: {' -> '.join((*cycle, start))}",
                draft.document.place("sources", start),
                "break the circle",
                "a query may name the other sources of its branch as tables; give one of them another name",
            )


def _cycle(reads: dict[str, list[str]], start: str) -> list[str]:
    """The way from `start` back to itself, or nothing."""
    pending: list[list[str]] = [[start]]
    seen: set[str] = set()
    while pending:
        way = pending.pop()
        for name in reads.get(way[-1], []):
            if name == start:
                return way
            if name not in seen:
                seen.add(name)
                pending.append([*way, name])
    return []


def nodes(draft: Draft) -> Iterator[Diagnostic]:
    """A node with a source has a key; one without has neither key nor date."""
    document = draft.document
    for name, node in draft.branch.nodes.items():
        if node.source is not None and node.key is None:
            yield document.diagnostic(
                "S040",
                f"node '{name}' has a source but no key",
                document.place("nodes", name, "source"),
                "add 'key: <column>'",
                "the key is the column that holds the id of each node",
            )
        if node.source is None:
            for field in ("key", "created_at"):
                if getattr(node, field) is not None:
                    yield document.diagnostic(
                        "S041",
                        f"node '{name}' has '{field}' but no source to read it from",
                        document.place("nodes", name, field),
                        "add 'source: <name>' or delete this",
                    )


def edges(draft: Draft) -> Iterator[Diagnostic]:
    """Dates, weights and endpoints of an edge fit together."""
    for name, edge in draft.branch.edges.items():
        yield from _dates(draft, name, edge)
        yield from _weight(draft, name, edge)
        document = draft.document
        if edge.src.key == edge.dst.key:
            yield document.diagnostic(
                "S038",
                f"both ends of edge '{name}' read the column '{edge.src.key}': every edge would join a node to itself",
                document.value_place("edges", name, "dst", "key"),
                "name the column of the other end",
            )
        if name.startswith("rev_"):
            yield document.diagnostic(
                "S039",
                f"edge '{name}' takes a name that is kept for reverse edges",
                document.place("edges", name),
                "drop the 'rev_'",
                "the reverse of edge 'x' is compiled as 'rev_x'",
            )


def _dates(draft: Draft, name: str, edge: Edge) -> Iterator[Diagnostic]:
    document = draft.document
    if edge.timestamp is not None:
        return
    if edge.kind == "interaction":
        yield document.diagnostic(
            "S033",
            f"edge '{name}' is an interaction without a timestamp",
            document.place("edges", name),
            "add 'timestamp: <column>'",
            "interactions are dated history; what holds at any time is 'kind: attribute'",
        )
    if edge.window is not None:
        yield document.diagnostic(
            "S034",
            f"edge '{name}' has a window but no timestamp",
            document.place("edges", name, "window"),
            "add 'timestamp: <column>' or delete the window",
        )
    if edge.weight is not None and edge.weight.aggregate == "last":
        yield document.diagnostic(
            "S037",
            f"edge '{name}' takes the last weight, but has no timestamp to tell which that is",
            document.value_place("edges", name, "weight", "aggregate"),
            "add 'timestamp: <column>' or use max",
        )


def _weight(draft: Draft, name: str, edge: Edge) -> Iterator[Diagnostic]:
    if edge.weight is None:
        return
    document, steps = draft.document, ("edges", name, "weight")
    if edge.weight.column is None and edge.weight.aggregate != "count":
        yield document.diagnostic(
            "S035",
            f"the weight of edge '{name}' names no column to take the {edge.weight.aggregate} of",
            document.place(*steps),
            "add 'column: <column>'",
            "only 'aggregate: count' needs no column",
        )
    if edge.weight.column is not None and edge.weight.aggregate == "count":
        yield document.diagnostic(
            "S036",
            f"the weight of edge '{name}' counts rows, so its column would be ignored",
            document.place(*steps, "column"),
            "delete it, or use sum",
        )


def objectives(draft: Draft) -> Iterator[Diagnostic]:
    """Negatives name what they need, and nothing else; a label is a feature of the node that is classified."""
    for name, objective in draft.branch.objectives.items():
        if isinstance(objective, LinkPrediction):
            yield from _negatives(draft, name, objective)
        elif objective.feature.partition(".")[0] != objective.node:
            yield draft.document.diagnostic(
                "S062",
                f"objective '{name}' classifies '{objective.node}' by a feature of another node, '{objective.feature}'",
                draft.document.value_place("objectives", name, "feature"),
                f"name a feature of '{objective.node}'",
                "a feature is named <node>.<feature>",
            )


def _negatives(draft: Draft, name: str, objective: LinkPrediction) -> Iterator[Diagnostic]:
    document = draft.document
    negatives, steps = objective.negatives, ("objectives", name, "negatives")
    if negatives.kind == "labelled" and objective.label is None:
        yield document.diagnostic(
            "S031",
            f"objective '{name}' takes labelled negatives but names no label column",
            document.value_place(*steps, "kind"),
            "add 'label: <column>' to the objective",
            "rows whose label is true are positives, the others negatives",
        )
    if negatives.kind == "edge" and negatives.edge is None:
        yield document.diagnostic(
            "S032",
            f"objective '{name}' takes its negatives from an edge but does not say which",
            document.value_place(*steps, "kind"),
            "write 'negatives: {edge: <edge>}'",
        )
    if negatives.kind != "edge" and negatives.edge is not None:
        yield document.diagnostic(
            "S032",
            f"objective '{name}' names an edge for its negatives, but their kind is '{negatives.kind}'",
            document.place(*steps, "edge"),
            "write 'kind: edge' or delete this",
        )
    if negatives.kind != "hard" and negatives.hard_share is not None:
        yield document.diagnostic(
            "S063",
            f"objective '{name}' has a share of hard negatives, but their kind is '{negatives.kind}'",
            document.place(*steps, "hard_share"),
            "write 'kind: hard' or delete this",
        )


def repeated_items(draft: Draft) -> Iterator[Diagnostic]:
    """A list of columns names each once."""
    document = draft.document
    lists: list[Steps] = [("features", name, "columns") for name in draft.branch.features]
    lists += [("privacy", "deny_columns")]
    lists += [("sources", name, "null_values") for name in draft.branch.sources]
    for steps in lists:
        node = document.node(*steps)
        items = plain(node) if isinstance(node, SequenceNode) else ()
        for index, item in enumerate(items):
            if item in items[:index]:
                yield document.diagnostic(
                    "S046",
                    f"'{item}' stands twice in {'.'.join(map(str, steps))}",
                    document.place(*steps, index),
                    "delete one of the two",
                )


RULES = (
    empty_branch,
    file_sources,
    sql_flaws,
    source_cycles,
    nodes,
    edges,
    objectives,
    repeated_items,
)
