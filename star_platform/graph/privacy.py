"""Keyed pseudonyms for external ids, for everything that is logged, shown in an error or exported for inspection."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from star_platform.errors import GraphError

KEY_BYTES = 32


@dataclass(frozen=True)
class Pseudonymiser:
    """Maps ids to pseudonyms: the same id and key give the same pseudonym, and without the key nothing leads back.

    Keyed BLAKE2b (RFC 7693) with 8 bytes of output: enough to tell rows apart when reading a log, and not an
    identifier that anything may join on.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not 16 <= len(self.key) <= 64:
            raise GraphError(
                "G040",
                f"the pseudonym key has {len(self.key)} bytes; it must have 16 to 64",
                hint="remove the key file: a new one is made (pseudonyms change with it)",
            )

    def pseudonym(self, value: Any) -> str:
        """`~` and 16 hex digits. The type enters the hash, so the id 7 and the id "7" differ."""
        text = f"{type(value).__name__}\0{value}".encode()
        return "~" + hashlib.blake2b(text, digest_size=8, key=self.key).hexdigest()

    def pseudonyms(self, values: Iterable[Any]) -> list[str]:
        return [self.pseudonym(value) for value in values]


def pseudonymiser(key_file: Path) -> Pseudonymiser:
    """The project's pseudonymiser; makes a random key, readable by its owner alone, where the file is absent."""
    try:
        return Pseudonymiser(bytes.fromhex(key_file.read_text(encoding="ascii").strip()))
    except FileNotFoundError:
        pass
    except ValueError as error:
        raise GraphError("G040", f"the pseudonym key in {key_file} is not hex text", hint="remove it") from error
    key_file.parent.mkdir(parents=True, exist_ok=True)
    scratch = key_file.with_name(f".{key_file.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(os.urandom(KEY_BYTES).hex() + "\n")
    try:
        os.link(scratch, key_file)  # the first of two processes wins, and both then read the same key
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
    return Pseudonymiser(bytes.fromhex(key_file.read_text(encoding="ascii").strip()))
