from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_platform.errors import BaseMoved, ExitCode, RegistryError
from star_platform.registry.registry import Registry, release_number
from star_platform.registry.states import TRANSITIONS, ReleaseState
from star_platform.registry.values import BranchRevision, Consumer

from .conftest import HandClock

S = ReleaseState


def candidate(registry: Registry, base: int | None = None) -> int:
    number = registry.start_release("plan", base, {"spec": {"nodes": ["member"]}}, "ada").number
    registry.set_state(number, S.CANDIDATE, "ada", "gate passed")
    return number


def test_a_release_from_start_to_active(registry: Registry, clock: HandClock) -> None:
    assert registry.releases() == ()
    assert registry.latest() is None
    assert registry.active() is None
    release = registry.start_release("7f3c", None, {"b": 1, "a": [None, "ä"]}, "ada")
    assert (release.name, release.state, release.base) == ("r1", S.BUILDING, None)
    assert release.created_at == clock.now()
    assert registry.release(1) == release
    assert registry.unfinished() == (release,)
    assert registry.latest() is None
    assert registry.set_state(1, S.CANDIDATE, "ada").state == S.CANDIDATE
    assert registry.unfinished() == ()
    assert registry.latest() == registry.release(1)
    event = registry.activate(1, "ada", "first", None)
    assert (event.release, event.previous_event, event.reason) == (1, 0, "first")
    active = registry.active()
    assert active is not None
    assert active.state == S.ACTIVE
    assert list(active.record) == ["b", "a"]
    assert active.record["a"] == [None, "ä"]


def test_activation_deprecates_the_one_before_and_goes_back(registry: Registry) -> None:
    first = candidate(registry)
    registry.activate(first, "ada", "", None)
    second = candidate(registry, base=first)
    registry.activate(second, "ada", "", first)
    assert [release.state for release in registry.releases()] == [S.DEPRECATED, S.ACTIVE]
    registry.activate(first, "bob", "r2 harms cold members", second)
    assert [release.state for release in registry.releases()] == [S.ACTIVE, S.CANDIDATE]
    registry.activate(second, "ada", "fixed", first)
    assert [release.state for release in registry.releases()] == [S.DEPRECATED, S.ACTIVE]
    chain = registry.alias_events()
    assert [event.release for event in chain] == [1, 2, 1, 2]
    assert [event.previous_event for event in chain] == [0, *(event.id for event in chain[:-1])]
    steps = [(e.release, e.details["from"], e.details["to"]) for e in registry.events() if e.kind == "state"]
    assert steps[-2:] == [(1, "active", "deprecated"), (2, "candidate", "active")]
    assert {event.release for event in registry.events(release=2)} == {2}


def test_activating_the_active_release_changes_nothing(registry: Registry) -> None:
    number = candidate(registry)
    first = registry.activate(number, "ada", "", None)
    events = registry.events()
    assert registry.activate(number, "ada", "again, after a crash", None) == first
    assert registry.events() == events


def test_activation_refuses_a_moved_alias_and_leaves_no_trace(registry: Registry) -> None:
    one, two = candidate(registry), candidate(registry)
    registry.activate(one, "ada", "", None)
    before = (registry.events(), registry.releases(), registry.alias_events())
    with pytest.raises(BaseMoved) as caught:
        registry.activate(two, "bob", "", None)
    assert caught.value.code == "R008"
    assert caught.value.exit_code == ExitCode.RETRY
    assert "r1 is active now" in caught.value.message
    assert (registry.events(), registry.releases(), registry.alias_events()) == before


def test_start_refuses_a_moved_base(registry: Registry) -> None:
    one = candidate(registry)
    registry.activate(one, "ada", "", None)
    with pytest.raises(BaseMoved):
        registry.start_release("p", None, {}, "bob")
    assert len(registry.releases()) == 1
    assert registry.start_release("p", 1, {}, "bob").number == 2


def test_numbers_are_never_given_again(registry: Registry) -> None:
    for expected in (1, 2, 3):
        number = registry.start_release("p", None, {}, "ada").number
        assert number == expected
        registry.set_state(number, S.FAILED, "ada", "out of memory")
    registry.set_state(3, S.PURGED, "ada")
    assert registry.start_release("p", None, {}, "ada").number == 4


