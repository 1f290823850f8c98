"""`train`: what the training settings mean, and the model that the next release would have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import note, plural, say, say_json

if TYPE_CHECKING:
    from star_platform.project import Project
    from star_platform.release.trial import Trial


def train(
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the settings, what they mean and what a step costs, and stop.")
    ] = False,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets with their origin, and stop.")] = False,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="As if star.yaml named this preset.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the training curves into this file, as PNG and SVG.")
    ] = None,
    branch: Annotated[
        list[str] | None, typer.Option("--branch", "-b", help="Only these branches (repeat it); all ready ones else.")
    ] = None,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Train the model of the next release, without releasing it; the release then finds it in the store.

    Example: star-platform train --plot training.png
    """
    from star_platform.cli.training_text import presets_json, presets_text

    if presets:
        if as_json:
            say_json({"presets": presets_json()})
        else:
            say(presets_text())
        return
    from star_platform.project import Project
    from star_platform.project.training import with_preset

    place = Project.open(project)
    place = with_preset(place, preset) if preset else place
    if explain:
        _explain(place, as_json, by_option=preset is not None)
        return
    from star_platform.cli.console import open_progress
    from star_platform.gnn.plots import plot_history, read_history
    from star_platform.project.training import train_only

    done = train_only(place, branch, open_progress())
    history = read_history(done.model.path)
    drawn = plot_history(history, plot, f"Training of {place.file.project}") if plot else ()
    if as_json:
        say_json(_record(done, history, drawn))
        return
    _print(done, history, drawn)
    first = f"`preset: {preset}` below `training:` in star.yaml, then " if preset else ""
    note(f"Next: {first}star-platform release, which reuses the model")


def _explain(place: Project, as_json: bool, *, by_option: bool) -> None:
    from star_platform.cli.training_text import explain_json, explain_text
    from star_platform.gnn.explained import explained
    from star_platform.project.training import given_settings, sizes

    config, given = place.file.training, given_settings(place)
    groups, found = explained(config, given), sizes(place)
    if as_json:
        say_json(explain_json(place.file.project, config, groups, found))
        return
    say(explain_text(place.file.project, config, groups, found))
    if by_option:
        note(f"Nothing was changed. Next: `preset: {config.preset}` below `training:` in star.yaml")


def _record(done: Trial, history: dict[str, Any], drawn: tuple[Path, ...]) -> dict[str, Any]:
    details = done.model.details
    return {
        "reused": done.reused,
        "seconds": round(done.seconds, 3),
        "built": list(done.built),
        "validation_auc": details["validation_auc"],
        "validation_auc_by_objective": details["validation_auc_by_objective"],
        "best_epoch": details["best_epoch"],
        "validations": len(history["validations"]),
        "parameters": details["parameters"],
        "shares": _shares(history),
        "model": str(done.model.path),
        "history": str(done.model.path / "history.json"),
        "plots": [str(path) for path in drawn],
    }


def _shares(history: dict[str, Any]) -> dict[str, float]:
    """Of sampling, gathering and computing in the work of all steps: the mean over validations."""
    told = [entry["shares"] for entry in history["validations"] if entry.get("shares")]
    names = [name for name in ("sample", "gather", "compute") if any(name in each for each in told)]
    return {name: round(sum(each.get(name, 0.0) for each in told) / len(told), 4) for name in names}


def _print(done: Trial, history: dict[str, Any], drawn: tuple[Path, ...]) -> None:
    details, validations = done.model.details, history["validations"]
    by_name = details["validation_auc_by_objective"]
    parts = "" if len(by_name) < 2 else " (" + ", ".join(f"{name} {auc:.4f}" for name, auc in by_name.items()) + ")"
    say(f"validation AUC  {details['validation_auc']:.4f}{parts}")
    say(f"best at         epoch {details['best_epoch']:g}, of {plural(len(validations), 'validation')}")
    say(f"time            {'none: the model was in the store' if done.reused else f'{done.seconds:,.1f} s'}")
    shares = _shares(history)
    if shares:
        said = {"sample": "sampling", "gather": "gathering", "compute": "computing"}
        say("work of a step  " + ", ".join(f"{said[name]} {100 * share:.1f} %" for name, share in shares.items()))
    say(f"history         {done.model.path / 'history.json'}")
    for path in drawn:
        say(f"plot            {path}")
