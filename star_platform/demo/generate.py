"""Writes a job marketplace of any size in seconds, the same for the same size and seed.

Six months of history that the branches of `signal_branches/` read, and `impressions.parquet`: what a downstream team
saw in the four weeks after, which no branch reads.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from star_platform.demo import vocabulary as words
from star_platform.demo.columns import (
    company_ids,
    headlines,
    job_ids,
    moments,
    skill_names,
    table,
    take,
    title_ids,
    title_names,
)
from star_platform.demo.world import (
    AS_OF,
    DAY,
    FIELD_OF,
    FUTURE_DAYS,
    HISTORY_DAYS,
    SPECIALITIES,
    START,
    TITLES_PER_FIELD,
    Floats,
    Ints,
    World,
    make_world,
)

VERSION = 1
"""Raised when the same size and seed give other data, so that data on disk is made anew."""
APPLIES_PER_MEMBER = 7
SAVES_PER_MEMBER = 12
DISMISSES_PER_MEMBER = 6
READERS = 0.4
"""Applying is left to few; reading is more even: many of those who save and dismiss hardly ever apply."""
INMAILS_PER_MEMBER = 5
IMPRESSIONS_PER_MEMBER = 10
CANDIDATES = 48
"""Open jobs that a member looks at before applying to the one that appeals most."""
CHUNK = 50_000


@dataclass(frozen=True)
class Size:
    """How large a marketplace, and which of its kind."""

    members: int = 2_000
    seed: int = 7


def ensure(folder: Path, size: Size) -> bool:
    """Generate into `folder` unless the same marketplace is there already; True when it was made now."""
    stamp = folder / "marketplace.json"
    wanted = json.dumps({"version": VERSION, **asdict(size)}, sort_keys=True)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    generate(folder, size)
    stamp.write_text(wanted, encoding="utf-8")
    return True


def generate(folder: Path, size: Size) -> World:
    """Write all tables into `folder`, which must not hold others; the world that they came from."""
    folder.mkdir(parents=True, exist_ok=True)
    world = make_world(size.members, size.seed)
    tables = {
        "members": _members(world),
        "profiles": _profiles(world),
        "settings": _settings(world),
        "companies": _companies(world),
        "jobs": _jobs(world),
        "titles": _titles(),
        "applies": _applies(world),
        "reactions": _reactions(world),
        "recruiters": _recruiters(world),
        "inmails": _inmails(world),
        "impressions": impressions(world),
    }
    for name, rows in tables.items():
        pyarrow.parquet.write_table(rows, folder / f"{name}.parquet", compression="zstd")
    pyarrow.csv.write_csv(_member_skills(world), folder / "member_skills.csv")
    pyarrow.csv.write_csv(_job_skills(world), folder / "job_skills.csv")
    return world


# --- who is there -----------------------------------------------------------------------------------------------------


def _members(world: World) -> pa.Table:
    people = world.members
    email = [f"member{number}@mail.example" for number in people.ids.tolist()]
    return table(
        {
            "member_id": people.ids,
            "joined_at": moments(people.joined),
            "region": take(words.REGIONS, people.region),
            "seniority": take(words.SENIORITIES, people.seniority),
            "company_id": company_ids(people.company),
            "tenure": take(("newcomer", "established"), (people.joined < START).astype(np.int64)),
            "email": email,
        }
    )


def _profiles(world: World) -> pa.Table:
    """Every member's headline when joining, and a new one after a change of interest from half of those who had one."""
    people, rng = world.members, world.rng
    first = headlines(world, people.speciality, people.title, people.seniority, 0.3)
    changed = np.flatnonzero((people.speciality != people.later) & (rng.random(len(people.ids)) < 0.5))
    newer = headlines(world, people.later[changed], people.title[changed], people.seniority[changed], 0.3)
    return table(
        {
            "member_id": np.concatenate([people.ids, people.ids[changed]]),
            "headline": pa.concat_arrays([first, newer]),
            "title_id": pa.concat_arrays([title_ids(people.title), title_ids(people.title[changed])]),
            "updated_at": moments(np.concatenate([people.joined, people.drift_at[changed] + 7 * DAY])),
        }
    )


def _settings(world: World) -> pa.Table:
    return table({"member_id": world.members.ids, "allow_modelling": ~world.members.opted_out})


def _companies(world: World) -> pa.Table:
    firms, rng = world.companies, world.rng
    count = len(firms.size)
    first = take(words.COMPANY_FIRST, rng.integers(0, len(words.COMPANY_FIRST), count)).to_pylist()
    last = take(words.COMPANY_LAST, rng.integers(0, len(words.COMPANY_LAST), count)).to_pylist()
    return table(
        {
            "company_id": company_ids(np.arange(count)),
            "name": [f"{a} {b}" for a, b in zip(first, last, strict=True)],
            "industry": take([field.name for field in words.FIELDS], FIELD_OF[firms.first]),
            "employees": firms.size,
            "founded": 2024 - (rng.gamma(2.0, 15.0, count)).astype(np.int64),
        }
    )


