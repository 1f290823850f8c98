"""Three releases, one frozen consumer: `python examples/many_versions/experiment.py`; README.md has the table.

Everything is kept under `--work`: a run that was killed goes on, and a second one only prints the tables.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from chains import Experiment, Setting
from report import report, show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(__file__).resolve().parent / ".star")
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="compare alignment weights on validation data, and stop")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(Setting(work, arguments.members, arguments.seed, arguments.epochs))
    if arguments.choose:
        experiment.choose()
        return
    found = report(experiment)
    (work / "report.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    show(found)


if __name__ == "__main__":
    main()
