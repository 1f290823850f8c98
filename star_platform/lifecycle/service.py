"""The life of a release after it was the newest: one object with a method for each verb."""

from __future__ import annotations

from datetime import date

from star_platform.lifecycle.deprecate import deprecate
from star_platform.lifecycle.model import Services, WhoUses
from star_platform.lifecycle.purge import Purged, purge
from star_platform.lifecycle.retire import Retired, retire
from star_platform.lifecycle.rollback import check_activation
from star_platform.lifecycle.status import Status, all_notices, status
from star_platform.lifecycle.survey import Survey, survey
from star_platform.planning.impact import Notice
from star_platform.registry.history import Deprecation


class Lifecycle:
    """Every step takes the release lease, is validated, becomes events in our registry, and then Feast follows.

    A step that was killed is finished by calling it again: what the registry has is not done twice, and Feast is
    brought in line with the registry each time. Releases are given by number.
    """

    def __init__(self, services: Services) -> None:
        self.services = services

    def who_uses(self, number: int) -> WhoUses:
        """Who reads a release, declared and observed; raises RegistryError R010 when there is no such release."""
        self.services.registry.release(number)
        return survey(self.services, strict=False).who_uses(number)

    def deprecate(
        self,
        number: int,
        *,
        actor: str,
        reason: str = "",
        sunset: date | None = None,
        successor: int | None = None,
    ) -> Deprecation:
        """Give a release its last day and a successor; see `deprecate.deprecate`."""
        return deprecate(self.services, number, actor, reason, sunset, successor)

    def retire(
        self,
        number: int,
        *,
        actor: str,
        reason: str = "",
        materialise: bool = False,
        force_reason: str | None = None,
    ) -> Retired:
        """Let maps answer for a release; see `retire.retire`."""
        return retire(self.services, number, actor, reason, materialise=materialise, force_reason=force_reason)

    def purge(
        self,
        number: int,
        *,
        actor: str,
        reason: str = "",
        rate: int | None = None,
        dry_run: bool = False,
        force_reason: str | None = None,
    ) -> Purged:
        """Remove the vectors of a retired release; see `purge.purge`."""
        return purge(self.services, number, actor, reason, rate=rate, dry_run=dry_run, force_reason=force_reason)

    def status(self) -> Status:
        """Every release, its date, its readers, and the notices of today."""
        return status(self.services)

    def notices(self) -> tuple[Notice, ...]:
        """The notices of today, for a plan; asks neither the online store nor the gate."""
        return all_notices(Survey(self.services))

    def check_activation(self, number: int) -> None:
        """Raises LifecycleError L011 for a release that has given its own vectors up."""
        check_activation(self.services.registry, number)
