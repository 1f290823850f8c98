"""Content-addressed folders: each stage of a release leaves one, and the next release finds it again.

    <root>/<kind>/<fingerprint>/manifest.json    what made it, and size and SHA-256 of every file
    <root>/.work/<kind>-<fingerprint>/           scratch of unfinished work (checkpoints), kept across a crash

A folder appears under its final name in one rename, after its files are on disk: a killed process leaves scratch
behind, never half an artefact. Nothing in a manifest depends on the clock or the machine, so equal input gives equal
bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_platform.errors import ArtefactError

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Artefact:
    """A finished folder; `details` is what its maker wrote about it (counts, dtypes, metrics)."""

    kind: str
    fingerprint: str
    path: Path
    files: dict[str, dict[str, Any]]
    details: dict[str, Any]

    @property
    def bytes(self) -> int:
        return sum(int(entry["bytes"]) for entry in self.files.values())

    @property
    def content_hash(self) -> str:
        """SHA-256 over the names and hashes of all files: equal content, equal hash."""
        lines = "".join(f"{name}\0{entry['sha256']}\n" for name, entry in sorted(self.files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()


@dataclass
class Draft:
    """An artefact being written: put files into `path` and facts into `details`."""

    path: Path
    details: dict[str, Any] = field(default_factory=dict)


class ArtefactStore:
    """Artefacts below one local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, kind: str, fingerprint: str) -> Path:
        return self.root / kind / fingerprint

    def find(self, kind: str, fingerprint: str) -> Artefact | None:
        """The finished artefact, or None; opens only its manifest."""
        manifest = self.path(kind, fingerprint) / MANIFEST
        return read_artefact(manifest.parent) if manifest.exists() else None

    def open(self, kind: str, fingerprint: str) -> Artefact:
        """As `find`, but an absent artefact raises ArtefactError A001."""
        found = self.find(kind, fingerprint)
        if found is None:
            raise ArtefactError(
                "A001",
                f"artefact {kind}/{fingerprint} is not in {self.root}",
                hint="run the release again: it rebuilds",
            )
        return found

    def work_dir(self, kind: str, fingerprint: str) -> Path:
        """Scratch that outlives a crash; `create` removes it once the artefact is finished."""
        path = self.root / ".work" / f"{kind}-{fingerprint}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def create(self, kind: str, fingerprint: str) -> Iterator[Draft]:
        """Write an artefact; it exists once the block ends without an error, and not before.

        Raises:
            ArtefactError: A003 when the same fingerprint is already there with other content.
        """
        draft = Draft(self.root / ".work" / f"{kind}-{fingerprint}.{os.getpid()}.draft")
        shutil.rmtree(draft.path, ignore_errors=True)
        draft.path.mkdir(parents=True)
        try:
            yield draft
            self._publish(kind, fingerprint, draft)
        finally:
            shutil.rmtree(draft.path, ignore_errors=True)
        shutil.rmtree(self.root / ".work" / f"{kind}-{fingerprint}", ignore_errors=True)

    def _publish(self, kind: str, fingerprint: str, draft: Draft) -> None:
        files = {
            path.relative_to(draft.path).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in sorted(draft.path.rglob("*"))
            if path.is_file()
        }
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "kind": kind,
            "fingerprint": fingerprint,
            "files": files,
            "details": draft.details,
        }
        (draft.path / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        for path in draft.path.rglob("*"):
            _fsync(path)
        target = self.path(kind, fingerprint)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.path.rename(target)
        except OSError:  # somebody finished the same work first: then it must be the same content
            ours = Artefact(kind, fingerprint, draft.path, files, draft.details)
            if self.open(kind, fingerprint).content_hash != ours.content_hash:
                raise ArtefactError(
                    "A003",
                    f"artefact {kind}/{fingerprint} exists with other content",
                    hint="the same input must give the same bytes; report this with both manifests",
                ) from None
        _fsync(target.parent)

    def verify(self, artefact: Artefact) -> None:
        """Compare every file with its manifest; raises ArtefactError A002 at the first difference."""
        for name, entry in artefact.files.items():
            path = artefact.path / name
            if not path.is_file() or path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
                raise ArtefactError(
                    "A002",
                    f"file {name} of artefact {artefact.kind}/{artefact.fingerprint} differs from its manifest",
                    hint=f"remove {artefact.path} and release again: it is rebuilt",
                )

    def remove(self, kind: str, fingerprint: str) -> None:
        """Delete an artefact, so that the next release builds it again."""
        shutil.rmtree(self.path(kind, fingerprint), ignore_errors=True)


def read_artefact(path: Path) -> Artefact:
    """The artefact in folder `path`; raises ArtefactError A002 when its manifest cannot be read."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return Artefact(manifest["kind"], manifest["fingerprint"], path, manifest["files"], manifest["details"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError("A002", f"the manifest in {path} cannot be read: {error}") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def link(source: Path, target: Path) -> None:
    """Hard-link a finished file into another artefact, or copy it where links do not work."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
