"""The consumer schema as frozen pydantic models; `schema/consumer.schema.json` is generated from here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from star_platform.signals.model import Column, Declaration, Name, NodeName

Release = Annotated[str, StringConstraints(pattern=r"^(latest|r[1-9][0-9]*)$")]
"""A release such as `r3`, or `latest`: the active one at each publication."""
Text = Annotated[str, StringConstraints(min_length=1)]
Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
"""A day of the calendar, such as `2027-01-31`."""


class Scorer(Declaration):
    """The frozen model of a consumer: exactly one of a Python entry point and an ONNX file."""

    python: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    """An entry point `package.module:function` that returns a callable of vectors and columns."""
    onnx: Text | None = None
    """An ONNX file, relative to the project."""


class Cases(Declaration):
    """Labelled rows that the frozen model is judged on."""

    path: Text
    """A Parquet file, relative to the project."""
    label: Column
    """The column that says what happened: 0 or 1."""
    keys: Annotated[dict[NodeName, Column], Field(min_length=1)]
    """The column with the external ids of each node type whose vectors the model takes."""
    columns: tuple[Column, ...] = ()
    """Further columns that the model takes."""
    cluster: Column | None = None
    """Rows with one value here belong together, such as all of one member; intervals are then drawn by it."""


class Consumer(Declaration):
    """A downstream model or service, and the embeddings that it reads."""

    consumer: Name
    owner: Text
    contact: Text | None = None
    """Where to reach the owner when a release that it reads is to go: an address or a channel."""
    description: str = ""
    nodes: Annotated[tuple[NodeName, ...], Field(min_length=1)]
    """Node types whose embedding it reads."""
    release: Release = "latest"
    sunset: Day | None = None
    """The day by which it will have left the release that it names."""
    compat: Literal["mapped", "exact"] = "mapped"
    """`mapped`: may be served by a map that passes its gate; `exact`: only by the vectors of its release."""
    margin: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    """How much AUC it may lose to a map; the project's own margin when absent."""
    scorer: Scorer | None = None
    cases: Cases | None = None
