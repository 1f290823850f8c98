"""The life of a release (DESIGN 4.7): which states follow which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from star_platform.errors import RegistryError


class ReleaseState(StrEnum):
    """Where a release is in its life."""

    BUILDING = "building"
    CANDIDATE = "candidate"
    ACTIVE = "active"
    DEPRECATED = "deprecated"
    DRAINING = "draining"
    RETIRED = "retired"
    PURGED = "purged"
    FAILED = "failed"


S = ReleaseState
TRANSITIONS: Mapping[ReleaseState, frozenset[ReleaseState]] = {
    S.BUILDING: frozenset({S.CANDIDATE, S.FAILED}),
    # Deprecated without having been active again: one that was rolled back, or never activated, must be able to go.
    S.CANDIDATE: frozenset({S.ACTIVE, S.FAILED, S.DEPRECATED}),
    # Back to candidate is a rollback: the release stays readable by its pin, and may be activated again.
    S.ACTIVE: frozenset({S.DEPRECATED, S.CANDIDATE}),
    # Back to active is a rollback as well, possible as long as the vectors are still served as they are.
    S.DEPRECATED: frozenset({S.DRAINING, S.ACTIVE}),
    S.DRAINING: frozenset({S.RETIRED, S.ACTIVE}),
    S.RETIRED: frozenset({S.PURGED}),
    S.PURGED: frozenset(),
    # Back to building is `release --resume` after the cause was removed.
    S.FAILED: frozenset({S.BUILDING, S.PURGED}),
}
"""Every legal step. Steps to and from `active` happen only inside `Registry.activate`.

DESIGN 4.7 draws the way of a release that is followed by the next one. A candidate may be deprecated as well: one that
a rollback left behind is readable by its pin and takes space, and without this step it could never be retired.
"""

BY_ACTIVATION: frozenset[tuple[ReleaseState, ReleaseState]] = frozenset(
    (before, after) for before, follow in TRANSITIONS.items() for after in follow if S.ACTIVE in (before, after)
)
"""Steps that move the alias too, so that only `Registry.activate` may take them."""


def check_transition(number: int, before: ReleaseState, after: ReleaseState) -> None:
    """Raises RegistryError R009 when `after` may not follow `before`."""
    if after not in TRANSITIONS[before]:
        following = ", ".join(sorted(TRANSITIONS[before])) or "nothing"
        raise RegistryError(
            "R009",
            f"release r{number} is {before} and cannot become {after}",
            hint=f"{before} can be followed by: {following}",
        )
