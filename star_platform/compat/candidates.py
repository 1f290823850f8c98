"""The maps that may serve one older release, and the best of them by entities that none was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from star_platform.compat.compose import compose, concerns
from star_platform.compat.config import CompatConfig
from star_platform.compat.fit import Linear, low_rank, procrustes, relative_penalty, ridge
from star_platform.compat.geometry import Errors, Geometry, errors, mean_old, neighbours
from star_platform.compat.model import CompatMap, Method, SpaceVectors, Vectors
from star_platform.compat.moments import Moments, moments
from star_platform.compat.older import Older, Reference, unit_length
from star_platform.compat.pairs import Pairs, hold_out, pair

ENOUGH = 1.5
"""Entities held out of a small release, as a multiple of those that the gate needs."""
Weigh = Callable[[Pairs], Callable[[slice], NDArray[Any]] | None]


@dataclass(frozen=True, eq=False)
class Task:
    """One node type of the new release, and one older release that it shall serve."""

    node: str
    new: SpaceVectors
    older: Older
    reference: Reference

    @property
    def vectors(self) -> Vectors:
        """Of the new model, as of the older release where they were made."""
        then = self.older.then
        return self.new.nodes[self.node] if then is None else then.nodes[self.node]


@dataclass(frozen=True, eq=False)
class Split:
    """The entities of both releases: those that maps are fitted on, and those that judge."""

    fit: Pairs
    judge: Pairs
    gone: int
    """Entities of the old release that the new one does not have."""
    new: int
    """Entities of the new release that the old one does not have."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A candidate and its errors on held-out entities."""

    map: CompatMap
    errors: Errors

    @property
    def r2(self) -> float:
        found = self.errors.figures()["r2"]
        return -np.inf if found is None else float(found)

    def row(self) -> dict[str, Any]:
        """What the report says of it."""
        return {"method": self.map.method, "via": self.map.via, **self.errors.figures()}


@dataclass(frozen=True, eq=False)
class Chosen:
    """The map that is served, with everything that was measured of it."""

    map: CompatMap
    linear: CompatMap
    """The best linear one: what maps to still older releases are composed of."""
    geometry: Geometry
    split: Split
    candidates: tuple[dict[str, Any], ...]
    warnings: tuple[str, ...]


def split_pairs(task: Task, config: CompatConfig) -> Split:
    """Join the releases on id and hold out a share, more of it where few entities are common."""
    both = pair(task.vectors, task.reference.vectors, task.node)
    held = held_out(both.new.ids, both.rows, config)
    return Split(both.take(~held), both.take(held), len(both.old) - len(both), len(both.new) - len(both))


def held_out(ids: pa.Array[Any], rows: NDArray[np.int64], config: CompatConfig) -> NDArray[np.bool_]:
    """Which of the common entities `ids[rows]` judge maps, `[len(rows)]`; joint training leaves them out as well."""
    wanted = ENOUGH * config.gate.min_rows / max(1, len(rows))
    return hold_out(ids, rows, max(config.holdout, min(0.5, wanted)), config.seed)


def choose(
    task: Task,
    split: Split,
    before: Sequence[tuple[Older, CompatMap]],
    learned: NDArray[Any] | None,
    config: CompatConfig,
    weigh: Weigh,
) -> Chosen | None:
    """Fit, compose and compare; None when there is nothing to make a map of.

    Args:
        task: what shall be mapped.
        split: its entities.
        before: releases between the two with the linear map that the new release has to each, newest first.
        learned: `[d_n, d_m]` that joint training has brought, if any.
        config: how to fit.
        weigh: the weights of pairs; the inner function may be None, which counts each once.
    """
    if task.new.space == task.older.space:
        found: list[CompatMap] = [_identity(task)]
        warnings: list[str] = []
    else:
        found = _direct(task, split.fit, config, weigh)
        composed, warnings = _composed(task, before)
        found += composed
        if not found and task.reference.through is not None and len(split.fit):
            sums = moments(split.fit, weigh(split.fit))  # only a residual map leads there: nothing composes with it
            found.append(_map(task, *_linear(sums, config)))
        if learned is not None:
            found.append(_map(task, Linear(np.asarray(learned, np.float64), np.zeros(learned.shape[1])), "joint"))
    if not found:
        return None
    centre = mean_old(split.judge)
    judged = sorted(
        (Judged(each, errors(each, split.judge, centre)) for each in found), key=lambda each: each.r2, reverse=True
    )
    best = judged[0]
    geometry = Geometry(best.errors, neighbours(best.map, split.judge, config.seed))
    return Chosen(
        map=replace(best.map, fidelity=geometry.fidelity()),
        linear=next(each.map for each in judged if each.map.hidden is None),
        geometry=geometry,
        split=split,
        candidates=tuple(each.row() for each in judged),
        warnings=tuple(warnings),
    )


def _identity(task: Task) -> CompatMap:
    dim = task.vectors.dim
    return replace(_map(task, Linear(np.eye(dim), np.zeros(dim)), "identity"), normalise=False)


def _direct(task: Task, pairs: Pairs, config: CompatConfig, weigh: Weigh) -> list[CompatMap]:
    """Fitted on the old vectors themselves; none once they are gone, for composing says the same then."""
    if task.reference.through is not None or not len(pairs):
        return []
    sums = moments(pairs, weigh(pairs))
    linear, method = _linear(sums, config)
    found = [_map(task, linear, method)]
    if config.method == "residual":
        from star_platform.compat.residual import fit_residual

        hidden = fit_residual(pairs, linear, config)
        found.append(replace(found[0], method="residual", hidden=hidden))
    return found


def _linear(sums: Moments, config: CompatConfig) -> tuple[Linear, Method]:
    if config.method == "procrustes":
        return procrustes(sums, scale=config.scale), "procrustes"
    penalty = relative_penalty(sums, config.ridge, bias=config.bias)
    if config.method == "low-rank":
        rank = config.rank if config.rank is not None else max(1, min(sums.zy.shape) // 4)
        return low_rank(sums, rank, penalty, bias=config.bias), "low-rank"
    return ridge(sums, penalty, bias=config.bias), "ridge"


def _composed(task: Task, before: Sequence[tuple[Older, CompatMap]]) -> tuple[list[CompatMap], list[str]]:
    found: list[CompatMap] = []
    warnings: list[str] = []
    for between, first in before:
        for second in between.maps:
            if (second.node, second.target) == (task.node, task.older.release) and second.hidden is None:
                found.append(compose(first, second))
                warnings += concerns(first, second)
    return found, warnings


def _map(task: Task, linear: Linear, method: Method) -> CompatMap:
    return CompatMap(
        node=task.node,
        source=task.new.release,
        target=task.older.release,
        source_space=task.new.space,
        target_space=task.older.space,
        weights=linear.weights,
        bias=linear.bias,
        normalise=unit_length(task.reference.vectors),
        method=method,
    )
