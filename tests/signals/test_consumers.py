"""Consumer files have the same errors as branch files."""

from __future__ import annotations

from pathlib import Path

import pytest

from star_platform.errors import SignalErrors
from star_platform.signals.consumers import Consumer, load_consumers

GOOD = "consumer: job-ranker\nowner: ranking@example.com\nnodes: [member, job]\nrelease: r3\n"


def test_a_consumer(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (consumer,) = load_consumers(tmp_path, nodes={"member", "job"})
    assert consumer == Consumer(
        consumer="job-ranker", owner="ranking@example.com", nodes=("member", "job"), release="r3"
    )


def test_no_folder_means_no_consumers(tmp_path: Path) -> None:
    assert load_consumers(tmp_path / "absent") == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("release: r3", "release: v3", ["S055 4:10"]),
        ("release: r3", "release: r0", ["S055 4:10"]),
        ("release: r3", "relase: r3", ["S010 4:1"]),
        ("[member, job]", "[]", ["S018 3:8"]),
        ("[member, job]", "[member, jop]", ["S014 3:17"]),
        ("[member, job]", "[member, member]", ["S046 3:17"]),
        ("[member, job]", "member", ["S012 3:8"]),
        ("job-ranker", "Job Ranker", ["S015 1:11"]),
        ("owner: ranking@example.com\n", "", ["S011 1:1"]),
    ],
)
def test_what_can_be_wrong(tmp_path: Path, old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    (tmp_path / "a.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(SignalErrors) as caught:
        load_consumers(tmp_path, nodes={"member", "job"})
    found = [f"{item.code} {item.place.line}:{item.place.column}" for item in caught.value.diagnostics if item.place]
    assert found == expected


def test_two_consumers_with_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    with pytest.raises(SignalErrors, match="also declared in"):
        load_consumers(tmp_path)
