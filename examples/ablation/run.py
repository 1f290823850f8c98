"""The ablation table: one factor at a time around a base, on the compiled graph of any project; README.md has it.

`python examples/ablation/run.py --project examples/job_board` or `--demo 2000`; `--texts` compares encoders of texts,
`--text-modes` an encoder inside the GNN with one before it.
Everything is kept under `--out`: a run that was killed goes on, and a second one only prints the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from modes import mode_study, shrunk
from runs import Study, compile_project, run_all
from table import pooled, write
from texts import text_study
from variants import BASE, chosen

from star_platform.demo.generate import Size, ensure
from star_platform.evaluation.config import EvaluationConfig
from star_platform.project import Project

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
EVALUATION = EvaluationConfig(baselines=(), negatives=5, max_examples=1500)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--project", type=Path, help="a folder with star.yaml")
    what.add_argument("--demo", type=int, metavar="MEMBERS", help="the generated marketplace, this large")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="these, beside the base")
    parser.add_argument("--texts", action="store_true", help="compare encoders of texts instead")
    parser.add_argument("--text-modes", action="store_true", help="compare encoders inside the GNN instead")
    parser.add_argument(
        "--adapters", type=Path, nargs="*", default=[], help="folders of `text finetune`, to compare with"
    )
    parser.add_argument("--epochs", type=int, default=BASE.max_epochs)
    parser.add_argument("--as-released", action="store_true", help="train by the project's own settings, on one thread")
    parser.add_argument("--out", type=Path, default=HERE / ".star")
    parser.add_argument("--table", action="store_true", help="train nothing, print what there is")
    given = parser.parse_args(arguments)
    project = _demo(given.out.resolve(), given.demo) if given.project is None else Project.open(given.project)
    training = BASE.model_copy(update={"max_epochs": given.epochs})
    if given.as_released:
        training = project.file.training.model_copy(update={"threads": BASE.threads})
    if given.texts:
        graph, objectives, variants = text_study(project, given.adapters)
    elif given.text_modes:
        graph, objectives, variants = mode_study(project, given.adapters)
        training = shrunk(training)
    else:
        (graph, objectives), variants = compile_project(project), chosen(given.only)
    name = project.file.project if given.demo is None else f"demo-{given.demo}"
    name += "-texts" if given.texts else "-text-modes" if given.text_modes else ""
    study = Study(graph, objectives, training, EVALUATION, given.out.resolve() / name)
    if not given.table:
        run_all(study, variants, given.seeds)
    write(pooled(study, variants, given.seeds), study.folder)


def _demo(out: Path, members: int) -> Project:
    """The repository's own project over a marketplace of this size, with artefacts of its own."""
    data = out / f"demo-{members}" / "data"
    ensure(data, Size(members))
    changes = {"variables": {"data": str(data)}, "artefacts": str(out / f"demo-{members}" / "artefacts")}
    project = Project.open(REPOSITORY)
    return Project(REPOSITORY, project.file.model_copy(update=changes))


if __name__ == "__main__":
    main()
