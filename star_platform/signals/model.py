"""The branch schema (DESIGN 4.1) as frozen pydantic models; the JSON Schema is generated from here.

Only shape and local sense live here. What needs positions in a file is in `load`, what needs other branches is in
`planning.merge`, what needs data is in `graph`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    Tag,
    model_serializer,
)

API_VERSION: Literal["star/v1"] = "star/v1"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(-[a-z0-9_]+)*$", max_length=63)]
"""Lower case, digits, `_` and `-`; Feast and file systems both take it."""
NodeName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""A node type also names a Feast view `<node>_embedding`, so it has no `-`."""
FeatureName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", max_length=81)]
"""`<node>.<feature>`."""
Column = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[smhdw]$")]
"""A whole number and a unit: `90d`, `12h`, `30m`, `45s`, `2w`."""
Expression = Annotated[str, StringConstraints(min_length=1)]
"""A SQL predicate that the engine (DuckDB) evaluates on the rows of a source."""


class Declaration(BaseModel):
    """Base of everything in a branch file: frozen, and closed to unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# --- sources ----------------------------------------------------------------------------------------------------------


class FileSource(Declaration):
    """Rows of Parquet or CSV files; `path` may hold `${variables}` of star.yaml and a glob."""

    path: Annotated[str, StringConstraints(min_length=1)]
    format: Literal["parquet", "csv"] | None = None
    """Taken from the file's extension when absent."""
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    null_values: tuple[str, ...] = ("",)
    """CSV fields that mean "no value"."""


class TableSource(Declaration):
    """Rows of a SQL table, read through a connection that star.yaml names."""

    table: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*){0,2}$")]
    connection: Name


class SqlSource(Declaration):
    """Rows of a query that the engine runs; it may name the other sources of its branch as tables."""

    sql: Expression


class FeastSource(Declaration):
    """Rows of a Feast feature view's offline store, such as `driver_stats@v2`."""

    feast: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w]*(@v[1-9][0-9]*)?$")]
    feature_repo: str | None = None
    """Folder of the Feast repository; this project's own when absent."""


SOURCE_KINDS: dict[str, type[Declaration]] = {
    "path": FileSource,
    "table": TableSource,
    "sql": SqlSource,
    "feast": FeastSource,
}


def _source_kind(value: Any) -> str | None:
    if isinstance(value, Declaration):
        return next(kind for kind, model in SOURCE_KINDS.items() if isinstance(value, model))
    if isinstance(value, dict):
        return next((kind for kind in SOURCE_KINDS if kind in value), None)
    return None


Source = Annotated[
    Annotated[FileSource, Tag("path")]
    | Annotated[TableSource, Tag("table")]
    | Annotated[SqlSource, Tag("sql")]
    | Annotated[FeastSource, Tag("feast")],
    Discriminator(_source_kind),
]


# --- nodes and edges --------------------------------------------------------------------------------------------------

UnknownPolicy = Literal["error", "drop", "create"]
"""What happens to an edge whose endpoint no node source lists: fail, drop and count it, or create the node."""


class Node(Declaration):
    """A node type. Without a source its nodes are those that edges with `unknown: create` bring."""

    kind: Literal["entity", "attribute"]
    source: Name | None = None
    key: Column | None = None
    created_at: Column | None = None
    """When the node came to exist; negatives drawn for an earlier example leave it out."""


class Endpoint(Declaration):
    """One side of an edge type: a node type and the column that holds its key."""

    node: NodeName
    key: Column
    unknown: UnknownPolicy = "error"


class Weight(Declaration):
    """Edge weight: a column and how repeated edges combine; `{aggregate: count}` needs no column."""

    column: Column | None = None
    aggregate: Literal["sum", "mean", "max", "min", "count", "last"] = "sum"


class Edge(Declaration):
    """An edge type `(src.node, name, dst.node)`.

    An interaction is dated history between entities; an attribute edge joins an entity and what describes it.
    """

    kind: Literal["interaction", "attribute"]
    source: Name
    src: Endpoint
    dst: Endpoint
    timestamp: Column | None = None
    weight: Weight | None = None
    where: Expression | None = None
    window: Duration | None = None
    """Keep only edges within this span before the newest edge of the type."""
    dedupe: Literal["event", "pair", "none"] = "event"
    """`event`: one edge per (src, dst, time); `pair`: one per (src, dst), at its latest time; `none`: every row."""
    reverse: bool = True
    """Also compile the reverse edge type, so that messages flow both ways."""


# --- features ---------------------------------------------------------------------------------------------------------