def _jobs(world: World) -> pa.Table:
    offers, rng = world.jobs, world.rng
    count = len(offers.posted)
    salary = 32_000 * 1.3**offers.seniority * np.exp(rng.normal(0.0, 0.15, count))
    known = rng.random(count) < 0.7
    return table(
        {
            "job_id": job_ids(np.arange(count)),
            "posted_at": moments(offers.posted),
            "title_id": title_ids(offers.title),
            "company_id": company_ids(offers.company),
            "region": take(words.REGIONS, offers.region),
            "seniority": take(words.SENIORITIES, offers.seniority),
            "salary": pa.array(np.round(salary, -2), mask=~known),
            "title": take(title_names(), offers.title),
            "description": headlines(world, offers.speciality, offers.title, offers.seniority, 0.3),
        }
    ).filter(pa.array(offers.posted < AS_OF))


def _titles() -> pa.Table:
    names = title_names()
    fields = np.repeat([field.name for field in words.FIELDS], TITLES_PER_FIELD)
    return table({"title_id": title_ids(np.arange(len(names))), "name": names, "field": fields})


def _recruiters(world: World) -> pa.Table:
    count = len(world.recruiter_company)
    return table({"recruiter_id": np.arange(count) + 900_000, "company_id": company_ids(world.recruiter_company)})


# --- what they can do -------------------------------------------------------------------------------------------------


def _member_skills(world: World) -> pa.Table:
    owners, skills = _skills(world, world.members.speciality, 3, 8)
    endorsements = world.rng.geometric(0.25, len(owners))
    rows = table(
        {"member_id": world.members.ids[owners], "skill": take(skill_names(), skills), "endorsements": endorsements}
    )
    return (
        rows.group_by(["member_id", "skill"], use_threads=False)
        .aggregate([("endorsements", "max")])
        .rename_columns(["member_id", "skill", "endorsements"])
    )


def _job_skills(world: World) -> pa.Table:
    owners, skills = _skills(world, world.jobs.speciality, 2, 6)
    listed = world.jobs.posted[owners] < AS_OF
    rows = table({"job_id": job_ids(owners[listed]), "skill": take(skill_names(), skills[listed])})
    return rows.group_by(["job_id", "skill"], use_threads=False).aggregate([])


def _skills(world: World, speciality: Ints, least: int, most: int) -> tuple[Ints, Ints]:
    """Owner and skill of each mention: 60 % tell the speciality, 20 % the field, the others nothing."""
    rng = world.rng
    owners = np.repeat(np.arange(len(speciality)), rng.integers(least, most + 1, len(speciality)))
    kind = rng.random(len(owners))
    special = 5 * speciality[owners] + rng.integers(0, 5, len(owners))
    of_field = 5 * SPECIALITIES + 3 * FIELD_OF[speciality[owners]] + rng.integers(0, 3, len(owners))
    general = 5 * SPECIALITIES + 3 * len(words.FIELDS) + rng.integers(0, len(words.GENERAL_SKILLS), len(owners))
    return owners, np.select([kind < 0.6, kind < 0.8], [special, of_field], general)


# --- what they did ----------------------------------------------------------------------------------------------------


def _applies(world: World) -> pa.Table:
    """Each application goes to the most appealing of some open jobs. A few people have left: nobody knows their ids."""
    count = APPLIES_PER_MEMBER * len(world.members.ids)
    members, times = _visits(world, count, START, AS_OF, 1.0)
    jobs = _choose(world, members, times)
    gone = world.rng.random(len(members)) < 0.003
    member_ids = np.where(gone, 7 + world.rng.integers(0, 50, len(members)), world.members.ids[members])
    return table({"member_id": member_ids, "job_id": job_ids(jobs), "applied_at": moments(times)})


def _reactions(world: World) -> pa.Table:
    """Saves follow the same appeal as applications; dismissed is what looks right and is not: field, not speciality."""
    people = len(world.members.ids)
    members, times = _visits(world, SAVES_PER_MEMBER * people, START, AS_OF, READERS)
    saved = _choose(world, members, times)
    watchers, watched = _visits(world, DISMISSES_PER_MEMBER * people, START, AS_OF, READERS)
    wanted = world.members.wants(watchers, watched)

    def near_miss(rows: slice, jobs: Ints) -> Floats:
        offered, sought = world.jobs.speciality[jobs], wanted[rows, None]
        same_field = FIELD_OF[offered] == FIELD_OF[sought]
        return np.asarray(3.0 * same_field - 6.0 * (offered == sought) + world.jobs.appeal[jobs])

    dismissed = _pick(world, watched, near_miss)
    kind = np.repeat([0, 1], [len(saved), len(dismissed)])
    return table(
        {
            "member_id": world.members.ids[np.concatenate([members, watchers])],
            "job_id": job_ids(np.concatenate([saved, dismissed])),
            "reaction": take(("save", "dismiss"), kind),
            "visits": world.rng.geometric(0.5, len(kind)),
            "reacted_at": moments(np.concatenate([times, watched])),
        }
    )


