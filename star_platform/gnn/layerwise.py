"""Vectors from complete neighbourhoods, layer by layer, out of core and resumable.

Sampled inference computes the neighbours of a node again for everybody who has it as a neighbour. Here every layer is
computed once for all nodes (GraphSAINT's and DGL's "full inference", arXiv 1907.04931, section 4), and so are the keys
and values by which nodes are neighbours. Both lie in files, and the next layer is made of them chunk by chunk: the
attention reads the rows of neighbours where they are, in mapped memory. Memory is that of the edges of one chunk, and
what of the files the system keeps.

    <work>/progress.json         what it belongs to, and how far it is
    <work>/inputs.npy            float32[nodes, dim]: what the input encoders make of every node
    <work>/tower<t>-<d>.npy      float32[nodes, dim]: the hidden states after layer d of tower t
    <work>/tower<t>-<d>-messages.npy     float32[nodes, 2 inner]: the keys and values that layer d reads
    <work>/vectors.npy           float32[nodes, dim]: after the last layer

Chunks depend on the graph alone and a row on its chunk alone, so a run that was killed ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from star_platform.gnn import runtime
from star_platform.gnn.model_io import Model
from star_platform.gnn.neighbourhoods import CHUNK_NODES, Neighbourhoods
from star_platform.gnn.sequence import SequenceTensors
from star_platform.gnn.trees import BlockTensors, TreeReader
from star_platform.planning.canonical import digest
from star_platform.progress import SILENT, Progress, Task

FLUSH_SECONDS = 2.0
"""A killed run does at most so much again."""
Rows = NDArray[np.int64]
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class _Step:
    """One pass over some nodes: `make` on the thread ahead, `compute` and the rows of `out` here."""

    name: str
    out: Path
    nodes: Rows
    pieces: Sequence[slice]
    make: Callable[[slice], Any]
    compute: Callable[[Any], Tensor]
    width: int
    below: tuple[Path, ...] = ()
    """The files that `make` and `compute` read."""
    drops: tuple[Path, ...] = ()
    """Those of them that nobody reads once the step is done."""


@dataclass(frozen=True)
class _Made:
    """What a layer needs for one chunk."""

    itself: Tensor
    """`[n, dim]`: states of the chunk's nodes."""
    block: BlockTensors | None
    activities: SequenceTensors | None
    slices: tuple[int, ...]


