"""What `star-platform explain M030` to `M034` print."""

from __future__ import annotations

from star_platform.errors import ErrorPage

LTGNN_PAGES: dict[str, ErrorPage] = {
    "M030": ErrorPage(
        "A propagation graph cannot be normalised",
        "LTGNN divides every edge by the roots of its ends' degrees. An edge that names a node outside the graph, or a "
        "weight that is negative or not finite, has no place in it.",
        fix="Look at the column that the edge's `weight` is made from.",
    ),
    "M031": ErrorPage(
        "Interactions cannot be read",
        "A file of interactions has a line per user, `user item item ...`, in numbers that count from 0.",
        example="0 12 7 3\n1 7",
        fix="Check the path, and that the numbers of users and items cover every id of the file.",
    ),
    "M032": ErrorPage(
        "Settings of a recommender are outside their range",
        "Sizes, rates and the temperature are positive, `alpha` lies between 0 and 1, `own_share` from 0 to below 1.",
        fix="Compare the printed settings with the ranges.",
    ),
    "M033": ErrorPage(
        "A recommender's checkpoint cannot be resumed",
        "The scratch folder holds a checkpoint that is damaged, or was written with other settings or other pairs.",
        fix="Remove the folder that the message names; only unfinished training is lost.",
    ),
    "M034": ErrorPage(
        "LTGNN has nothing left to learn",
        "With `encoder: ltgnn` the edges before a cut of time are propagated and the examples after it are learned. No "
        "training example lies after the first cut.",
        example="training: {encoder: ltgnn}",
        fix="Give the objective's edge a longer window, lower `validation_share`, or use `encoder: attention`.",
    ),
}
