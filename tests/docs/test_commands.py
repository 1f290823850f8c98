"""Every `star-platform ...` line of the pages, and of the error pages, parses against the real command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from star_platform.cli.app import app
from star_platform.cli.explain import all_pages
from star_platform.signals.error_pages import ERROR_PAGES as SIGNAL_PAGES
from tests.conftest import REPOSITORY
from tests.docs.markdown import fences, name, pages, prose

GROUP: Any = typer.main.get_command(app)
ROOT_OPTIONS = {option for param in GROUP.params for option in param.opts} | {"-h", "--help"}
_LINE = re.compile(r"^(?:\$ )?(?:\S*/)?star-platform(?: (?P<rest>.*))?$", re.M)
_QUOTED = re.compile(r"`(?:\S*/)?star-platform ([^`]+)`")


def commands(page: Path) -> Iterator[str]:
    """What stands behind `star-platform` in fenced blocks and between backticks."""
    for fence in fences(page):
        if fence.language in ("", "sh", "bash", "console"):
            yield from lines(fence.text)
    yield from quoted(prose(page))


def lines(text: str) -> list[str]:
    return [found["rest"] or "" for found in _LINE.finditer(text)]


def quoted(text: str) -> list[str]:
    """Commands in a sentence; a verb by itself is only its name there, and `--help` stands for its arguments."""
    found = [" ".join(command.split()) for command in _QUOTED.findall(text)]
    return [f"{command} --help" if " " not in command and not command.startswith("-") else command for command in found]


def problem(command: str) -> str | None:
    """What is wrong with a command line, or None."""
    words = shlex.split(command.partition(" | ")[0], comments=True)
    while words and words[0].startswith("-"):
        if words[0] not in ROOT_OPTIONS:
            return f"no option {words[0]}"
        words = words[1:]
    if not words or words[0] in ("VERB", "..."):
        return None
    verb = GROUP.commands.get(words[0])
    while hasattr(verb, "commands") and len(words) > 1 and words[1] in verb.commands:
        words = words[1:]
        verb = verb.commands[words[0]]
    if verb is None:
        return f"no verb {words[0]}"
    if words[1:] == ["--help"]:
        return None
    try:
        verb.make_context(words[0], [word for word in words[1:] if word != "..."], resilient_parsing=False)
    except Exception as error:  # of click, wherever typer keeps it
        if hasattr(error, "format_message"):
            return str(error.format_message())
        if type(error).__name__ == "Exit":
            return None
        raise
    return None


@pytest.mark.parametrize("page", pages(), ids=name)
def test_command_lines_parse(page: Path) -> None:
    found = {command: problem(command) for command in commands(page)}
    assert {command: wrong for command, wrong in found.items() if wrong} == {}


def test_command_lines_of_error_pages_parse() -> None:
    wrong = {}
    for code, page in all_pages().items():
        shown = page.fix if code in SIGNAL_PAGES else f"{page.example}\n{page.fix}"  # examples of S0xx are YAML
        for command in [*lines(shown), *quoted(f"{page.explanation} {shown}")]:
            if problem(command):
                wrong[code] = f"star-platform {command}: {problem(command)}"
    assert wrong == {}


def test_command_lines_of_messages_parse() -> None:
    """What hints in the code tell a reader to run; those with a placeholder are left out."""
    wrong = {}
    for path in sorted((REPOSITORY / "star_platform").rglob("*.py")):
        for command in quoted(re.sub(r'"\s*f?"', "", path.read_text(encoding="utf-8"))):
            if "{" not in command and problem(command):
                wrong[f"{name(path)}: star-platform {command}"] = problem(command)
    assert wrong == {}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("release --resum", "no such option"),
        ("publish --reconcile", "no verb publish"),
        ("fetch", "missing argument"),
        ("--bug validate", "no option --bug"),
        ("demo --members many", "valid integer"),
    ],
)
def test_what_is_wrong_is_seen(command: str, expected: str) -> None:
    assert expected in (problem(command) or "").lower()


def test_there_are_command_lines() -> None:
    verbs = {command.split()[0] for page in pages() for command in commands(page) if command.split()}
    assert set(GROUP.commands) <= verbs
