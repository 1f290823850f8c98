"""Any sequence of verbs, reads and declarations: legal steps happen, all others raise and leave no trace."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from star_platform.errors import BlockedByConsumers, LifecycleError, RegistryError, StarError
from star_platform.registry.history import routes
from star_platform.registry.registry import Registry
from star_platform.registry.states import TRANSITIONS, ReleaseState
from tests.registry.conftest import HandClock

from .world import Killed, World

S = ReleaseState
NUMBERS = st.sampled_from([1, 1, 2, 2, 3, 4, 5])
DECLARED = st.sampled_from([None, "mapped", "exact"])
VERDICTS = st.sampled_from([None, "pass", "unproven", "fail", "inconclusive"])
KILLS = st.sampled_from([None, "reconcile", "materialise", "purge-2"])


@cache
def _empty_registry() -> Path:
    """Migrated once: each example starts from a copy."""
    folder = Path(tempfile.mkdtemp(prefix="star-life-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    registry = Registry(f"sqlite:///{folder}/registry.db")
    registry.upgrade()
    return folder / "registry.db"


class Life(RuleBasedStateMachine):
    """What must hold is computed from the inputs alone, without the code under test."""

    @initialize(needs=st.tuples(*[DECLARED] * 5), verdicts=st.tuples(*[VERDICTS] * 5))
    def begin(self, needs: tuple[str | None, ...], verdicts: tuple[str | None, ...]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="star-life-"))
        clock = HandClock()
        shutil.copyfile(_empty_registry(), self.folder / "registry.db")
        registry = Registry(f"sqlite:///{self.folder}/registry.db", clock)
        self.world = World(registry, clock, self.folder)
        self.need: dict[int, str | None] = {}
        self.seen: set[int] = set()
        self.verdict: dict[int, str | None] = {}
        self.history = 0
        for _ in range(3):
            self.world.release()
        for number, need, verdict in zip(range(1, 6), needs, verdicts, strict=True):
            self.declare(number, need)
            self.judge(number, verdict)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # --- the world ----------------------------------------------------------------------------------------------------

    @rule(number=NUMBERS, need=DECLARED)
    def declare(self, number: int, need: str | None) -> None:
        self.need[number] = need
        self.world.files = [item for item in self.world.files if item.name != f"c{number}"]
        if need is not None:
            self.world.declare(f"c{number}", f"r{number}", need=need)

    @rule(number=NUMBERS)
    def observe(self, number: int) -> None:
        if number in self.world.nodes:
            self.seen.add(number)
            self.world.read(None, number)

    @rule()
    def quiet(self) -> None:
        self.seen = set()
        self.world.clock.pass_by(days=14)

    @rule(number=NUMBERS, verdict=VERDICTS)
    def judge(self, number: int, verdict: str | None) -> None:
        self.verdict[number] = verdict
        self.world.judged.pop(("member", number), None)
        if verdict is not None:
            self.world.map(number, verdict)  # type: ignore[arg-type]

    @rule(activate=st.booleans())
    def release(self, activate: bool) -> None:
        if len(self.world.nodes) < 5:
            self.world.release(activate=activate)

    # --- the verbs ----------------------------------------------------------------------------------------------------

    @rule(number=NUMBERS)
    def activate(self, number: int) -> None:
        active = self.world.registry.active()
        assert active is not None
        before = self.state(number)
        try:
            self.world.life.check_activation(number)
            self.world.registry.activate(number, "ada", "", active.number)
        except LifecycleError as error:
            assert (error.code, before in (S.RETIRED, S.PURGED)) == ("L011", True)  # noqa: PT017 - both outcomes are right
        except RegistryError as error:
            assert error.code == ("R010" if before is None else "R009")  # noqa: PT017
        else:
            assert before in (S.ACTIVE, S.CANDIDATE, S.DEPRECATED, S.DRAINING)

    @rule(number=NUMBERS)
    def deprecate(self, number: int) -> None:
        before = self.state(number)
        code = self.attempt(lambda: self.world.life.deprecate(number, actor="ada"))
        expected = "R010" if before is None else None if before in (S.CANDIDATE, S.DEPRECATED, S.DRAINING) else "L001"
        if code == "L002":  # what was said to follow it has been deprecated itself since
            return
        assert code == expected

    @rule(number=NUMBERS, force=st.booleans(), kill=KILLS)
    def retire(self, number: int, force: bool, kill: str | None) -> None:
        before, blocked = self.state(number), self.blocked(number)
        self.world.feast.die_at = kill
        reason = "it must go" if force else None
        code = self.attempt(lambda: self.world.life.retire(number, actor="ada", materialise=True, force_reason=reason))
        self.world.feast.die_at = None
        if before is None:
            assert code == "R010"
        elif before is S.RETIRED:
            assert code is None
        elif before not in (S.DEPRECATED, S.DRAINING):
            assert code == "L005"
        elif code != "L007":
            assert code == ("L004" if blocked and not force else None)
        if code is None:
            assert self.state(number) is S.RETIRED

    @rule(number=NUMBERS, kill=KILLS)
    def purge(self, number: int, kill: str | None) -> None:
        before = self.state(number)
        self.world.feast.die_at = kill
        code = self.attempt(lambda: self.world.life.purge(number, actor="ada", force_reason="space"))
        self.world.feast.die_at = None
        if before is None:
            assert code == "R010"
        elif before not in (S.RETIRED, S.PURGED):
            assert code == "L009"
        else:
            assert code is None, "retirement leaves nothing that goes through it"
            assert self.world.feast.shards[number] == 0

    @rule(number=NUMBERS, kill=KILLS, successor=st.booleans())
    def a_whole_end(self, number: int, kill: str | None, successor: bool) -> None:
        """What chance alone would seldom put together: routes that move, and purges that are killed."""
        if successor:
            self.release(True)
        self.judge(number, "pass")
        self.deprecate(number)
        self.retire(number, True, kill)
        if not successor:
            self.purge(number, kill)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def attempt(self, step: object) -> str | None:
        """The code of the error, None for success; a killed step is called again, and a refused one leaves no trace."""
        events, states = self.world.registry.events(), self.world.states()
        for _ in range(3):
            try:
                step()  # type: ignore[operator]
            except Killed:
                continue
            except StarError as error:
                if isinstance(error, BlockedByConsumers):
                    assert error.details["readers"]  # noqa: PT017
                assert (self.world.registry.events(), self.world.states()) == (events, states)
                return error.code
            return None
        raise AssertionError("killed more than once")

    def state(self, number: int) -> ReleaseState | None:
        return self.world.registry.release(number).state if number in self.world.nodes else None

    def blocked(self, number: int) -> bool:
        served = self.verdict.get(number) in ("pass", "unproven")
        need = self.need.get(number)
        return number in self.seen or need == "exact" or (need == "mapped" and not served)

    @invariant()
    def history_is_whole(self) -> None:
        if not hasattr(self, "world"):
            return
        events = self.world.registry.events()
        assert len(events) >= self.history, "append-only"
        self.history = len(events)
        at: dict[int | None, ReleaseState] = {}
        for event in events:
            if event.kind == "release-started":
                at[event.release] = S.BUILDING
            if event.kind == "state":
                before, after = S(event.details["from"]), S(event.details["to"])
                assert at[event.release] is before
                assert after in TRANSITIONS[before]
                at[event.release] = after
        assert at == {release.number: release.state for release in self.world.registry.releases()}
        assert list(at.values()).count(S.ACTIVE) == 1
        for route in routes(events):
            if at[route.target] in (S.RETIRED, S.PURGED):
                assert at[route.source] not in (S.RETIRED, S.PURGED), "a route leads to vectors that are there"


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
