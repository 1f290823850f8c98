"""Pages of the errors that a step in the life of a release raises."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "L001": ErrorPage(
        "This release cannot be deprecated",
        "A date is given to a release that others read and that is not the active one any more. The active release is "
        "what `latest` readers get, so another one must take its place first; what is retired or purged is gone.",
        example="star-platform deprecate r3    # r3 is the active release",
        fix="star-platform activate r4\nstar-platform deprecate r3 --sunset 2027-01-31",
    ),
    "L002": ErrorPage(
        "Not a successor",
        "Readers of a deprecated release are told what to read instead. That must be a release that stays: the active "
        "one, or a candidate. One with a date of its own would send them on a second time.",
        fix="Leave --successor out: the active release is taken.",
    ),
    "L003": ErrorPage(
        "A date in the past",
        "The date is the last day on which readers may count on a release, and they must hear of it before. The clock "
        "is that of the machine, in UTC.",
        fix="star-platform deprecate r2 --sunset 2027-01-31",
    ),
    "L004": ErrorPage(
        "Somebody still reads this release",
        "A release is retired when each of its readers is served by a map that its gate let pass, or has left. The "
        "list names everybody for whom neither is so: consumers that need the exact vectors, or whose map failed or "
        "was not conclusive; readers that declared nothing, and readers that did not say who they are, until they have "
        "been quiet for `lifecycle.quiet_days`. Nothing was changed. The exit code is 5.",
        example="star-platform retire r1",
        fix="Move them to another release and change their consumer files; write a file for those that have none "
        "(`release`, `compat: mapped`); train the next release with `compat: {mode: joint-multi}` for a better map. "
        'As a last resort `--force --reason "..."`, which is kept for good.',
    ),
    "L005": ErrorPage(
        "This release cannot be retired",
        "Only a deprecated release is retired: its readers must have been told.",
        fix="star-platform deprecate r2 --sunset 2027-01-31\nstar-platform retire r2",
    ),
    "L006": ErrorPage(
        "A force needs a reason",
        "Cutting readers off is an event that stays, and whoever looks for the cause later needs to find why.",
        fix='star-platform retire r1 --force --reason "the owner of people-search agreed, ticket 4711"',
    ),
    "L007": ErrorPage(
        "Other releases are answered from this one",
        "A retired release is answered through a map from a later one, whose vectors must stay for as long as the map "
        "is used. `retire` moves such routes to the active release where that has a map that is good enough; here it "
        "has none.",
        fix="Keep this release, or purge the older one after its last reader has left, or release again with "
        "`compat: {serve: transitive}` so that the active release brings maps to all older ones.",
    ),
    "L008": ErrorPage(
        "This release is kept to go back to",
        "`lifecycle.keep_previous` in star.yaml says how many releases before the active one keep their own vectors, "
        "because `activate` cannot go back to a release that was retired.",
        fix="Retire it after the next release, or lower `lifecycle.keep_previous`.",
    ),
    "L009": ErrorPage(
        "This release cannot be purged",
        "A purge removes vectors for good, so it is for releases whose own vectors nobody is served: retired ones, and "
        "failed ones.",
        fix="star-platform retire r1\nstar-platform purge r1 --dry-run\nstar-platform purge r1",
    ),
    "L010": ErrorPage(
        "The online store does not say who reads what",
        "Reads are counted in the online store. While it cannot be asked, nobody knows whether somebody would be cut "
        "off, so nothing is retired or purged.",
        fix="Start the online store (`star-platform doctor` tests it) and try again.",
    ),
    "L011": ErrorPage(
        "A retired release cannot be active again",
        "`activate` moves no vectors: it names a release whose vectors are there. Those of a retired release are not "
        "served any more, and those of a purged one are gone; what answers for it is a map from a later release, which "
        "is no way back from that release.",
        example="star-platform activate r1    # r1 was retired",
        fix="Activate another release that still has its vectors, or check the branch files of the old one out of git "
        "and run `star-platform release`. `lifecycle.keep_previous: 1` keeps the last release from being retired.",
    ),
}
