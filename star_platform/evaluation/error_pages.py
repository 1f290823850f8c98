"""What `star-platform explain E0xx` prints."""

from __future__ import annotations

from star_platform.errors import ErrorPage

ERROR_PAGES: dict[str, ErrorPage] = {
    "E001": ErrorPage(
        "A release did not pass its gate",
        "star.yaml asks for a minimum quality, and an objective of this release does not reach it. It is measured on "
        "examples later than all of training. `min_auc` is compared with the lower end of the 95 % interval, and "
        "`beat_baselines` asks that the paired difference to each baseline excludes 0: too few test examples fail the "
        "gate as well, because nothing is shown. Nothing was published and the active release is unchanged.",
        example="evaluation:\n  gate:\n    min_auc: 0.7\n    beat_baselines: true",
        fix="Look at the figures with `star-platform show`; change the branches, give the test more time, or the gate.",
    ),
}