def _inmails(world: World) -> pa.Table:
    """Recruiters write to members of their speciality, newcomers included; those who want it answer."""
    rng, people = world.rng, world.members
    count = INMAILS_PER_MEMBER * len(people.ids)
    recruiters = rng.integers(0, len(world.recruiter_company), count)
    times = START + (rng.random(count) * HISTORY_DAYS * DAY).astype(np.int64)
    looked_at = rng.integers(0, len(people.ids), (count, CANDIDATES))
    fit = world.recruiter_speciality[recruiters][:, None] == people.wants(looked_at, times[:, None])
    liking = 4.0 * fit + rng.gumbel(size=looked_at.shape) - 50.0 * (people.joined[looked_at] >= times[:, None])
    members = looked_at[np.arange(count), liking.argmax(axis=1)]
    matches = world.recruiter_speciality[recruiters] == people.wants(members, times)
    accepted = rng.random(count) < np.where(matches, 0.62, 0.08)
    known = people.joined[members] < times
    rows = table(
        {
            "recruiter_id": recruiters + 900_000,
            "member_id": people.ids[members],
            "sent_at": moments(times),
            "accepted": accepted,
            "replies": np.where(accepted, rng.geometric(0.5, count), 0),
        }
    )
    return rows.filter(pa.array(known))


def impressions(world: World, begin: int = AS_OF) -> pa.Table:
    """What a downstream team logged in four weeks from `begin` on: a job shown to a member, and whether it applied."""
    rng = world.rng
    count = IMPRESSIONS_PER_MEMBER * len(world.members.ids)
    members, times = _visits(world, count, begin, begin + FUTURE_DAYS * DAY, READERS)
    field = FIELD_OF[world.members.speciality[members]]

    def shown(rows: slice, jobs: Ints) -> Floats:
        """A simple recommender: the field of the profile, and what is popular."""
        same_field = FIELD_OF[world.jobs.speciality[jobs]] == field[rows, None]
        return np.asarray(1.5 * same_field + 0.5 * world.jobs.appeal[jobs])

    jobs = _pick(world, times, shown)
    applied = rng.random(len(jobs)) < 1.0 / (1.0 + np.exp(4.0 - world.appeal(members, jobs, times)))
    keep = ~world.members.opted_out[members]
    return table(
        {
            "member_id": world.members.ids[members],
            "job_id": job_ids(jobs),
            "shown_at": moments(times),
            "days_open": (times - world.jobs.posted[jobs]) / DAY,
            "same_region": world.members.region[members] == world.jobs.region[jobs],
            "same_title": world.members.title[members] == world.jobs.title[jobs],
            "seniority_gap": np.abs(world.members.seniority[members] - world.jobs.seniority[jobs]),
            "applied": applied,
        }
    ).filter(pa.array(keep))


def _visits(world: World, count: int, begin: int, end: int, skew: float) -> tuple[Ints, Ints]:
    """Member and time of each visit: some come far more often, newcomers only after they joined."""
    rng, people = world.rng, world.members
    activity = people.activity**skew
    members = rng.choice(len(people.ids), count, p=activity / activity.sum())
    times = np.sort(begin + (rng.random(count) * (end - begin)).astype(np.int64))
    here = people.joined[members] < times
    return members[here], times[here]


def _choose(world: World, members: Ints, times: Ints) -> Ints:
    """The most appealing of some open jobs, for each visit."""
    return _pick(world, times, lambda rows, jobs: world.appeal(members[rows, None], jobs, times[rows, None]))


def _pick(world: World, times: Ints, liking: Callable[[slice, Ints], Floats]) -> Ints:
    """One open job per visit, drawn by softmax over `liking(rows, jobs [k, CANDIDATES])` (the Gumbel trick)."""
    rng = world.rng
    chosen = np.empty(len(times), dtype=np.int64)
    for begin in range(0, len(times), CHUNK):
        rows = slice(begin, min(begin + CHUNK, len(times)))
        low, high = world.jobs.open_at(times[rows])
        draws = rng.random((rows.stop - begin, CANDIDATES))
        jobs = low[:, None] + (draws * (high - low)[:, None]).astype(np.int64)
        best = (liking(rows, jobs) + rng.gumbel(size=jobs.shape)).argmax(axis=1)
        chosen[rows] = jobs[np.arange(len(best)), best]
    return chosen
