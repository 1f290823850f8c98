"""Which declarations one signal's arrays depend on, read from the spec alone; most of it planning knows already."""

from __future__ import annotations

from star_platform.errors import GraphError
from star_platform.planning.fingerprint import creators, label_columns
from star_platform.planning.spec import GraphSpec
from star_platform.signals.model import OptOut

__all__ = ["creators", "label_columns", "opt_outs_of"]


def opt_outs_of(spec: GraphSpec, node: str) -> tuple[str, ...]:
    """Names of the opt-outs whose rows leave this node type, sorted.

    Raises:
        GraphError: G016 when an opt-out names no node type and its key is no node's key column.
    """
    return tuple(name for name, opt_out in sorted(spec.opt_outs.items()) if node in _targets(spec, name, opt_out))


def _targets(spec: GraphSpec, name: str, opt_out: OptOut) -> tuple[str, ...]:
    if opt_out.node is not None:
        return (opt_out.node,)
    found = tuple(node for node, definition in sorted(spec.nodes.items()) if definition.key == opt_out.key)
    if not found:
        raise GraphError(
            "G016",
            f"the opt-out {name!r} names no node type, and {opt_out.key!r} is the key column of none",
            hint="add `node: <type>` to the opt-out",
        )
    return found
