"""`star-platform text finetune`: an adapter for the text encoder, learned from what members did."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from star_platform.cli.options import JsonOption, ProjectOption
from star_platform.cli.output import note, say, say_json

if TYPE_CHECKING:
    from star_platform.project import Project
    from star_platform.text.finetune.finetune import Done


def finetune(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where adapters go; adapters/ of the project if absent.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--verify", metavar="ADAPTER", help="Only check that an adapter is served as it was trained."),
    ] = None,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Fine-tune the text encoder on who acted on what, as `text.finetune` of star.yaml says. A killed run goes on.

    Several processes share the steps under `torchrun --standalone --nproc-per-node N -m star_platform.cli.app ...`.

    Example: star-platform text finetune
    """
    from star_platform.project import Project

    place = Project.open(project)
    if check is not None:
        _verify(place, check, as_json)
        return
    from star_platform.cli.console import open_progress
    from star_platform.project.finetuning import finetune_encoder

    done = finetune_encoder(place, out, open_progress())
    if os.environ.get("RANK", "0") != "0":
        return  # another process of torchrun: process 0 says it
    if as_json:
        say_json({"adapter": str(done.folder), "star_yaml": star_yaml(done, place.root), **done.manifest})
        return
    _print(done)
    note("Next, in star.yaml:")
    say("\n".join(["text:", *(f"  {line}" for line in star_yaml(done, place.root))]))


def _verify(place: Project, folder: Path, as_json: bool) -> None:
    from star_platform.project.finetuning import verify_adapter

    found = verify_adapter(place, folder)
    if as_json:
        say_json({"adapter": str(folder), **vars(found)})
        return
    say(f"{found.probes} texts, least cosine {found.least_cosine:.6f}: served as trained")


def star_yaml(done: Done, root: Path) -> list[str]:
    """Lines below `text:` that make a release use the adapter, read as it was trained."""
    folder = done.folder.resolve()
    named = f"./{folder.relative_to(root)}" if folder.is_relative_to(root) else str(folder)
    lines = [f"adapter: {named}"]
    prompts = {name: prompt for name, prompt in done.manifest["prompts"].items() if prompt}
    if prompts:
        lines += ["prompts:", *(f"  {name}: {_quoted(prompt)}" for name, prompt in sorted(prompts.items()))]
    return [*lines, "limits:", *(f"  {name}: {limit}" for name, limit in sorted(done.manifest["limits"].items()))]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # every JSON string is a YAML string


def _print(done: Done) -> None:
    manifest = done.manifest
    data, validation, training = manifest["data"], manifest["validation"], manifest["training"]
    told, held = data["training"], data["validation"]
    say(f"adapter         {done.folder}")
    say(f"examples        {told['positives']:,} + {told['negatives']:,}, validated on {validation['rows']:,}")
    say(f"split           by {data['split']['by']}, {held['positives']:,} of the validated acted")
    undated = [tower for tower, known in data["point_in_time"].items() if not known]
    if undated:
        say(f"no versions     {', '.join(undated)}: their texts are those of today, whatever the time of the action")
    for name in ("frozen", "finetuned", "gain"):
        say(f"{_AUC[name]:<15} {_figure(validation[name])}")
    say(f"best at         step {training['best_step']} of {training['steps']}")
    say(f"calibration     subtract {data['sampling']['logit_correction']:.3f} from a logit to read it as a chance")


_AUC = {"frozen": "AUC frozen", "finetuned": "AUC tuned", "gain": "gain"}


def _figure(entry: dict[str, Any]) -> str:
    """A figure with its interval, as far as there is one."""
    given = entry.get("interval", entry)
    value = entry.get("auc", given.get("value"))
    if value is None:
        return "none: the validation rows lack a class"
    if given.get("low") is None:
        return f"{value:.4f}"
    return f"{value:.4f} [{given['low']:.4f}, {given['high']:.4f}]"
