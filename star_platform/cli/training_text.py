"""`train --explain` and `train --presets` as text and as JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from star_platform.cli.output import columns, plural
from star_platform.gnn.explained import Setting
from star_platform.gnn.presets import PRESETS

if TYPE_CHECKING:
    from star_platform.gnn.config import TrainingConfig
    from star_platform.gnn.step_size import StepSize
    from star_platform.project.training import Sizes

WIDTH = 110


def presets_text() -> str:
    """Every preset with its row, its figure, when to choose it and what to know."""
    parts = []
    for name, preset in PRESETS.items():
        lines = [f"{preset.row}: {preset.figure}", f"choose  {preset.choose}", f"note    {preset.note}"]
        wrapped = [textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent=" " * 10) for line in lines]
        parts.append("\n".join([name, *wrapped]))
    return "\n\n".join([*parts, "Published figures are of their authors' data: they rank settings, not your results."])


def presets_json() -> list[dict[str, Any]]:
    """The same as data, with the settings."""
    return [{"preset": name, **asdict(preset)} for name, preset in PRESETS.items()]


def explain_text(
    project: str, config: TrainingConfig, groups: Mapping[str, Sequence[Setting]], sizes: Sizes | None
) -> str:
    """Settings by heading, then sampler, fan-out and the size of a step."""
    parts = [_head(project, config, groups)]
    rows = {heading: [_row(item) for item in settings] for heading, settings in groups.items()}
    table = columns([row for each in rows.values() for row in each]).splitlines()
    for heading, each in rows.items():
        parts.append("\n".join([heading, *(f"  {line}" for line in table[: len(each)])]))
        table = table[len(each) :]
    parts.append("\n".join(["sampler", *map(_indented, (sampler(config), schedule(config, sizes)))]))
    parts.append(_steps(config, sizes))
    return "\n\n".join(parts)


def explain_json(
    project: str, config: TrainingConfig, groups: Mapping[str, Sequence[Setting]], sizes: Sizes | None
) -> dict[str, Any]:
    """The same as data."""
    return {
        "project": project,
        "preset": config.preset,
        "settings": {
            item.key: {"value": item.value, "origin": item.origin, "means": item.means, "group": heading}
            for heading, settings in groups.items()
            for item in settings
        },
        "sampler": sampler(config),
        "fan_out": schedule(config, sizes),
        "graph": None if sizes is None else {"release": sizes.release, "nodes": dict(sizes.counts.nodes)},
        "steps_per_epoch": None if sizes is None else sizes.steps_per_epoch,
        "step": {} if sizes is None else {name: asdict(step) for name, step in sizes.steps.items()},
        "presets": list(PRESETS),
    }


def _head(project: str, config: TrainingConfig, groups: Mapping[str, Sequence[Setting]]) -> str:
    origins = [item.origin for settings in groups.values() for item in settings if not item.off]
    counts = f"{origins.count('star.yaml')} settings from star.yaml, {origins.count('preset')} from a preset, "
    lines = [f"Training of {project}: {counts}{origins.count('default')} defaults"]
    if config.preset:
        preset = PRESETS[config.preset]
        lines += [f"preset {config.preset}", *map(_indented, (preset.about, preset.note))]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return textwrap.indent(textwrap.fill(text, WIDTH), "  ")


def _row(item: Setting) -> tuple[str, str, str, str]:
    return item.key, "off" if item.off else json.dumps(item.value).strip('"'), item.origin, item.means


def sampler(config: TrainingConfig) -> str:
    """Which neighbours a step sees, in a sentence."""
    if config.encoder == "ltgnn":
        drawn = f"{config.ltgnn.neighbours} neighbours drawn per node and step, the rest remembered"
        return f"propagation over the edges before the example's stretch of time; {drawn}"
    if not config.fan_outs:
        return "no neighbours: every node by its own features"
    which = {
        "uniform": "neighbours drawn uniformly",
        "latest": "the latest neighbours",
        "weighted": "neighbours drawn by edge weight",
        "ppr": f"neighbours among the {config.ppr.top_k} best by personalised PageRank",
    }[config.strategy]
    back = f", at most {config.window} before" if config.window else ""
    when = "the example" if config.moment == "example" else "the earliest example of the step"
    what = "all relations together" if config.budget == "joint" else "each relation"
    return f"{which}, strictly earlier than {when}{back}; {hops(config)} of {what}"


def hops(config: TrainingConfig) -> str:
    """The fan-outs, such as `20, then 10`."""
    return ", then ".join(str(hop) if isinstance(hop, int) else _by_relation(hop) for hop in config.fan_outs)


def _by_relation(hop: Mapping[str, int]) -> str:
    return "(" + ", ".join(f"{name} {count}" for name, count in hop.items()) + ")"


def schedule(config: TrainingConfig, sizes: Sizes | None) -> str:
    """How the fan-out develops, in a sentence."""
    adaptive = config.adaptive
    if not adaptive.enabled or not config.fan_outs or config.encoder == "ltgnn":
        return "the fan-out is the same in every step"
    most = max(hop if isinstance(hop, int) else max(hop.values(), default=0) for hop in config.fan_outs)
    raises = max(0, math.ceil((most - adaptive.start) / adaptive.grow))
    total = None if sizes is None or sizes.steps_per_epoch is None else sizes.steps_per_epoch * config.max_epochs
    share = f"the last {100 * adaptive.full_share:.0f} % of all steps"
    last = share if total is None else f"step {total - math.ceil(adaptive.full_share * total):,} of {total:,}"
    gain = f"gains no more than {adaptive.tolerance:g} of AUC (times {adaptive.decay:g} at each)"
    return (
        f"fan-outs of at most {min(adaptive.start, most)} at first; {adaptive.grow} more whenever validation {gain};"
        f" full after {raises} raises, and from {last} on at the latest"
    )


def _steps(config: TrainingConfig, sizes: Sizes | None) -> str:
    if sizes is None:
        return "a step\n  its size is known once a release is active: it depends on the graph"
    nodes, edges = sum(sizes.counts.nodes.values()), sum(sizes.counts.edges.values())
    lines = [f"a step, at most, on the graph of {sizes.release} ({nodes:,} nodes, {edges:,} edges with reverses)"]
    for name, step in sizes.steps.items():
        lines += [f"  {name}", *(f"    {line}" for line in _step_lines(step))]
    if sizes.steps_per_epoch is not None:
        lines.append(f"  {sizes.steps_per_epoch:,} steps per epoch, at most {plural(config.max_epochs, 'epoch')}")
    return "\n".join(lines)


def _step_lines(step: StepSize) -> list[str]:
    rows = [("seeds", f"{step.seeds:,}", "sources, destinations and drawn negatives")]
    for number, (here, below) in enumerate(zip(step.hops, step.hops[1:], strict=False), 1):
        rows.append((f"hop {number}", f"{here.edges:,} edges", f"to {below.items:,} items"))
    cost = f"about {size(step.flops, 1000, 'FLOP')} of products; about {size(step.memory, 1024, 'B')} of hidden states"
    return [*columns(rows).splitlines(), cost]


def size(amount: float, step: int, unit: str) -> str:
    """Such as `3.4 GFLOP` or `120 MB`."""
    for prefix in ("", "k", "M", "G", "T"):
        if amount < step or prefix == "T":
            break
        amount /= step
    return f"{amount:.3g} {prefix}{unit}"
