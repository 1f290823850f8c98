"""Pages of the codes that concern the command line and star.yaml."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "U001": ErrorPage(
        "no star.yaml here or above",
        "A verb works on the project whose star.yaml is nearest, upward from the current folder.",
        fix="star-platform init my-project\ncd my-project && star-platform validate\n# or: star-platform validate --project my-project",
    ),
    "U002": ErrorPage(
        "star.yaml needs an environment variable",
        "A value of star.yaml holds ${env:NAME} without a default, and NAME is not set.",
        example="connections:\n  warehouse: ${env:WAREHOUSE_URL}",
        fix="export WAREHOUSE_URL=postgresql+psycopg2://...\n# or give a default in star.yaml: ${env:WAREHOUSE_URL:-sqlite:///local.db}",
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
        "init would overwrite a file",
        "`star-platform init` writes a new project and never replaces a file that is there.",
        fix="star-platform init another-folder",
    ),
}
