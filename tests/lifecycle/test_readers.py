"""Who reads a release, and what retiring it would mean for each."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from star_platform.lifecycle.model import Judgement, Reader, ServingMap, Verdict
from star_platform.lifecycle.readers import Facts, who_uses
from star_platform.registry.history import Route
from star_platform.registry.states import ReleaseState
from star_platform.registry.values import Consumer, Usage

TODAY = date(2026, 6, 30)


def consumer(name: str = "ranker", release: str = "r1", *nodes: str, need: str = "mapped") -> Consumer:
    return Consumer(name, f"{name}@x", nodes or ("member",), release, need=need)  # type: ignore[arg-type]


def read(name: str | None, release: int = 1, days_ago: int = 0, node: str = "member") -> Usage:
    return Usage(name, node, release, TODAY - timedelta(days=days_ago), 5, 50)


def facts(
    declared: tuple[Consumer, ...] = (),
    usage: tuple[Usage, ...] = (),
    verdict: Verdict | None = "pass",
    state: ReleaseState = ReleaseState.DEPRECATED,
    routes: dict[str, Route] | None = None,
    left_front: date | None = None,
    **judged: Verdict,
) -> Facts:
    own = {name: Judgement(v, ("why",)) for name, v in judged.items()}
    maps = (
        {} if verdict is None else {"member": ServingMap("member", 2, 1, "fp", Judgement(verdict, ("geometry",)), own)}
    )
    return Facts(
        release=1,
        state=state,
        active=2 if state is not ReleaseState.ACTIVE else 1,
        nodes=frozenset({"member"}),
        declared=declared,
        usage=usage,
        today=TODAY,
        quiet_days=14,
        maps=maps,
        routes=routes or {},
        left_front=left_front,
    )


def only(given: Facts) -> Reader:
    (reader,) = who_uses(given).readers
    return reader


@pytest.mark.parametrize(
    ("verdict", "standing"),
    [("pass", "served"), ("unproven", "served"), ("fail", "blocked"), ("inconclusive", "blocked"), (None, "blocked")],
)
def test_a_declared_reader_is_served_by_a_map_within_its_gate(verdict: Verdict | None, standing: str) -> None:
    reader = only(facts((consumer(),), verdict=verdict))
    assert reader.standing == standing
    assert reader.reasons


def test_its_own_verdict_wins_over_the_geometry() -> None:
    assert only(facts((consumer(),), verdict="pass", ranker="fail")).standing == "blocked"
    assert only(facts((consumer(),), verdict="fail", ranker="pass")).standing == "served"


@pytest.mark.parametrize("verdict", ["pass", "unproven", "fail", None])
def test_exact_always_blocks(verdict: Verdict | None) -> None:
    assert only(facts((consumer(need="exact"),), verdict=verdict)).standing == "blocked"


def test_a_node_type_without_a_map_blocks_whoever_reads_it() -> None:
    given = facts((consumer("ranker", "r1", "member", "job"),))
    assert only(given).standing == "served", "this release has no jobs"
    reader = only(Facts(**{**vars(given), "nodes": frozenset({"member", "job"})}))
    assert reader.standing == "blocked"
    assert reader.reasons == ("job: there is no map from r2 to r1",)


def test_nobody() -> None:
    found = who_uses(facts())
    assert (found.readers, found.blocking, found.disagreements, found.quiet_for) == ((), (), (), None)


@pytest.mark.parametrize(("days_ago", "standing"), [(0, "blocked"), (13, "blocked"), (14, "quiet"), (400, "quiet")])
@pytest.mark.parametrize("name", [None, "stranger"])
def test_who_declared_nothing_blocks_until_it_is_quiet(name: str | None, days_ago: int, standing: str) -> None:
    found = who_uses(facts(usage=(read(name, days_ago=days_ago),)))
    assert [reader.standing for reader in found.readers] == [standing]
    assert found.quiet_for == days_ago
    assert bool(found.disagreements) == (standing == "blocked")


def test_a_stranger_blocks_until_it_is_quiet_whatever_else_it_reads() -> None:
    """Nobody has said that it moved: it may read this release once a week and another one every day."""
    assert only(facts(usage=(read("stranger", days_ago=3), read("stranger", 2, 0)))).standing == "blocked"
    assert only(facts(usage=(read("stranger", days_ago=30), read("stranger", 2, 0)))).standing == "quiet"


def test_who_reads_both_day_after_day_has_not_moved() -> None:
    both = tuple(read("ranker", release, ago) for release in (1, 2) for ago in (0, 1, 2))
    found = only(facts((consumer("ranker", "r2"),), both))
    assert found.standing == "served"
    switched = (read("ranker", days_ago=0), read("ranker", 2, 0))
    assert only(facts((consumer("ranker", "r2"),), switched)).standing == "moved", "today is the day of its move"


def test_unknown_readers_never_move_because_they_are_many() -> None:
    assert only(facts(usage=(read(None, days_ago=3), read(None, 2, 0)))).standing == "blocked"


@pytest.mark.parametrize("target", ["r2", "latest"])
def test_who_declares_another_release_has_moved_once_it_reads_it(target: str) -> None:
    moved = (read("ranker", days_ago=1), read("ranker", 2, 1))
    assert only(facts((consumer("ranker", target),), moved)).standing == "moved"
    stays = (read("ranker", days_ago=0), read("ranker", 2, 1))
    reader = only(facts((consumer("ranker", target),), stays))
    assert reader.standing == "served", "it still reads this one, and counts as what it declares itself to be"
    assert only(facts((consumer("ranker", target),), stays, verdict="fail")).standing == "blocked"


def test_reads_through_latest_do_not_count_against_what_was_latest() -> None:
    follower, day = (consumer("ranker", "latest"),), TODAY - timedelta(days=3)
    assert only(facts(follower, (read("ranker", days_ago=3),), left_front=day)).standing == "moved"
    assert only(facts(follower, (read("ranker", days_ago=2),), left_front=day, verdict="fail")).standing == "blocked"


def test_who_follows_latest_is_no_reader_of_an_older_release() -> None:
    assert who_uses(facts((consumer("ranker", "latest"),))).readers == ()


def test_the_active_release_is_read_as_it_is() -> None:
    declared = (consumer("ranker", "latest"), consumer("mailer", "r1", need="exact"), consumer("old", "r9"))
    found = who_uses(facts(declared, (read(None),), state=ReleaseState.ACTIVE))
    assert [(reader.label, reader.standing) for reader in found.readers] == [
        ("mailer", "native"),
        ("ranker", "native"),
        ("(unknown)", "native"),
    ]
    assert found.blocking == ()


def test_readers_of_a_retired_release_get_what_its_routes_give() -> None:
    route = Route("member", 2, 1, "fp")
    answered = facts((consumer(),), verdict=None, state=ReleaseState.RETIRED, routes={"member": route})
    assert only(answered).standing == "served"
    assert only(facts((consumer(),), state=ReleaseState.RETIRED)).standing == "blocked", "a map in hand answers nobody"
    exact = (consumer(need="exact"),)
    assert only(facts(exact, state=ReleaseState.RETIRED, routes={"member": route})).standing == "blocked"
    stranger = facts(usage=(read("stranger"),), state=ReleaseState.RETIRED, routes={"member": route})
    assert only(stranger).standing == "served"


def test_disagreements_in_words() -> None:
    declared = (consumer("silent"), consumer("late"), consumer("elsewhere", "r2"), consumer("wide"))
    usage = (read("late", days_ago=30), read("elsewhere"), read("wide", node="job"), read("stranger"), read(None))
    assert who_uses(facts(declared, usage)).disagreements == (
        "elsewhere declares r2, but reads r1",
        f"late declares r1, but no read of r1 was counted since {TODAY - timedelta(days=30)}",
        "silent declares r1, but it never read r1",
        "stranger reads r1, but declares nothing",
        "wide reads job of r1, which its file does not name",
        "somebody reads r1 without saying who it is",
    )


def test_reads_of_several_days_and_node_types_are_added_up() -> None:
    usage = (read("ranker", days_ago=5), read("ranker", days_ago=1), read("ranker", days_ago=1, node="job"))
    seen = only(facts((consumer(),), usage)).observed
    assert seen is not None
    assert (seen.first, seen.last) == (TODAY - timedelta(days=5), TODAY - timedelta(days=1))
    assert (seen.reads, seen.vectors) == (15, 150)
