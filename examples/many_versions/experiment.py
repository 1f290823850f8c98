"""Three releases, one frozen consumer: `python examples/many_versions/experiment.py`; README.md has the table.

Everything is kept under `--work`: a run that was killed goes on, and a second one only prints the tables.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from chains import IDS, Experiment, Setting
from report import report, show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(__file__).resolve().parent / ".star")
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    what = "members and jobs have learned id vectors, beside what is written of them (just --ids) or alone"
    parser.add_argument("--ids", nargs="?", choices=IDS, default="none", const="beside", help=what)
    parser.add_argument("--same-day", action="store_true", help="every release is trained on the data of r1")
    parser.add_argument("--choose", action="store_true", help="compare alignment weights on validation data, and stop")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        work, arguments.members, arguments.seed, arguments.epochs, ids=arguments.ids, same_day=arguments.same_day
    )
    experiment = Experiment(setting)
    if arguments.choose:
        experiment.choose()
        return
    found = report(experiment)
    (work / f"{setting.name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    show(found)


if __name__ == "__main__":
    main()
