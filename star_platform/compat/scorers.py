"""Frozen consumers: the model that somebody trained on old vectors, called as it is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from star_platform.compat.model import Float32Array, Float64Array
from star_platform.errors import CompatError, DependencyMissing

BLOCK = 8_192
"""Rows handed to a scorer at a time."""
FORMS = 'write `{python: "package.module:function"}` or `{onnx: "path/to/model.onnx"}`'


class FrozenScorer(Protocol):
    """A trained model that is not changed by what happens here; each row is scored for itself."""

    def score(self, vectors: Mapping[str, Float32Array], columns: Mapping[str, NDArray[Any]]) -> Float64Array:
        """float64 `[rows]` from the vectors of each node type, `[rows, d]`, and further columns, `[rows]` each."""


def open_scorer(spec: Mapping[str, str], root: Path) -> FrozenScorer:
    """The scorer that a consumer file names.

    Args:
        spec: `{"python": "pkg.module:function"}`: the function, called without arguments, gives a callable with the
            signature of `FrozenScorer.score`. `{"onnx": "path"}`: a model with one float input `[rows, d]` per node
            type, named like it, one input per column, and one output of scores (or one named `score`): `[rows]`,
            `[rows, 1]`, or `[rows, 2]` with the chance of a positive last.
        root: the folder that modules and paths are relative to.

    Raises:
        CompatError: C030 when it cannot be opened.
        DependencyMissing: D020 for an ONNX file without onnxruntime.
    """
    if set(spec) == {"python"}:
        return _Checked(_PythonScorer(spec["python"], root), spec["python"])
    if set(spec) == {"onnx"}:
        return _Checked(_OnnxScorer(root / spec["onnx"]), spec["onnx"])
    raise CompatError("C030", f"a scorer cannot be opened from {dict(spec)}", hint=FORMS)


class _Checked:
    """Hands rows over in blocks, and lets only one finite number per row through."""

    def __init__(self, inner: FrozenScorer, name: str) -> None:
        self._inner, self._name = inner, name

    def score(self, vectors: Mapping[str, Float32Array], columns: Mapping[str, NDArray[Any]]) -> Float64Array:
        rows = len(next(iter(vectors.values())))
        out = np.empty(rows)
        for first in range(0, rows, BLOCK):
            part = slice(first, min(first + BLOCK, rows))
            out[part] = self._block(
                {node: values[part] for node, values in vectors.items()},
                {name: values[part] for name, values in columns.items()},
            )
        return out

    def _block(self, vectors: Mapping[str, Float32Array], columns: Mapping[str, NDArray[Any]]) -> Float64Array:
        rows = len(next(iter(vectors.values())))
        try:
            scores = np.asarray(self._inner.score(vectors, columns), dtype=np.float64)
        except Exception as error:  # the consumer's own code may raise anything
            raise CompatError(
                "C031",
                f"scorer {self._name} fails: {type(error).__name__}: {error}",
                hint="it gets float32 [rows, d] per node type and the columns of its cases; run it on a few rows",
            ) from error
        if scores.shape != (rows,) or not np.isfinite(scores).all():
            raise CompatError(
                "C031",
                f"scorer {self._name} answers {rows} rows with an array {list(scores.shape)}"
                + ("" if np.isfinite(scores).all() else " that holds numbers that are not finite"),
                hint="one finite number per row",
            )
        return scores


class _PythonScorer:
    def __init__(self, entry: str, root: Path) -> None:
        module, _, function = entry.partition(":")
        try:
            with _importable(root):
                factory = getattr(importlib.import_module(module), function)
                self.score: Callable[..., Any] = factory()
        except Exception as error:  # importing runs the consumer's own code
            raise CompatError(
                "C030", f"scorer {entry!r} cannot be opened: {type(error).__name__}: {error}", hint=FORMS
            ) from error


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """Modules beside the project's file can be imported, as if Python had been started there."""
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(root))


class _OnnxScorer:
    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise DependencyMissing(
                "D020",
                f"onnxruntime cannot be imported: {error}",
                hint='install the extra: pip install "star-platform[onnx]"',
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the order of sums, and so the scores, does not depend on the machine
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own per kind of damage
            raise CompatError("C030", f"scorer {path} cannot be opened: {error}", hint=FORMS) from error
        outputs = [output.name for output in self._session.get_outputs()]
        if len(outputs) > 1 and "score" not in outputs:
            raise CompatError("C030", f"{path} has outputs {', '.join(outputs)}", hint="name the one to use `score`")
        self._output = outputs[0] if len(outputs) == 1 else "score"

    def score(self, vectors: Mapping[str, Float32Array], columns: Mapping[str, NDArray[Any]]) -> Float64Array:
        given = {**columns, **vectors}
        feed = {each.name: _shaped(given[each.name], each) for each in self._session.get_inputs()}
        (scores,) = self._session.run([self._output], feed)
        answer = np.asarray(scores, dtype=np.float64)
        return answer[:, -1] if answer.ndim == 2 and answer.shape[1] in (1, 2) else answer


_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


def _shaped(values: NDArray[Any], wanted: Any) -> NDArray[Any]:
    """A column as the type and rank of a model's input."""
    shaped = values[:, None] if values.ndim == 1 and len(wanted.shape) == 2 else values
    return np.ascontiguousarray(shaped, dtype=_TYPES.get(wanted.type))
