"""From a message to a change: parsed, checked, rendered as a release renders it, normalised.

    {"feature": "member.profile", "entity": 17, "event_time": "2026-11-28T22:00:00Z",
     "fields": {"headline": "Data engineer", "summary": null}}

`fields` holds the columns that the feature declares (others are no part of the text and are passed over), or `text`
the text itself. `deleted: true` needs neither. `event_time` is RFC 3339 or milliseconds since the epoch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from star_platform.errors import TextError
from star_platform.text.nearline.config import ServeConfig
from star_platform.text.nearline.model import Change, EntityId, Message, Order, TextSignal
from star_platform.text.normalise import normalise

FIELD_NAMES = frozenset({"feature", "entity", "event_time", "fields", "text", "deleted"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_SEPARATOR = "\n"
_INT64 = range(-(2**63), 2**63)
_ID_LENGTH = 1024


def read_change(message: Message, signals: Mapping[str, TextSignal], config: ServeConfig) -> Change | None:
    """The change that a message tells of; None where the entity opted out, of whom nothing is kept.

    Raises:
        TextError: T041 to T046: it is a dead letter.
    """
    event = _parsed(message.payload, config.max_bytes)
    signal = _signal(event, signals)
    entity = _entity(event, signal)
    if signal.refuses(entity):
        return None
    time = _time(event, message.arrival, config.max_ahead)
    deleted = event.get("deleted", False)
    if not isinstance(deleted, bool):
        raise TextError("T042", "`deleted` is true or false")
    text = "" if deleted else normalise(_text(event, signal))
    if not deleted and not signal.admits(entity):
        raise TextError("T044", f"the active release has no {signal.node} with this id")
    return Change(message, signal.feature, entity, Order(time, message.arrival), text, deleted)


def _parsed(payload: bytes | None, max_bytes: int) -> dict[str, Any]:
    if payload is None:
        raise TextError("T041", "the message has no field `event`")
    if len(payload) > max_bytes:
        raise TextError("T046", f"the event has {len(payload):,} bytes, more than {max_bytes:,}")
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise TextError("T041", f"not JSON: {str(error)[:200]}") from error
    if not isinstance(event, dict):
        raise TextError("T041", "the event is no JSON object")
    strange = sorted(event.keys() - FIELD_NAMES)
    if strange:
        raise TextError("T042", f"unknown field {strange[0][:80]!r}")
    return event


def _signal(event: Mapping[str, Any], signals: Mapping[str, TextSignal]) -> TextSignal:
    name = event.get("feature")
    if not isinstance(name, str):
        raise TextError("T042", "`feature` is missing or no text")
    found = signals.get(name)
    if found is not None:
        return found
    node = name.partition(".")[0]
    if node not in {signal.node for signal in signals.values()}:
        raise TextError("T044", f"no node type {node[:80]!r} has a text feature")
    raise TextError("T043", f"no text feature {name[:160]!r}; there are {', '.join(sorted(signals))}")


def _entity(event: Mapping[str, Any], signal: TextSignal) -> EntityId:
    """Strict: `"17"` is not the id 17, and `true` is not 1."""
    if "entity" not in event:
        raise TextError("T042", "`entity` is missing")
    entity = event["entity"]
    if signal.key_type == "int64":
        fits = isinstance(entity, int) and not isinstance(entity, bool) and entity in _INT64
    else:
        fits = isinstance(entity, str) and 0 < len(entity) <= _ID_LENGTH and _is_text(entity)
    if not fits:
        kind = "a whole number of 64 bits" if signal.key_type == "int64" else f"a text of 1 to {_ID_LENGTH} characters"
        raise TextError("T044", f"the id of a {signal.node} is {kind}")
    result: EntityId = entity
    return result


def _time(event: Mapping[str, Any], arrival: int, max_ahead: float) -> int:
    """Microseconds since the epoch."""
    value = event.get("event_time")
    time: int
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        try:
            time = (datetime.fromisoformat(value.upper()) - _EPOCH) // _MICROSECOND
        except (ValueError, OverflowError) as error:
            raise TextError("T045", f"`event_time` is no moment: {error}") from error
    elif isinstance(value, int) and not isinstance(value, bool):
        time = value * 1000
    else:
        raise TextError("T045", "`event_time` is missing, or neither RFC 3339 with a zone nor whole milliseconds")
    if not 0 <= time <= arrival + int(max_ahead * 1e6):
        raise TextError("T045", f"`event_time` is before 1970 or more than {max_ahead:g} s after the event's arrival")
    return time


def _text(event: Mapping[str, Any], signal: TextSignal) -> str:
    """The rendered text: as `graph.texts` does, trimmed, without empty columns, joined by a line break."""
    if ("text" in event) == ("fields" in event):
        raise TextError("T042", "an event has either `fields` or `text`, or `deleted: true`")
    if "text" in event:
        return _string(event["text"], "text")
    fields = event["fields"]
    if not isinstance(fields, dict):
        raise TextError("T042", "`fields` is an object: column and text")
    missing = [column for column in signal.columns if column not in fields]
    if missing:  # the rest alone would be another text
        raise TextError("T042", f"`fields` lacks the column {missing[0]!r} of {signal.feature}; null stands for none")
    parts = [_string(fields[column], column).strip() for column in signal.columns]
    return _SEPARATOR.join(part for part in parts if part)


def _string(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not _is_text(value):
        raise TextError("T042", f"`{name}` is no text")
    return value


def _is_text(value: str) -> bool:
    """Half of a surrogate pair, which JSON can smuggle in, is no text: it cannot be stored anywhere."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
