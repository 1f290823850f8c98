"""Pages of the codes of the command line, of star.yaml, and of releases as a whole."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "U001": ErrorPage(
        "no star.yaml here or above",
        "A verb works on the project whose star.yaml is nearest, upward from the current folder.",
        fix="star-platform init my-project\nstar-platform validate --project my-project",
    ),
    "U002": ErrorPage(
        "star.yaml needs an environment variable",
        "A value of star.yaml holds ${env:NAME} without a default, and NAME is not set.",
        example="connections:\n  warehouse: ${env:WAREHOUSE_URL}",
        fix="connections:\n  warehouse: ${env:WAREHOUSE_URL:-sqlite:///local.db}\n# or: export WAREHOUSE_URL=...",
    ),
    "U003": ErrorPage(
        "no such branch",
        "--branch names a branch that no file declares, or that is a draft. The name is the field 'branch' of the "
        "file, not the name of the file.",
        fix="star-platform validate --json      # lists every branch with its status",
    ),
    "U004": ErrorPage(
        "no such published consumer",
        "--consumer names a consumer that no release has published yet. Consumers are files in consumers/, and are "
        "published with the next release.",
        fix="consumer: job-ranker\nowner: ranking@example.com\nnodes: [member, job]\nrelease: latest",
    ),
    "U010": ErrorPage(
        "unknown error code",
        "`star-platform explain` was asked for a code that does not exist. Codes are a letter and three digits.",
        fix="star-platform explain        # lists all codes",
    ),
    "U011": ErrorPage(
        "no such file",
        "A path on the command line does not name a file.",
        fix="star-platform validate       # looks at every branch file of the project",
    ),
    "U012": ErrorPage(
        "no ids to fetch",
        "`star-platform fetch` reads the vectors of the ids it is given, and it was given none.",
        fix="star-platform fetch member 17 42\nstar-platform fetch member --ids-from ids.txt",
    ),
    "U013": ErrorPage(
        "a file of ids cannot be read",
        "--ids-from names a file that is not there, or that may not be read. It holds one id per line.",
        fix="star-platform fetch member --ids-from ids.txt",
    ),
    "U014": ErrorPage(
        "no release to activate, or two",
        "`star-platform activate` takes one release, as its argument or as --to.",
        fix="star-platform activate --to r1",
    ),
    "U015": ErrorPage(
        "not a day",
        "A date on the command line is written year-month-day, as in consumer files; a moment may have a time of day.",
        example="star-platform deprecate r2 --sunset 31.1.2027",
        fix="star-platform deprecate r2 --sunset 2027-01-31",
    ),
    "U020": ErrorPage(
        "init would overwrite a file",
        "`star-platform init` writes a new project and never replaces a file that is there.",
        fix="star-platform init another-folder",
    ),
    "U021": ErrorPage(
        "not a name for a project",
        "The project's name is part of the names that Feast and its stores use: lower case letters, digits and '_', "
        "starting with a letter, at most 40 characters.",
        fix="star-platform init marketplace --name job_board",
    ),
    "U022": ErrorPage(
        "no such preset, or one that does not go with star.yaml",
        "`--preset` names a set of training settings. What star.yaml sets below `training` wins over it, and the two "
        "together have to be valid: heads that divide the dim, fan-outs that fit the budget.",
        example="star-platform train --explain --preset star-dim-20",
        fix="star-platform train --presets        # lists them",
    ),
    "U030": ErrorPage(
        "the registry's schema is of another version",
        "Each version of the platform reads one schema. An older one can be brought up to date; for a newer one this "
        "installation is too old.",
        fix="star-platform doctor --repair      # after a backup of the database",
    ),
    "U031": ErrorPage(
        "others can read the pseudonym key",
        "Whoever has the key can tell which id a pseudonym stands for, so only its owner may read the file.",
        fix="chmod 600 .star/pseudonym.key",
    ),
    "U032": ErrorPage(
        "Feast differs from the registry",
        "Feast's registry is a projection of ours: somebody changed it by hand, or a publication was interrupted. The "
        "vectors themselves are not concerned.",
        fix="star-platform doctor --repair",
    ),
    "U033": ErrorPage(
        "the disk is nearly full",
        "A release writes its artefacts beside those it replaces, so it needs room for both.",
        fix="df -h .\n# then make room, or set `artefacts:` in star.yaml to a folder on another disk",
    ),
    "R020": ErrorPage(
        "an interrupted release cannot go on",
        "Branches, data or settings have changed since the release was started, so it would mix two states. A new "
        "release reuses every finished stage whose input is still the same.",
        fix="star-platform release",
    ),
    "R021": ErrorPage(
        "nothing to resume",
        "`star-platform release --resume` goes on with a release that was interrupted, and there is none.",
        fix="star-platform releases\nstar-platform release",
    ),
    "R022": ErrorPage(
        "no release is active yet",
        "'latest' is the active release, and no release has been activated so far.",
        fix="star-platform release",
    ),
    "R023": ErrorPage(
        "a release that is not published",
        "Vectors are read from releases whose publication was finished and verified.",
        fix="star-platform releases      # lists every release with its state",
    ),
    "R030": ErrorPage(
        "more than data changed since the release",
        "A refresh uses the model of the active release, which knows the node types, relations, features and encoder "
        "that it was trained with. What is declared now differs in more than rows and metadata.",
        fix="star-platform plan         # shows what changed\nstar-platform release",
    ),
    "R031": ErrorPage(
        "a node type without published vectors",
        "A release publishes vectors of entities. Attribute nodes, and node types of other releases, have none there.",
        example="star-platform refresh --node skill --changed-since 2026-11-01",
        fix="star-platform refresh --node member --changed-since 2026-11-01",
    ),
    "R032": ErrorPage(
        "the release's dataset is not whole",
        "A refresh adds to the offline dataset of the release. Files of it are missing or were never finished, so what "
        "the release serves of all others cannot be read back.",
        fix="star-platform release --rebuild",
    ),
}
