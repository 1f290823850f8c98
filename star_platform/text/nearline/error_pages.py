"""What `star-platform explain` says about the codes of near-line encoding."""

from __future__ import annotations

from star_platform.errors import ErrorPage

_EVENT = '{"feature": "member.profile", "entity": 17, "event_time": "2026-11-28T22:00:00Z", "text": "Data engineer"}'

ERROR_PAGES: dict[str, ErrorPage] = {
    "T040": ErrorPage(
        "The event stream does not answer",
        "The server of the stream is down, refuses the connection, or has no memory left. A worker tries again for "
        "two minutes before it gives up. Nothing is lost: what it had in hand stays pending.",
        "",
        "Bring the server back, and start the worker again under the same name.",
    ),
    "T041": ErrorPage(
        "A dead letter: not an event",
        "The message has no field `event`, or its content is not a JSON object.",
        "XADD text-events * event 'profile of member 17 changed'",
        f"XADD text-events * event '{_EVENT}'",
    ),
    "T042": ErrorPage(
        "A dead letter: a field is missing, unknown or of the wrong type",
        "An event has `feature`, `entity`, `event_time`, and one of `fields`, `text` and `deleted: true`. `fields` "
        "names every column that the feature declares, null where there is none: without one, it would be another "
        "text. Columns beyond those are passed over.",
        "",
        _EVENT,
    ),
    "T043": ErrorPage(
        "A dead letter: no such text feature",
        "The node type has text features, but none of this name. The message lists those that there are.",
        "",
        "Correct the producer, or declare the feature and release it.",
    ),
    "T044": ErrorPage(
        "A dead letter: unknown entity",
        "The event's node type has no text feature, its id is of another type than the ids of the node type, or "
        "`--entities released` is set and the active release does not know the id.",
        '{"feature": "member.profile", "entity": "17", ...}      # the ids of members are whole numbers',
        _EVENT,
    ),
    "T045": ErrorPage(
        "A dead letter: the event's time cannot be used",
        "`event_time` decides which of two changes is newer. It is RFC 3339 with a zone, or milliseconds since the "
        "epoch, not before 1970 and not more than a day after the event arrived: after an event from the far future, "
        "no real one would ever be newer.",
        "",
        _EVENT,
    ),
    "T046": ErrorPage(
        "A dead letter: the event is too large",
        "Encoders cut texts at some thousand characters anyway; an event above --max-bytes is most likely a mistake, "
        "and would hold up all others. The dead letter keeps its beginning and its length.",
        "",
        "Shorten the text at the producer, or raise --max-bytes.",
    ),
    "T047": ErrorPage(
        "A dead letter: handed out too often",
        "Workers were given this message --max-deliveries times and died or were stopped before it was done. It may "
        "be what ended them, so nobody is given it again.",
        "",
        "Look at the logs of the workers. If it was not the message, add it to the stream again.",
    ),
    "T048": ErrorPage(
        "A dead letter: the encoder fails on this text",
        "The other texts of its batch were encoded; this one alone makes the encoder fail. Its own code is in the "
        "reason.",
        "",
        "Encode the text outside the platform to see why.",
    ),
    "T049": ErrorPage(
        "Near-line vectors need Redis as online store",
        "Two workers may have changes of one entity in hand at the same time. The older one must never win, so the "
        "store has to compare and set in one step; of Feast's stores, ours does that for Redis.",
        "",
        "online_store:\n  type: star_platform.publishing.redis.StarRedisOnlineStore\n"
        "  connection_string: localhost:6379,db=0\n  skip_dedup: true",
    ),
    "T050": ErrorPage(
        "No text feature to serve",
        "The branches of the active release declare no feature of kind text on a node type whose ids are whole "
        "numbers or text.",
        "",
        "Declare one, and release it: features: {member.profile: {kind: text, ...}}",
    ),
    "T051": ErrorPage(
        "The port of the metrics cannot be opened",
        "Another process has it, often another worker on the same machine.",
        "",
        "Give each worker its own --metrics-port, or 0 for any free one.",
    ),
    "T052": ErrorPage(
        "Vectors cannot be written or read",
        "Feast, its online store or the folder of its offline store fails. A worker tries again for two minutes "
        "before it gives up; the events stay pending.",
        "",
        "Read the message. After a change of the encoder, restart the workers that still run with the old one.",
    ),
    "T053": ErrorPage(
        "The settings of the near-line store do not fit",
        "`text/feature_store.yaml` in the feature repository was written for the near-line vectors, and has been "
        "changed since in a way that they rely on.",
        "",
        "Remove the file: it is written anew from feature_store.yaml.",
    ),
    "T054": ErrorPage(
        "The client of the stream is not installed",
        "Redis and Kafka are optional: their clients are installed on demand.",
        "",
        'pip install "star-platform[redis]", or "star-platform[kafka]"',
    ),
    "T055": ErrorPage(
        "Not a value for this option",
        "Spans of time are a number and a unit: ms, s, m, h or d. A target, and the silence after which a worker "
        "counts as dead, are longer than nothing; names are not empty.",
        "star-platform text serve --latency-target two",
        "star-platform text serve --latency-target 2s",
    ),
    "T056": ErrorPage(
        "Two text features would have one view",
        "The view of `member.profile` is `member_profile_text`: names that differ only in where the dot stands meet.",
        "features: {member.a_text: {kind: text}, member_a.text: {kind: text}}",
        "Rename one of the two features, and release it.",
    ),
}
