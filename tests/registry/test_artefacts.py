from __future__ import annotations

import re
from pathlib import Path

import pytest

from star_platform.errors import ArtefactError
from star_platform.registry.artefacts import ArtefactStore, link
from star_platform.registry.error_pages import ERROR_PAGES


def make(store: ArtefactStore, content: str = "1 2 3") -> None:
    with store.create("nodes", "abc") as draft:
        (draft.path / "deep").mkdir()
        (draft.path / "deep" / "ids.txt").write_text(content, encoding="utf-8")
        draft.details["count"] = 3


def test_written_found_and_verified(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    assert store.find("nodes", "abc") is None
    make(store)
    found = store.open("nodes", "abc")
    assert (found.details, found.bytes, list(found.files)) == ({"count": 3}, 5, ["deep/ids.txt"])
    store.verify(found)
    assert not any((tmp_path / ".work").iterdir())


def test_equal_content_has_equal_hash_and_bytes(tmp_path: Path) -> None:
    one, two = ArtefactStore(tmp_path / "1"), ArtefactStore(tmp_path / "2")
    make(one)
    make(two)
    assert one.open("nodes", "abc").content_hash == two.open("nodes", "abc").content_hash
    manifests = [(store.path("nodes", "abc") / "manifest.json").read_bytes() for store in (one, two)]
    assert manifests[0] == manifests[1]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    with pytest.raises(ZeroDivisionError), store.create("nodes", "abc") as draft:  # noqa: PT012
        (draft.path / "half").write_text("x", encoding="utf-8")
        raise ZeroDivisionError
    assert store.find("nodes", "abc") is None
    assert not any((tmp_path / ".work").iterdir())
    with pytest.raises(ArtefactError, match="A001"):
        store.open("nodes", "abc")


def test_scratch_outlives_a_crash_and_goes_when_done(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    (store.work_dir("nodes", "abc") / "checkpoint").write_text("step 5", encoding="utf-8")
    assert (ArtefactStore(tmp_path).work_dir("nodes", "abc") / "checkpoint").exists()
    make(store)
    assert not any((tmp_path / ".work").iterdir())


@pytest.mark.parametrize("damage", ["change", "truncate", "remove"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    store = ArtefactStore(tmp_path)
    make(store)
    file = store.path("nodes", "abc") / "deep" / "ids.txt"
    if damage == "remove":
        file.unlink()
    else:
        file.write_text("1 2 4" if damage == "change" else "1 2", encoding="utf-8")
    with pytest.raises(ArtefactError, match="A002"):
        store.verify(store.open("nodes", "abc"))
    store.remove("nodes", "abc")
    make(store)
    store.verify(store.open("nodes", "abc"))


@pytest.mark.parametrize("manifest", ["", "{", "{}", "[]"])
def test_an_unreadable_manifest_is_damage(tmp_path: Path, manifest: str) -> None:
    store = ArtefactStore(tmp_path)
    make(store)
    (store.path("nodes", "abc") / "manifest.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(ArtefactError, match="A002"):
        store.find("nodes", "abc")


def test_same_work_twice_is_one_artefact_and_other_bytes_are_an_error(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    make(store)
    make(store)
    with pytest.raises(ArtefactError, match="A003"):
        make(store, "other")
    assert (store.path("nodes", "abc") / "deep" / "ids.txt").read_text(encoding="utf-8") == "1 2 3"


def test_links_share_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x", encoding="utf-8")
    link(tmp_path / "a", tmp_path / "to" / "b")
    assert (tmp_path / "to" / "b").samefile(tmp_path / "a")


def test_every_code_that_this_room_raises_has_a_page() -> None:
    room = Path(__file__).resolve().parents[2] / "star_platform" / "registry"
    raised = {
        code
        for file in room.glob("*.py")
        if file.name != "error_pages.py"
        for code in re.findall(r'"([RA]\d{3})"', file.read_text(encoding="utf-8"))
    }
    assert raised == set(ERROR_PAGES)
