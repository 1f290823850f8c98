"""Numbers of the hidden world to the columns of its tables: names, ids, texts, moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from star_platform.demo import vocabulary as words
from star_platform.demo.world import FIELD_OF, Ints, World


def headlines(world: World, speciality: Ints, title: Ints, seniority: Ints, telling: float) -> pa.Array[Any]:
    """`Senior: Analyst, why users leave`. The phrase is the speciality's with chance `telling`, else the field's."""
    rng = world.rng
    field = FIELD_OF[speciality]
    phrases = [phrase for f in words.FIELDS for phrase in f.phrases] + [
        special.phrase for f in words.FIELDS for special in f.specialities
    ]
    per_field = len(words.FIELDS[0].phrases)
    plain = field * per_field + rng.integers(0, per_field, len(field))
    phrase = np.where(rng.random(len(field)) < telling, per_field * len(words.FIELDS) + speciality, plain)
    names = title_names()
    texts = np.array(
        [f"{level} level: {name}, {said}" for level in words.SENIORITIES for name in names for said in phrases]
    )
    return _array(texts[(seniority * len(names) + title) * len(phrases) + phrase])


def table(columns: Mapping[str, Any]) -> pa.Table:
    """A table from columns of numpy or Arrow."""
    return pa.table(dict(columns))


def title_names() -> list[str]:
    """Title number to name."""
    return [title for field in words.FIELDS for title in field.titles]


def skill_names() -> list[str]:
    """Skill number to name: those of specialities, of fields, and of everybody."""
    special = [skill for field in words.FIELDS for one in field.specialities for skill in one.skills]
    return [*special, *(skill for field in words.FIELDS for skill in field.skills), *words.GENERAL_SKILLS]


def take(names: Sequence[str], codes: Ints) -> pa.Array[Any]:
    """A text column from codes."""
    return _array(np.array(names)[codes])


def _numbered(prefix: str, numbers: Ints, digits: int) -> pa.Array[Any]:
    return _array(np.char.add(prefix, np.char.zfill(numbers.astype(f"U{digits + 2}"), digits)))


def job_ids(jobs: Ints) -> pa.Array[Any]:
    """`job-000042`."""
    return _numbered("job-", jobs, 6)


def company_ids(companies: Ints) -> pa.Array[Any]:
    """`c00042`."""
    return _numbered("c", companies, 5)


def title_ids(titles: Ints) -> pa.Array[Any]:
    """`title-042`."""
    return _numbered("title-", titles, 3)


def moments(times: Ints) -> pa.Array[Any]:
    """Microseconds since the epoch as a timestamp column in UTC."""
    return _array(times).cast(pa.timestamp("us", tz="UTC"))


def _array(values: Any) -> pa.Array[Any]:
    array: pa.Array[Any] = pa.array(values)
    return array