class Layerwise:
    """A trained encoder over all neighbours at one moment."""

    def __init__(self, model: Model, reader: TreeReader, moment: int, work: Path) -> None:
        """`work`: a folder that outlives a crash; what it holds of other work is written over."""
        config = model.config
        self.model, self.encoder, self.reader = model, model.encoder, reader
        self.moment, self.work = moment, work
        ppr = config.strategy == "ppr"
        window = None if ppr else config.window_us  # walks have taken no older edge
        every = Neighbourhoods(reader.adjacency, moment, window, newest_only=ppr)
        # deepest first, as layers are; a relation without a fan-out in a hop is not seen there
        self.neighbourhoods = [
            every.of_relations([name for name, most in hop.items() if most]) if isinstance(hop, dict) else every
            for hop in reversed(config.fan_outs)
        ]
        self._hops, self._width = config.hops > 0, config.dim
        self._attends = self._hops and config.encoder != "mean"
        self._offsets = reader.adjacency.offsets
        self._device = next(self.encoder.parameters()).device

    def run(self, nodes: Rows, identity: str, progress: Progress = SILENT) -> Matrix:
        """Compute the vectors of `nodes` (global ids, ascending), of the nodes below them what is needed for it.

        `identity` says which model and graph these are; a folder of another identity is begun anew.

        Returns:
            float32 `[all nodes, dim]`, mapped from a file of the work folder; rows of other nodes are undefined.
        """
        steps = self._steps(nodes)
        ledger = _Ledger(self.work, digest([identity, self.moment, len(nodes), _checksum(nodes)]))
        at, piece = ledger.read()
        if at < len(steps) and not _there(steps[at], piece):
            at, piece = 0, 0
        with progress.task("embed by layers", total=sum(len(step.nodes) for step in steps), unit="rows") as task:
            for number, step in enumerate(steps):
                if number < at:
                    task.advance(len(step.nodes))
                else:
                    self._run(step, number, piece if number == at else 0, ledger, task)
        return np.asarray(np.load(self.work / "vectors.npy", mmap_mode="r"))

    # --- what is to be done -------------------------------------------------------------------------------------------

    def _steps(self, nodes: Rows) -> list[_Step]:
        """The input encoders, then the layers of each tower over what its targets need."""
        plans = [(tower, self._needs(targets)) for tower, targets in self._targets(nodes)]
        lowest = [needs[0] for _, needs in plans]
        inputs = self.work / "inputs.npy"
        steps = [self._inputs_step(inputs, np.unique(np.concatenate(lowest)) if len(lowest) > 1 else lowest[0])]
        for tower, needs in plans:
            below = inputs
            for depth in range(self.encoder.depth):
                if self._attends:
                    steps.append(self._messages_step(tower, depth, below, needs[depth]))
                steps.append(self._layer_step(tower, depth, below, needs[depth + 1]))
                below = steps[-1].out
        return steps

    def _targets(self, nodes: Rows) -> Iterator[tuple[int, Rows]]:
        """The nodes whose vectors come out of each tower."""
        of_node = np.asarray(self.encoder.tower_of)[np.searchsorted(self._offsets, nodes, side="right") - 1]
        for tower in range(len(self.encoder.towers)):
            yield tower, nodes[of_node == tower]

    def _needs(self, targets: Rows) -> list[Rows]:
        """The nodes whose state is needed before the first layer, after it, ...; the last are the targets."""
        needs = [targets]
        for depth in reversed(range(self.encoder.depth)):
            grown = self.neighbourhoods[depth].with_sources(needs[0]) if self._hops else needs[0]
            needs.insert(0, grown)
        return needs

    def _inputs_step(self, out: Path, nodes: Rows) -> _Step:
        """Chunks never hold two node types, so that each is one call of one input encoder."""
        bounds = np.searchsorted(nodes, self._offsets)
        pieces = [
            slice(first, min(first + CHUNK_NODES, int(bounds[t + 1])))
            for t in range(len(bounds) - 1)
            for first in range(int(bounds[t]), int(bounds[t + 1]), CHUNK_NODES)
        ]

        def make(piece: slice) -> tuple[int, Any]:
            gids = nodes[piece]
            t = int(np.searchsorted(self._offsets, gids[0], side="right")) - 1
            times = np.full(len(gids), self.moment, dtype=np.int64)
            node = self.reader.adjacency.node_types[t]
            return t, self.reader.inputs.read(node, gids - self._offsets[t], times)

        def compute(made: tuple[int, Any]) -> Tensor:
            encoded: Tensor = self.encoder.inputs[made[0]](runtime.moved(made[1], self._device))
            return encoded.float()

        return _Step("inputs", out, nodes, pieces, make, compute, self._width)

    def _messages_step(self, tower: int, depth: int, below: Path, nodes: Rows) -> _Step:
        """Keys and values of every node that is a neighbour of somebody."""
        layer, file = self.encoder.layer(tower, depth), _Rows(below)
        out = self.work / f"tower{tower}-{depth}-messages.npy"

        def compute(rows: Tensor) -> Tensor:
            return layer.messages(self._rounded(rows.to(self._device)))

        width = 2 * self.model.config.dim * self.model.config.multiplier
        name = f"tower {tower}, messages {depth}"
        return _Step(name, out, nodes, _cut(len(nodes)), lambda at: file.of(nodes[at]), compute, width, (below,))

    def _layer_step(self, tower: int, depth: int, below: Path, nodes: Rows) -> _Step:
        """One layer of one tower, from the states in `below` and what neighbours are."""
        last = depth == self.encoder.depth - 1
        out = self.work / ("vectors.npy" if last else f"tower{tower}-{depth}.npy")
        layer, states = self.encoder.layer(tower, depth), _Rows(below)
        near = self.neighbourhoods[depth] if self._hops else None
        source = self.work / f"tower{tower}-{depth}-messages.npy" if self._attends else below
        messages = _Rows(source)

        def make(piece: slice) -> _Made:
            here, block = nodes[piece], None
            slices = tuple(int(bound) for bound in np.searchsorted(here, self._offsets))
            if near is not None:
                block = self.reader.block(near.block(here), here.astype(np.int32))
            return _Made(states.of(here), block, self._activities(here) if last else None, slices)

        def compute(made: _Made) -> Tensor:
            made = runtime.moved(made, self._device)
            itself = self._rounded(made.itself)
            found: Tensor
            if made.block is None:
                found = layer(itself, None, made.slices)
            else:
                found = layer.mixed(itself, *self._neighbours(messages, made.block), made.slices)
            if not last:
                return found
            vectors = self.encoder.finish([found] * len(self.encoder.towers), made.slices)
            return self.model.finish(vectors, made.activities)[0]

        pieces = _cut(len(nodes)) if near is None else near.chunks(nodes)
        read = dict.fromkeys([below, source])
        drops = tuple(path for path in read if path.name != "inputs.npy")
        return _Step(
            f"tower {tower}, layer {depth}", out, nodes, pieces, make, compute, self._width, tuple(read), drops
        )

    def _rounded(self, rows: Tensor) -> Tensor:
        return rows.bfloat16() if self.encoder.bf16 else rows

    def _neighbours(self, messages: _Rows, block: BlockTensors) -> tuple[Tensor, BlockTensors]:
        """The messages that a block counts in, and the block: on the CPU all of them, as they lie in the file."""
        if self._device.type == "cpu":
            return messages.every, block
        sources, places = torch.unique(block.neighbours, return_inverse=True)
        rows = messages.of(sources.cpu().numpy()).to(self._device)
        return self._rounded(rows), replace(block, neighbours=places.to(torch.int32))

    def _activities(self, nodes: Rows) -> SequenceTensors | None:
        """What the temporal encoder reads of the nodes whose graph vectors are done."""
        if self.reader.sequence is None:
            return None
        return self.reader.sequence.read(nodes, np.full(len(nodes), self.moment, dtype=np.int64), 0)

    # --- doing it -----------------------------------------------------------------------------------------------------

    def _run(self, step: _Step, number: int, piece: int, ledger: _Ledger, task: Task) -> None:
        """The pieces of a step from `piece` on."""
        out = _open(step.out, (int(self._offsets[-1]), step.width))
        task.advance(step.pieces[piece - 1].stop if piece else 0)
        task.note(layer=step.name)
        flushed = time.monotonic()
        for done, made in enumerate(runtime.ahead(step.make, step.pieces[piece:], depth=1), piece + 1):
            rows = step.nodes[step.pieces[done - 1]]
            out[rows] = step.compute(made).float().cpu().numpy()
            task.advance(len(rows))
            if time.monotonic() - flushed > FLUSH_SECONDS:
                out.flush()
                ledger.write(number, done)
                flushed = time.monotonic()
        out.flush()
        ledger.write(number + 1, 0)
        for path in step.drops:
            path.unlink(missing_ok=True)


