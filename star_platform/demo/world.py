"""The hidden truth of the generated marketplace: who wants what, drawn once; tables show only its shadows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from star_platform.demo import vocabulary as words

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY = 86_400_000_000
START = 1_735_689_600_000_000
"""2025-01-01 00:00 UTC, in microseconds since the epoch, as every time here."""
HISTORY_DAYS = 181
"""The platform sees 1 January to 30 June 2025 …"""
FUTURE_DAYS = 28
"""… and the downstream model is trained and tested on the four weeks after."""
AS_OF = START + HISTORY_DAYS * DAY
JOB_LIFE_DAYS = 60

FIELD_OF = np.repeat(np.arange(len(words.FIELDS)), [len(field.specialities) for field in words.FIELDS])
"""Speciality number to field number."""
SPECIALITIES = len(FIELD_OF)
TITLES_PER_FIELD = 6


@dataclass(frozen=True)
class Members:
    """`speciality` is what a member wants at first, `later` after `drift_at`; nobody writes either down."""

    ids: Ints
    joined: Ints
    speciality: Ints
    later: Ints
    drift_at: Ints
    seniority: Ints
    region: Ints
    title: Ints
    company: Ints
    activity: Floats
    opted_out: npt.NDArray[np.bool_]

    def wants(self, members: Ints, times: Ints) -> Ints:
        """The speciality that each member wants at each time."""
        return np.where(times < self.drift_at[members], self.speciality[members], self.later[members])


@dataclass(frozen=True)
class Jobs:
    """Sorted by time of posting, so that the jobs open at a moment are a range."""

    posted: Ints
    speciality: Ints
    seniority: Ints
    region: Ints
    title: Ints
    company: Ints
    appeal: Floats

    def open_at(self, times: Ints) -> tuple[Ints, Ints]:
        """First and one past the last job that is open at each time (never an empty range)."""
        low = np.searchsorted(self.posted, times - JOB_LIFE_DAYS * DAY)
        return low, np.maximum(np.searchsorted(self.posted, times), low + 1)


@dataclass(frozen=True)
class Companies:
    """A company hires for two specialities, mostly the first."""

    first: Ints
    second: Ints
    size: Ints
    appeal: Floats


@dataclass(frozen=True)
class World:
    """Everything that is true, and the generator that goes on drawing from it."""

    members: Members
    jobs: Jobs
    companies: Companies
    recruiter_speciality: Ints
    recruiter_company: Ints
    rng: np.random.Generator

    @cached_property
    def field_trend(self) -> Floats:
        """How the appeal of a field moves over the months: start and end, float64 [fields, 2]."""
        return self.rng.normal(0.0, 0.5, (len(words.FIELDS), 2))

    def appeal(self, members: Ints, jobs: Ints, times: Ints) -> Floats:
        """How much each member likes each job at each time; shapes broadcast.

        Speciality matters most, and of the rest what any ranker sees: field, seniority, region, freshness.
        """
        people, offers = self.members, self.jobs
        wanted, offered = people.wants(members, times), offers.speciality[jobs]
        field = FIELD_OF[offered]
        month = np.clip((times - START) / (AS_OF - START), 0.0, 1.2)
        trend = self.field_trend[field, 0] * (1 - month) + self.field_trend[field, 1] * month
        return np.asarray(
            4.3 * (wanted == offered)
            + 1.1 * (FIELD_OF[wanted] == field)
            - 0.45 * np.abs(people.seniority[members] - offers.seniority[jobs])
            + 0.7 * (people.region[members] == offers.region[jobs])
            + 0.5 * (people.company[members] == offers.company[jobs])
            + offers.appeal[jobs]
            + self.companies.appeal[offers.company[jobs]]
            + trend
            - (times - offers.posted[jobs]) / (40.0 * DAY)
        )


def make_world(members: int, seed: int) -> World:
    """Draw a world of `members` members and 1.5 times as many jobs; equal arguments give equal worlds."""
    rng = np.random.default_rng(seed)
    companies = _companies(rng, max(30, members // 14))
    recruiters = max(20, members // 30)
    return World(
        members=_members(rng, members, companies),
        jobs=_jobs(rng, members * 3 // 2, companies),
        companies=companies,
        recruiter_speciality=rng.integers(0, SPECIALITIES, recruiters),
        recruiter_company=rng.integers(0, len(companies.size), recruiters),
        rng=rng,
    )


def _companies(rng: np.random.Generator, count: int) -> Companies:
    first = rng.integers(0, SPECIALITIES, count)
    return Companies(
        first=first,
        second=rng.integers(0, SPECIALITIES, count),
        size=np.exp(rng.normal(4.5, 1.4, count)).astype(np.int64) + 3,
        appeal=rng.normal(0.0, 0.4, count),
    )


def _members(rng: np.random.Generator, count: int, companies: Companies) -> Members:
    popularity = 1.0 / np.arange(1, SPECIALITIES + 1) ** 0.4
    speciality = rng.choice(SPECIALITIES, count, p=rng.permutation(popularity / popularity.sum()))
    drifts = rng.random(count) < 0.15
    elsewhere = rng.integers(0, SPECIALITIES, count)
    # Of those who drift, two thirds stay in their field: their texts do not tell.
    within = FIELD_OF[speciality] * 3 + rng.integers(0, 3, count)
    moved = np.where(rng.random(count) < 2 / 3, within, elsewhere)
    newcomer = rng.random(count) < 0.2
    joined = np.where(
        newcomer,
        START + (rng.random(count) * (HISTORY_DAYS - 2) * DAY).astype(np.int64),
        START - (rng.random(count) * 1500 * DAY).astype(np.int64),
    )
    return Members(
        ids=np.sort(rng.choice(count * 20, count, replace=False)) + 100_000,
        joined=joined,
        speciality=speciality,
        later=np.where(drifts, moved, speciality),
        drift_at=START + ((0.3 + 0.5 * rng.random(count)) * HISTORY_DAYS * DAY).astype(np.int64),
        seniority=rng.choice(4, count, p=(0.3, 0.35, 0.25, 0.1)),
        region=rng.integers(0, len(words.REGIONS), count),
        title=_titles(rng, speciality),
        company=_employers(rng, speciality, companies),
        activity=rng.gamma(0.9, 1.0, count) + 0.05,
        opted_out=rng.random(count) < 0.015,
    )


def _jobs(rng: np.random.Generator, count: int, companies: Companies) -> Jobs:
    span = HISTORY_DAYS + FUTURE_DAYS + JOB_LIFE_DAYS
    posted = np.sort(START + ((rng.random(count) * span - JOB_LIFE_DAYS) * DAY).astype(np.int64))
    company = rng.choice(
        len(companies.size), count, p=companies.size / companies.size.sum() * 0.5 + 0.5 / len(companies.size)
    )
    draw = rng.random(count)
    speciality = np.select(
        [draw < 0.6, draw < 0.85],
        [companies.first[company], companies.second[company]],
        rng.integers(0, SPECIALITIES, count),
    )
    return Jobs(
        posted=posted,
        speciality=speciality,
        seniority=rng.choice(4, count, p=(0.3, 0.35, 0.25, 0.1)),
        region=rng.integers(0, len(words.REGIONS), count),
        title=_titles(rng, speciality),
        company=company,
        appeal=rng.gumbel(0.0, 0.55, count),
    )


def _titles(rng: np.random.Generator, speciality: Ints) -> Ints:
    """A title of the right field; one in three is typical of the speciality, and one in twenty is of another field."""
    field = FIELD_OF[speciality]
    field = np.where(rng.random(len(field)) < 0.05, rng.integers(0, len(words.FIELDS), len(field)), field)
    typical = (speciality % 3) * 2 + rng.integers(0, 2, len(field))
    any_title = rng.integers(0, TITLES_PER_FIELD, len(field))
    return field * TITLES_PER_FIELD + np.where(rng.random(len(field)) < 0.33, typical, any_title)


def _employers(rng: np.random.Generator, speciality: Ints, companies: Companies) -> Ints:
    """Half of all members work where their speciality is hired for."""
    order = np.argsort(companies.first, kind="stable")
    starts = np.searchsorted(companies.first[order], np.arange(SPECIALITIES + 1))
    low, high = starts[speciality], starts[speciality + 1]
    inside = order[np.minimum(low + (rng.random(len(speciality)) * (high - low)).astype(np.int64), len(order) - 1)]
    anywhere = rng.integers(0, len(order), len(speciality))
    return np.where((rng.random(len(speciality)) < 0.5) & (high > low), inside, anywhere)
