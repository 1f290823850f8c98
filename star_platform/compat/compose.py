"""One matrix for a chain of maps: n -> k -> m becomes n -> m."""

from __future__ import annotations

from functools import reduce

import numpy as np

from star_platform.compat.model import CompatMap
from star_platform.errors import CompatError


def compose(first: CompatMap, second: CompatMap) -> CompatMap:
    """The map that applies `first` (n -> k) and then `second` (k -> m), multiplied in float64.

    Equal to applying both, except where `first` normalises and `second` either does not or has a bias: the product
    leaves out the lengths in between. `concerns` says so. The result has no fidelity yet.

    Raises:
        CompatError: C014 for a residual map, C015 when `second` does not start where `first` ends.
    """
    for each in (first, second):
        if each.hidden is not None:
            raise CompatError(
                "C014",
                f"{each.name} has a network, which cannot be multiplied with another map",
                hint="fit the older release directly, or use a linear method",
            )
    ends = (first.node, first.target, first.target_space, first.dims[1])
    begins = (second.node, second.source, second.source_space, second.dims[0])
    if ends != begins:
        raise CompatError(
            "C015",
            f"{second.name} does not start in the space in which {first.name} ends",
            hint="compose maps of one node type along the chain of releases",
        )
    return CompatMap(
        node=first.node,
        source=first.source,
        target=second.target,
        source_space=first.source_space,
        target_space=second.target_space,
        weights=first.weights @ second.weights,
        bias=first.bias @ second.weights + second.bias,
        normalise=second.normalise,
        method=second.method if first.method == "identity" else first.method,
        via="composed",
    )


def chain(*maps: CompatMap) -> CompatMap:
    """All of them in order, newest source first. Raises as `compose`."""
    return reduce(compose, maps)


def concerns(first: CompatMap, second: CompatMap) -> tuple[str, ...]:
    """What is lost by the product, in words; empty where nothing is."""
    found = []
    (d_n, d_k), d_m = first.dims, second.dims[1]
    if d_k < min(d_n, d_m):
        found.append(
            f"{first.node}: r{first.target} has {d_k} dimensions, fewer than the releases before and after it: "
            f"what reaches r{second.target} through it has rank {d_k} of {d_m}"
        )
    if first.normalise and (not second.normalise or bool(np.any(second.bias))):
        found.append(
            f"{first.node}: vectors of r{first.target} have length 1, which a product cannot restore on the way to "
            f"r{second.target}"
        )
    return tuple(found)