class _Rows:
    """The rows of a file that an earlier step wrote; opened when the first is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def every(self) -> Tensor:
        """All of them, mapped."""
        return torch.from_numpy(np.load(self._path, mmap_mode="c"))  # "c": torch warns of memory that is read-only

    def of(self, nodes: NDArray[Any]) -> Tensor:
        """Some of them, in memory of torch's: how operands lie may decide on the last bit of a product."""
        rows = torch.empty(len(nodes), self.every.shape[1])
        np.take(self.every.numpy(), nodes, axis=0, out=rows.numpy(), mode="clip")
        return rows


class _Ledger:
    """How far the work in a folder is: the step under way, and how many of its pieces are on disk."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._path, self._identity = folder / "progress.json", identity

    def read(self) -> tuple[int, int]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0, 0
        return (int(found["step"]), int(found["piece"])) if found.get("identity") == self._identity else (0, 0)

    def write(self, step: int, piece: int) -> None:
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps({"identity": self._identity, "step": step, "piece": piece}) + "\n", "utf-8")
        draft.replace(self._path)


def _open(path: Path, shape: tuple[int, int]) -> np.memmap[Any, np.dtype[np.float32]]:
    """A file of float32 rows, kept if it is there already in this shape."""
    try:
        found: np.memmap[Any, np.dtype[np.float32]] = np.lib.format.open_memmap(path, mode="r+")
        if found.shape == shape and found.dtype == np.float32:
            return found
    except (OSError, ValueError):
        pass
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def _there(step: _Step, piece: int) -> bool:
    """Whether a step can go on: somebody may have tidied up."""
    return all(path.exists() for path in step.below) and (piece == 0 or step.out.exists())


def _cut(count: int) -> list[slice]:
    return [slice(first, min(first + CHUNK_NODES, count)) for first in range(0, count, CHUNK_NODES)]


def _checksum(nodes: Rows) -> str:
    return hashlib.sha256(np.ascontiguousarray(nodes).tobytes()).hexdigest()
