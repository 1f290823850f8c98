from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

import star_platform.gnn
from star_platform.gnn import runtime
from star_platform.gnn.config import TrainingConfig
from star_platform.gnn.error_pages import ERROR_PAGES


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    folder = Path(star_platform.gnn.__file__).parent
    raised = {
        code
        for path in folder.rglob("*.py")
        if path.name != "error_pages.py"
        for code in re.findall(r'"([MD]\d{3})"', path.read_text(encoding="utf-8"))
    }
    assert raised == set(ERROR_PAGES)


def test_the_configuration_is_closed_frozen_and_light() -> None:
    with pytest.raises(ValidationError):
        TrainingConfig.model_validate({"dims": 3})
    with pytest.raises(ValidationError, match="multiple of heads"):
        TrainingConfig(dim=10, heads=4)
    with pytest.raises(ValidationError):
        TrainingConfig().dim = 3  # type: ignore[misc]
    code = "import sys, star_platform.gnn.config, star_platform.gnn.error_pages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_work_ahead_keeps_order_raises_and_stops() -> None:
    assert list(runtime.ahead(lambda x: x * x, range(5))) == [0, 1, 4, 9, 16]

    def broken(x: int) -> int:
        if x == 2:
            raise ValueError("two")
        return x

    got = []
    with pytest.raises(ValueError, match="two"):
        got.extend(runtime.ahead(broken, range(5)))
    made: list[int] = []
    for item in runtime.ahead(lambda x: made.append(x) or x, range(1000)):
        if item == 3:
            break
    count = len(made)
    time.sleep(0.05)
    assert len(made) == count < 20
