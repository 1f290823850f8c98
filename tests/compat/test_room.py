"""The room as a whole: its error pages, and what reading its settings costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

import star_platform.compat
from star_platform.compat.config import CompatConfig, CompatGate
from star_platform.compat.error_pages import ERROR_PAGES


def test_pages_and_codes_match() -> None:
    folder = Path(star_platform.compat.__file__).parent
    raised = {"C020"}  # by the release, with the sentences of `gate_failures`
    for path in folder.glob("*.py"):
        if path.name != "error_pages.py":
            raised |= set(re.findall(r'(?:CompatError|DependencyMissing)\(\s*"([CD]\d{3})"', path.read_text()))
    assert raised == set(ERROR_PAGES)
    assert all(page.title and page.explanation and page.fix for page in ERROR_PAGES.values())


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("config", "numpy pyarrow torch scipy numba onnxruntime"),
        ("gate", "numpy pyarrow torch scipy numba onnxruntime"),
        ("model", "torch scipy numba onnxruntime feast"),
        ("stage", "torch onnxruntime feast"),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(module: str, heavy: str) -> None:
    code = f"import sys, star_platform.compat.{module}; print(*(set({heavy.split()!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_settings_are_closed_and_consistent() -> None:
    assert CompatConfig.model_validate({"keep": ["r1"], "gate": {"min_r2": 0.5}}).gate == CompatGate(min_r2=0.5)
    for wrong in ({"keep": ["1"]}, {"methods": "ridge"}, {"rank": 3}, {"holdout": 0}, {"gate": {"min_cos": 1}}):
        with pytest.raises(ValidationError):
            CompatConfig.model_validate(wrong)