def test_a_failed_release_can_go_on(registry: Registry) -> None:
    number = registry.start_release("p", None, {}, "ada").number
    registry.set_state(number, S.FAILED, "ada", "disk full")
    assert [release.number for release in registry.unfinished()] == [number]
    registry.set_state(number, S.BUILDING, "ada", "resumed")
    registry.set_state(number, S.CANDIDATE, "ada")
    assert [event.reason for event in registry.events(number)] == ["", "disk full", "resumed", ""]


@pytest.mark.parametrize("state", [S.BUILDING, S.FAILED])
def test_only_finished_releases_can_be_activated(registry: Registry, state: ReleaseState) -> None:
    number = registry.start_release("p", None, {}, "ada").number
    registry.set_state(number, state, "ada")
    with pytest.raises(RegistryError, match="R009"):
        registry.activate(number, "ada", "", None)
    assert registry.active() is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(list(S))), max_size=25))
def test_only_legal_steps_whatever_is_tried(registry: Registry, steps: list[tuple[int, ReleaseState]]) -> None:
    """Any sequence of attempts leaves at most one active release, the alias on it, and a history that explains it."""
    active = registry.active()
    base = active.number if active else None
    numbers = [registry.start_release("p", base, {}, "ada").number for _ in range(3)]
    expected = {release.number: release.state for release in registry.releases()}
    for index, after in steps:
        number = numbers[index]
        before = expected[number]
        current = next((n for n, state in expected.items() if state == S.ACTIVE), None)
        try:
            if after == S.ACTIVE:
                registry.activate(number, "ada", "", current)
            else:
                registry.set_state(number, after, "ada")
        except RegistryError as error:
            assert error.code == "R009"  # noqa: PT017 - both outcomes are right, each at its time
            assert after not in TRANSITIONS[before] or S.ACTIVE in (before, after)
            assert after != before
        else:
            assert after == before or after in TRANSITIONS[before]
            if after == S.ACTIVE and current not in (None, number):
                assert current is not None
                expected[current] = S.CANDIDATE if number < current else S.DEPRECATED
            expected[number] = after
        assert {release.number: release.state for release in registry.releases()} == expected
    told = registry.active()
    assert (told.number if told else None) == next((n for n, s in expected.items() if s == S.ACTIVE), None)
    for number in numbers:
        walked = [
            (event.details["from"], event.details["to"]) for event in registry.events(number) if event.kind == "state"
        ]
        assert [a for a, _ in walked] == [S.BUILDING, *(b for _, b in walked)][: len(walked)]
        assert all(S(b) in TRANSITIONS[S(a)] for a, b in walked)


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(S)
    assert all(state not in follow for state, follow in TRANSITIONS.items())


def _start(url: str, barrier: Barrier, count: int) -> None:
    registry = Registry(url)
    registry.active()
    barrier.wait(60)
    for _ in range(count):
        registry.start_release("p", None, {}, "ada")


def _activate(url: str, barrier: Barrier, number: int, results: multiprocessing.Queue[tuple[int, str]]) -> None:
    registry = Registry(url)
    registry.active()
    barrier.wait(60)
    try:
        registry.activate(number, f"actor-{number}", "", 1)
    except BaseMoved as error:
        results.put((number, error.code))
    else:
        results.put((number, "won"))


