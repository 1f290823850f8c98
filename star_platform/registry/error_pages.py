"""Pages of the errors that the registry and the artefact store raise."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "R001": ErrorPage(
        "The registry did not answer as it should",
        "The database behind the registry could not be reached, was locked for too long, or refused a statement. "
        "Nothing was written: every change is one transaction.",
        example="the registry at postgresql+psycopg2://star@db/star did not answer as it should: connection refused",
        fix="Check that the server runs and that `registry:` in star.yaml is right; `star-platform doctor` tests both. "
        "A SQLite registry must lie on a local disk, not on a network folder.",
    ),
    "R002": ErrorPage(
        "The registry's URL is not supported",
        "The registry lives in a SQLite file or in Postgres through psycopg2. The short forms `postgres://` and "
        "`postgresql://` are refused because versions of SQLAlchemy disagree about the driver they mean.",
        example="registry: postgres://star@db/star",
        fix="Write `sqlite:///.star/registry.db` or `postgresql+psycopg2://user@host/database`; put the password into "
        "the environment and write ${env:NAME}.",
    ),
    "R003": ErrorPage(
        "There is no registry yet",
        "The database is absent, or has none of the registry's tables.",
        fix="The first `star-platform release` makes it; if one should be there, check `registry:` in star.yaml.",
    ),
    "R004": ErrorPage(
        "The registry's schema is older than this version",
        "A new version of the platform brought migrations that this registry has not seen. It is not changed "
        "without being asked, because colleagues with the older version could not use it any more.",
        fix="Back the database up, then run `star-platform doctor --repair`.",
    ),
    "R005": ErrorPage(
        "The registry's schema is newer than this version",
        "Somebody with a later version of the platform has migrated this registry.",
        fix="Install that version of star-platform, or a later one.",
    ),
    "R006": ErrorPage(
        "Somebody else is releasing",
        "A release holds a lease for as long as it works and renews it; two at once would overwrite each other. The "
        "message says who holds it, since when, and until when it lasts if it is not renewed. Nothing was written.",
        example="ada@build-1 (process 4711) holds the lease 'release' since 2026-03-01 10:00:12",
        fix="Try again later (exit code 6 says that this is safe). If the holder died, its lease runs out by itself, "
        "and on the same machine it is taken over at once.",
    ),
    "R007": ErrorPage(
        "The lease was lost",
        "This process was stopped or cut off for longer than its lease lasted, and another one took over. What it "
        "still wanted to write was refused, so the other one's work is intact.",
        fix="Run `star-platform releases` to see what happened, then `star-platform release --resume` or plan again.",
    ),
    "R008": ErrorPage(
        "The base has moved",
        "A plan says what changes against the release that was active when it was made. Another release was "
        "activated since, so the plan no longer says what would happen.",
        fix="Run `star-platform plan` again and release that; finished work is reused.",
    ),
    "R009": ErrorPage(
        "A release cannot take this step",
        "Releases go building, candidate, active, deprecated, draining, retired, purged; `failed` from building or "
        "candidate. Activating an earlier release again makes the active one a candidate. Other steps are refused.",
        fix="`star-platform show rN` prints the state and the history of a release.",
    ),
    "R010": ErrorPage(
        "There is no such release",
        "No release has this number in this registry.",
        fix="`star-platform releases` lists them. A project that looks empty may point at another registry.",
    ),
    "R011": ErrorPage(
        "Not the name of a release",
        "Releases are named r1, r2 and so on.",
        example="star-platform show 3",
        fix="star-platform show r3",
    ),
    "A001": ErrorPage(
        "An artefact is missing",
        "The registry or another artefact refers to a folder of the artefact store that is not there; perhaps it was "
        "deleted, or belongs to another machine's store.",
        fix="Release again: missing artefacts are rebuilt, the others reused.",
    ),
    "A002": ErrorPage(
        "An artefact differs from its manifest",
        "A file of a finished artefact is missing, cut short or changed. Artefacts are never modified once they are "
        "finished, so this is damage, or somebody edited it.",
        fix="Remove the folder that the message names and release again: it is rebuilt.",
    ),
    "A003": ErrorPage(
        "The same work gave other bytes",
        "An artefact with this fingerprint exists already, with other content. Equal input must give equal bytes.",
        fix="Compare the two manifests to find the file that differs; report it. To go on, remove the older artefact.",
    ),
}
