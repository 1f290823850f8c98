"""Who reads a release: what consumers declare beside what was observed, and what retiring it means for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from star_platform.lifecycle.model import SERVABLE, Observed, Reader, ServingMap, Standing, Verdict, WhoUses
from star_platform.registry.history import Route
from star_platform.registry.registry import LATEST
from star_platform.registry.states import ReleaseState
from star_platform.registry.usage import Counted
from star_platform.registry.values import Consumer

MAPPED = frozenset({ReleaseState.RETIRED, ReleaseState.PURGED})
"""Reads of these releases are answered through a map, or not at all."""
_VERDICTS: Mapping[Verdict, str] = {
    "pass": "passes its gate",
    "fail": "fails its gate",
    "inconclusive": "has too few cases to be judged",
    "unproven": "passes on geometry alone",
}
_Outcome = tuple[Standing, tuple[str, ...]]


@dataclass(frozen=True)
class Facts:
    """All that the question takes, as values.

    nodes: node types that the release published. usage: counted reads of every release. maps: by node type, from the
    active release. routes: by node type, of a release that is retired already. left_front: the day on which the release
    stopped being `latest`; None if it never was, or still is.
    """

    release: int
    state: ReleaseState
    active: int | None
    nodes: frozenset[str]
    declared: Sequence[Consumer]
    usage: Sequence[Counted]
    today: date
    quiet_days: int
    maps: Mapping[str, ServingMap] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    left_front: date | None = None

    @property
    def name(self) -> str:
        return f"r{self.release}"

    def recent(self, day: date) -> bool:
        """Is a reader that was last seen on `day` still there?"""
        return (self.today - day).days < self.quiet_days

    def of(self, consumer: str | None) -> list[Counted]:
        """Reads of this release by one consumer; None: by all who did not say who they are."""
        return [item for item in self.usage if item.release == self.release and item.consumer == consumer]

    def elsewhere(self, consumer: str) -> tuple[date, date] | None:
        """The first and the last day on which a consumer read any other release."""
        days = [item.day for item in self.usage if item.release != self.release and item.consumer == consumer]
        return (min(days), max(days)) if days else None


def who_uses(facts: Facts, warnings: Sequence[str] = ()) -> WhoUses:
    """Everybody who reads the release now, or may, by name; unknown readers come last, as one."""
    declared = {item.name: item for item in facts.declared}
    pinned = {item.name for item in facts.declared if item.release == facts.name}
    if facts.state is ReleaseState.ACTIVE:
        pinned |= {item.name for item in facts.declared if item.release == LATEST}
    seen = {item.consumer for item in facts.usage if item.release == facts.release}
    named = sorted(pinned | {name for name in seen if name is not None})
    readers = [_reader(facts, name, declared.get(name)) for name in named]
    readers += [_reader(facts, None, None)] if None in seen else []
    last = max((item.day for item in facts.usage if item.release == facts.release), default=None)
    return WhoUses(
        release=facts.release,
        state=facts.state,
        active=facts.active,
        readers=tuple(readers),
        disagreements=tuple(line for reader in readers for line in _disagreements(facts, reader)),
        quiet_for=(facts.today - last).days if last is not None else None,
        warnings=tuple(warnings),
    )


def _reader(facts: Facts, name: str | None, file: Consumer | None) -> Reader:
    counted = facts.of(name)
    nodes = {item.node for item in counted} | ({*file.nodes} & facts.nodes if file is not None else set())
    observed = _observed(counted)
    standing, reasons = _standing(facts, name, file, sorted(nodes), observed)
    return Reader(
        name=name,
        nodes=tuple(sorted(nodes)),
        standing=standing,
        reasons=reasons,
        owner=file.owner if file is not None else None,
        contact=file.contact if file is not None else None,
        declared=file.release if file is not None else None,
        need=file.need if file is not None else None,
        observed=observed,
    )


def _observed(counted: Sequence[Counted]) -> Observed | None:
    if not counted:
        return None
    days = [item.day for item in counted]
    return Observed(min(days), max(days), sum(item.reads for item in counted), sum(item.vectors for item in counted))


# --- what retirement means for one of them ----------------------------------------------------------------------------


def _standing(
    facts: Facts, name: str | None, file: Consumer | None, nodes: Sequence[str], observed: Observed | None
) -> _Outcome:
    if facts.state is ReleaseState.ACTIVE:
        return "native", ("reads the active release",)
    if file is not None and file.release == facts.name:
        return _answered(facts, file, nodes) if facts.state in MAPPED else _mapped(facts, file, nodes)
    if observed is None:  # cannot be: who neither declares nor reads the release is no reader
        return "quiet", ()
    if file is not None and (left := _left(facts, file, observed)):
        return "moved", (left,)
    if not facts.recent(observed.last):
        return "quiet", (f"last read it on {observed.last}",)
    if facts.state in MAPPED:
        return _answered(facts, file, nodes)
    if file is not None:
        return _mapped(facts, file, nodes)
    if name is None:
        return "blocked", (f"does not say who it is, and read it on {observed.last}",)
    return "blocked", (f"has no consumer file that says what it needs, and read it on {observed.last}",)


def _left(facts: Facts, file: Consumer, observed: Observed) -> str | None:
    """Why a consumer that declares another release is no reader of this one any more, if that is so.

    Days are all there is to compare. On the day of its move it has read both; who read both before has not left yet.
    """
    other = facts.elsewhere(file.name)
    if other is not None and (other[1] > observed.last or other[0] == observed.last):
        return f"declares {file.release}, and read another release on {other[1]}"
    if file.release == LATEST and facts.left_front is not None and observed.last <= facts.left_front:
        return f"declares latest, which was {facts.name} until {facts.left_front}"
    return None


def _mapped(facts: Facts, file: Consumer, nodes: Sequence[str]) -> _Outcome:
    """May the maps from the active release answer what this consumer reads?"""
    if file.need == "exact":
        return "blocked", (f"needs exactly the vectors of {facts.name} (compat: exact)",)
    good: list[str] = []
    bad: list[str] = []
    for node in nodes:
        found = facts.maps.get(node)
        if found is None:
            source = f"r{facts.active}" if facts.active is not None else "a later release"
            bad.append(f"{node}: there is no map from {source} to {facts.name}")
            continue
        judged = found.judgement(file.name)
        words = "; ".join(judged.reasons)
        line = f"{node}: the map from r{found.source} {_VERDICTS[judged.verdict]}" + (f" ({words})" if words else "")
        (good if judged.verdict in SERVABLE else bad).append(line)
    return ("blocked", tuple(bad)) if bad else ("served", tuple(good))


def _answered(facts: Facts, file: Consumer | None, nodes: Sequence[str]) -> _Outcome:
    """What a reader of a retired release gets: the map in use, whatever it asked for before."""
    missing = [node for node in nodes if node not in facts.routes]
    if missing:
        return "blocked", tuple(f"{node}: no map answers for {facts.name}" for node in missing)
    if file is not None and file.need == "exact":
        return "blocked", (f"needs exactly the vectors of {facts.name}, and gets mapped ones",)
    return "served", tuple(f"{node}: answered through the map from r{facts.routes[node].source}" for node in nodes)


# --- where declaration and observation disagree -----------------------------------------------------------------------


def _disagreements(facts: Facts, reader: Reader) -> list[str]:
    seen = reader.observed
    recent = seen is not None and facts.recent(seen.last)
    lines = []
    meant = {facts.name, LATEST} if facts.state is ReleaseState.ACTIVE else {facts.name}
    if reader.declared in meant and not recent:
        never = f"no read of {facts.name} was counted since {seen.last}" if seen else f"it never read {facts.name}"
        lines.append(f"{reader.label} declares {reader.declared}, but {never}")
    if reader.name is None and recent:
        lines.append(f"somebody reads {facts.name} without saying who it is")
    elif reader.declared is None and recent:
        lines.append(f"{reader.label} reads {facts.name}, but declares nothing")
    if reader.declared is not None and reader.declared not in meant and recent:
        verb = "read" if reader.standing == "moved" else "reads"
        until = f" until {seen.last}" if seen is not None and reader.standing == "moved" else ""
        lines.append(f"{reader.label} declares {reader.declared}, but {verb} {facts.name}{until}")
    file = next((item for item in facts.declared if item.name == reader.name), None)
    extra = sorted({item.node for item in facts.of(reader.name)} - set(file.nodes)) if file is not None else []
    if extra:
        lines.append(f"{reader.label} reads {', '.join(extra)} of {facts.name}, which its file does not name")
    return lines