class ColumnFeature(Declaration):
    """What features read from columns have in common."""

    source: Name
    key: Column
    valid_from: Column | None = None
    """When the value became true; an example sees the newest value from strictly before its own moment."""


class TextFeature(ColumnFeature):
    """Text columns, joined and embedded by the project's text encoder: float32 `[nodes, encoder dim]`."""

    kind: Literal["text"]
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]


class IdFeature(Declaration):
    """A learned vector per node."""

    kind: Literal["id"]
    dim: Annotated[int, Field(ge=1, le=4096)]


class CategoricalFeature(ColumnFeature):
    """A code per node, int32; 0 is "missing or rare"."""

    kind: Literal["categorical"]
    column: Column
    min_count: Annotated[int, Field(ge=1)] = 1
    """Values seen on fewer nodes than this share code 0."""


class NumericFeature(ColumnFeature):
    """Standardised numbers, float32 `[nodes, columns]`, nulls become 0 with a missing flag beside them."""

    kind: Literal["numeric"]
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    transform: Literal["standard", "log1p", "none"] = "standard"


class VectorFeature(ColumnFeature):
    """A vector that somebody else computed, float32 `[nodes, dim]`."""

    kind: Literal["vector"]
    column: Column
    dim: Annotated[int, Field(ge=1, le=16384)] | None = None
    """Checked against the data when given."""


Feature = Annotated[
    TextFeature | IdFeature | CategoricalFeature | NumericFeature | VectorFeature, Discriminator("kind")
]


# --- objectives, cohorts, privacy -------------------------------------------------------------------------------------


class Negatives(Declaration):
    """Where the negatives of an objective come from.

    `labelled`: rows whose label is false; `edge`: the edges of another edge type; `uniform`: nodes of the destination
    type that existed at the example's time; `degree`: the same, more often the more often they were met before;
    `hard`: nodes that share an attribute with the positive destination; `in-batch`: the other destinations of the
    batch.
    """

    kind: Literal["labelled", "uniform", "in-batch", "edge", "degree", "hard"] = "uniform"
    edge: Name | None = None
    hard_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Of kind `hard`: this share of the negatives is hard, 0.5 when absent; the rest is uniform."""

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `hard_share` out where it is not given: older declarations keep their fingerprint."""
        values: dict[str, Any] = handler(self)
        return {name: value for name, value in values.items() if name != "hard_share" or value is not None}


def _negatives(value: Any) -> Any:
    """`negatives: {edge: member-dismisses-job}` is the short form of kind `edge`."""
    if isinstance(value, dict) and "kind" not in value and "edge" in value:
        return {"kind": "edge", **value}
    return value


class LinkPrediction(Declaration):
    """Predict the edges of one type; every edge is positive unless a label column says otherwise."""

    kind: Literal["link-prediction"]
    edge: Name
    label: Column | None = None
    negatives: Annotated[Negatives, BeforeValidator(_negatives)] = Negatives()
    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0


class NodeClassification(Declaration):
    """Predict a categorical feature of a node from everything else; the feature is then no input of the model."""

    kind: Literal["node-classification"]
    node: NodeName
    feature: FeatureName
    """A categorical feature of the node type; nodes where it is missing or rare teach nothing."""
    weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0


Objective = Annotated[LinkPrediction | NodeClassification, Discriminator("kind")]


class Cohort(Declaration):
    """A column that divides the nodes of a type into groups whose quality is reported apart."""

    node: NodeName
    source: Name
    key: Column
    column: Column


class OptOut(Declaration):
    """Nodes that leave the graph, with their edges and features."""

    source: Name
    key: Column
    node: NodeName | None = None
    """The node type; when absent, the one whose declared key column is `key`."""
    where: Expression | None = None
    """Rows that opt out; every row of the source when absent."""


class Privacy(Declaration):
    """What must not be used. Denied columns hold for every branch of the project."""

    opt_out: OptOut | None = None
    deny_columns: tuple[Column, ...] = ()


class Branch(Declaration):
    """One file of `signal_branches/`: the signals that one owner declares."""

    file_modeline: ClassVar[str] = "# yaml-language-server: $schema=../schema/branch.schema.json"

    apiVersion: Literal["star/v1"] = API_VERSION  # noqa: N815
    branch: Name
    owner: Annotated[str, StringConstraints(min_length=1)]
    description: str = ""
    status: Literal["draft", "ready"] = "draft"
    sources: dict[Name, Source] = {}
    nodes: dict[NodeName, Node] = {}
    edges: dict[Name, Edge] = {}
    features: dict[FeatureName, Feature] = {}
    objectives: dict[Name, Objective] = {}
    cohorts: dict[Name, Cohort] = {}
    privacy: Privacy = Privacy()
