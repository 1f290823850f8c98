"""Why a release cannot be activated again, and what can be done instead."""

from __future__ import annotations

from star_platform.errors import LifecycleError
from star_platform.lifecycle.readers import MAPPED
from star_platform.registry.history import routes, step_into
from star_platform.registry.registry import Registry
from star_platform.registry.states import ReleaseState

_S = ReleaseState
NATIVE = (_S.ACTIVE, _S.CANDIDATE, _S.DEPRECATED, _S.DRAINING)
"""States of a release whose own vectors are served."""


def check_activation(registry: Registry, number: int) -> None:
    """Raises LifecycleError L011 when a release has given its own vectors up; other states are the registry's to judge.

    To be asked before `Registry.activate`, which only knows that the step is illegal.
    """
    release = registry.release(number)
    if release.state not in MAPPED:
        return
    events = registry.events()
    step = step_into(events, number, release.state)
    when = f" on {step.at:%Y-%m-%d} by {step.actor}" if step is not None else ""
    why = f" ({step.reason})" if step is not None and step.reason else ""
    answered = sorted({route.source for route in routes(events) if route.target == number})
    now = f"it is answered through a map from r{answered[-1]}" if answered else "nothing answers for it"
    native = [f"r{other.number}" for other in registry.releases() if other.state in NATIVE]
    raise LifecycleError(
        "L011",
        f"r{number} cannot be activated: it was {release.state}{when}{why}; its own vectors are not served, and {now}",
        hint=f"activate one that still has its vectors ({', '.join(native)}), or check out the branches of r{number} "
        "and make a new release of them",
    )
