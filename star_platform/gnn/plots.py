"""Training curves from a model's history, as PNG and SVG.

Three panels over the epochs: the loss of each objective; validation AUC with the fan-out as steps on a second axis; the
shares of sampling, gathering and computing in the work of a step. What a history does not tell is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from star_platform.errors import DependencyMissing, TrainingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Entries = Sequence[Mapping[str, Any]]

INK, FAINT = "#2b2f36", "#d9dce1"
COLOURS = ("#1f5fa8", "#d1661c", "#2f8f5b", "#8a4fa3", "#b3263b", "#6b7280")
WORK = {"sample": "#e0a030", "gather": "#7fb3d5", "compute": "#1f5fa8"}
"""Colours of what a step's time is spent on."""
NAMES = {"sample": "sampling", "gather": "gathering", "compute": "computing"}
WIDTH, PANEL = 8.0, 2.6
"""Of the figure, and the height of a panel, in inches."""


def read_history(folder: Path) -> dict[str, Any]:
    """`history.json` of a model's folder; raises TrainingError M036 where it cannot be drawn."""
    path = folder / "history.json"
    try:
        history: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = bool(history["validations"])
        manifest = folder / "manifest.json"  # seconds are no result: they stand beside the files
        facts = json.loads(manifest.read_text(encoding="utf-8"))["details"] if manifest.exists() else {}
        for entry, timing in zip(history["validations"], facts.get("timing", ()), strict=False):
            entry.update(timing)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError("M036", f"{path} cannot be read: {error}", hint="train the model again") from error
    if not found:
        raise TrainingError("M036", f"{path} has no validation", hint="train the model again")
    return history


def plot_history(history: Mapping[str, Any], target: Path, title: str = "Training") -> tuple[Path, Path]:
    """Draw `history` into `target` with the endings `.png` and `.svg`; the two paths.

    Raises:
        DependencyMissing: D040 without matplotlib.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyMissing(
            "D040", f"drawing needs matplotlib: {error}", hint='install the extra: pip install "star-platform[plots]"'
        ) from error
    entries: Entries = history["validations"]
    panels = [_losses, _quality, *([_work] if any("shares" in entry for entry in entries) else [])]
    style = {
        "font.size": 9.5,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "svg.hashsalt": "star-platform",
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(WIDTH, PANEL * len(panels) + 0.5), dpi=150, layout="constrained")
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for draw, axis in zip(panels, axes, strict=True):
            _bare(axis)
            draw(axis, entries)
        axes[-1].set_xlabel("epochs")
        axes[-1].set_xlim(0, max(_epochs(entries)) * 1.005)
        paths = target.with_suffix(".png"), target.with_suffix(".svg")
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths


def _bare(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, axis="y", color=FAINT, linewidth=0.7)
    axis.set_axisbelow(True)


def _epochs(entries: Entries) -> list[float]:
    return [float(entry["epoch"]) for entry in entries]


def _begins(entries: Entries) -> list[float]:
    """Where the stretch of steps before each validation began, in epochs."""
    return [0.0, *_epochs(entries)[:-1]]


def _legend(axis: Axes, **more: Any) -> None:
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.0, 1.18), ncols=6, handlelength=1.4, **more)


def _losses(axis: Axes, entries: Entries) -> None:
    """The mean loss of each objective between validations."""
    names = sorted({name for entry in entries for name in entry.get("train_loss", {})})
    for place, name in enumerate(names):
        told = [(entry["epoch"], entry["train_loss"][name]) for entry in entries if name in entry["train_loss"]]
        epochs, losses = zip(*told, strict=True)
        axis.plot(epochs, losses, color=COLOURS[place % len(COLOURS)], marker=".", markersize=4, label=name)
    axis.set_ylabel("training loss")
    _legend(axis)


def _quality(axis: Axes, entries: Entries) -> None:
    """Validation AUC, the best one marked, and the fan-out of the steps before each."""
    epochs, aucs = _epochs(entries), [float(entry["auc"]) for entry in entries]
    names = sorted({name for entry in entries for name in entry.get("auc_by_objective", {})})
    for place, name in enumerate(names if len(names) > 1 else ()):
        told = [entry["auc_by_objective"].get(name) for entry in entries]
        axis.plot(epochs, told, color=COLOURS[place % len(COLOURS)], linewidth=0.9, alpha=0.7, label=name)
    axis.plot(epochs, aucs, color=INK, marker=".", markersize=4, linewidth=1.8, label="mean" if names[1:] else "AUC")
    best = max(range(len(aucs)), key=aucs.__getitem__)
    axis.plot(epochs[best], aucs[best], "o", color=INK, markerfacecolor="white", markersize=7)
    below = aucs[best] > (max(aucs) + min(aucs)) / 2
    axis.annotate(
        f"best {aucs[best]:.4f}",
        (epochs[best], aucs[best]),
        textcoords="offset points",
        xytext=(0, -13 if below else 9),
        ha="right" if epochs[best] > max(epochs) / 2 else "left",
        fontsize=9,
    )
    axis.set_ylabel("validation AUC")
    axis.margins(y=0.12)
    steps = [entry.get("fan_outs") for entry in entries]
    if any(steps):
        _fan_outs(axis, entries)
    else:
        _legend(axis)


def _fan_outs(axis: Axes, entries: Entries) -> None:
    """On a second axis: neighbours of each hop, constant between validations; of relations the most."""
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    other = axis.twinx()
    other.spines[["top", "left"]].set_visible(False)
    axis.set_zorder(other.get_zorder() + 1)
    axis.patch.set_visible(False)
    hops = max(len(entry.get("fan_outs", ())) for entry in entries)
    edges = np.asarray([*_begins(entries), _epochs(entries)[-1]])
    for hop in range(hops):
        values = [_most(entry["fan_outs"][hop]) if hop < len(entry.get("fan_outs", ())) else 0 for entry in entries]
        colour, filled = ("#9aa3ad", "#9aa3ad"), hop == 0
        other.stairs(values, edges, color=colour[0], linewidth=1.2, linestyle="-" if filled else ":", baseline=None)
        if filled:
            other.stairs(values, edges, color=colour[1], fill=True, alpha=0.18, baseline=0)
        axis.plot([], [], color=colour[0], linestyle="-" if filled else ":", label=f"fan-out, hop {hop + 1}")
    other.set_ylim(0)
    other.margins(y=0.15)
    other.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    other.set_ylabel("neighbours", color="#6b7280")
    other.tick_params(colors="#6b7280")
    _legend(axis)


def _most(hop: Any) -> int:
    return max(hop.values(), default=0) if isinstance(hop, Mapping) else int(hop)


def _work(axis: Axes, entries: Entries) -> None:
    """Shares of sampling, gathering and computing, stacked."""
    told = [entry for entry in entries if "shares" in entry]
    begins = [begin for begin, entry in zip(_begins(entries), entries, strict=True) if "shares" in entry]
    epochs = [moment for begin, entry in zip(begins, told, strict=True) for moment in (begin, float(entry["epoch"]))]
    parts = {
        name: [float(entry["shares"].get(name, 0.0)) for entry in told for _ in range(2)]
        for name in WORK
        if any(name in entry["shares"] for entry in told)
    }
    labels = [f"{NAMES[name]} {100 * sum(values) / len(values):.1f} %" for name, values in parts.items()]
    axis.stackplot(epochs, *parts.values(), colors=[WORK[name] for name in parts], labels=labels, linewidth=0)
    axis.set_ylim(0, 1)
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axis.set_ylabel("share of work")
    axis.grid(visible=False)
    _legend(axis)