def test_concurrent_starts_get_their_own_numbers(url: str, registry: Registry) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [context.Process(target=_start, args=(url, barrier, 10)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert [release.number for release in registry.releases()] == list(range(1, 31))


def test_concurrent_activation_has_one_winner(url: str, registry: Registry) -> None:
    first = candidate(registry)
    registry.activate(first, "ada", "", None)
    rivals = [candidate(registry, base=first) for _ in range(3)]
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_activate, args=(url, barrier, number, results)) for number in rivals]
    for worker in workers:
        worker.start()
    outcome = dict(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert sorted(outcome.values()) == ["R008", "R008", "won"]
    winner = next(number for number, result in outcome.items() if result == "won")
    active = registry.active()
    assert active is not None
    assert active.number == winner
    assert [release.number for release in registry.releases() if release.state == S.ACTIVE] == [winner]
    assert len(registry.alias_events()) == 2


def test_branches_are_recorded_once_by_content(registry: Registry) -> None:
    a1 = BranchRevision("core", "a@x", "core.yaml", "ready", "h1")
    a2 = BranchRevision("core", "a@x", "core.yaml", "ready", "h2")
    b1 = BranchRevision("skills", "b@x", "skills.yaml", "draft", "h1")
    registry.record_branches([a1, b1])
    registry.record_branches([a1])
    assert registry.branches() == (a1, b1)
    one, two = candidate(registry), candidate(registry)
    registry.record_branches([a1], release=one)
    registry.record_branches([b1, a2], release=two)
    registry.record_branches([b1, a2], release=two)
    assert registry.branches() == (a1, b1, a2)
    assert registry.branches(one) == (a1,)
    assert registry.branches(two) == (a2, b1)
    with pytest.raises(RegistryError, match="R010"):
        registry.record_branches([a1], release=99)


def test_declared_consumers_are_replaced(registry: Registry) -> None:
    ranker = Consumer("ranker", "feed@x", ("job", "member"), "latest")
    mailer = Consumer("mailer", "growth@x", ("member",), "r1")
    registry.record_consumers([ranker, mailer])
    assert registry.consumers() == (mailer, ranker)
    registry.record_consumers([ranker])
    assert registry.consumers() == (ranker,)


def test_stages_and_artefacts(registry: Registry, clock: HandClock) -> None:
    number = candidate(registry)
    registry.mark_stage(number, "nodes/member", "running", "f1")
    clock.pass_by(seconds=2)
    registry.mark_stage(number, "nodes/member", "done", "f1", seconds=2.0)
    registry.mark_stage(number, "graph", "running", "f2")
    registry.mark_stage(number, "text/member.profile", "done", "f3", seconds=0.0, reused=True)
    assert registry.done_stages(number) == {"nodes/member": "f1", "text/member.profile": "f3"}
    nodes = next(record for record in registry.stages(number) if record.stage == "nodes/member")
    assert nodes.seconds == 2.0
    assert nodes.finished_at is not None
    assert (nodes.finished_at - nodes.started_at).total_seconds() == 2.0
    registry.attach(number, "nodes/member", "nodes", "f1", "c1", 5_000_000_000)
    registry.attach(number, "nodes/member", "nodes", "f1", "c1", 5_000_000_000)
    other = candidate(registry)
    registry.attach(other, "nodes/member", "nodes", "f1", "c1", 5_000_000_000)
    assert [(a.kind, a.content_hash, a.bytes) for a in registry.artefacts(other)] == [("nodes", "c1", 5_000_000_000)]
    registry.attach(other, "nodes/member", "nodes", "f1", "c2", 7)
    assert registry.artefacts(other)[0].content_hash == "c2"
    assert registry.artefacts(number)[0].content_hash == "c1"


def test_unknown_release(registry: Registry) -> None:
    for use in (
        lambda: registry.release(7),
        lambda: registry.set_state(7, "failed", "ada"),
        lambda: registry.activate(7, "ada", "", None),
        lambda: registry.mark_stage(7, "graph", "done"),
        lambda: registry.attach(7, "graph", "graph", "f", "c", 1),
    ):
        with pytest.raises(RegistryError, match="R010"):
            use()
    assert registry.stages(7) == ()


def test_release_names() -> None:
    assert release_number("r12") == 12
    for wrong in ("12", "r", "r0", "r01", "R1", "r1 ", "r-1", "r1.0", "r²", "latest", ""):
        with pytest.raises(RegistryError, match="R011"):
            release_number(wrong)


def test_notes_about_a_release(registry: Registry, clock: HandClock) -> None:
    number = candidate(registry)
    registry.note("published", number, "ada", {"rows": 12}, reason="counts verified")
    event = registry.events(number)[-1]
    assert (event.kind, event.actor, event.details, event.reason) == (
        "published",
        "ada",
        {"rows": 12},
        "counts verified",
    )
    assert event.at == clock.now()
    with pytest.raises(RegistryError, match="R010"):
        registry.note("published", 9, "ada", {})


def test_the_redis_fixture_serves(redis_url: str) -> None:
    import redis

    client = redis.Redis.from_url(redis_url)
    client.set("star", "1", ex=5)
    assert client.get("star") == b"1"
