"""Frozen consumers as they come: a function of a Python module, or an ONNX file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from star_platform.compat.scorers import open_scorer
from star_platform.errors import CompatError, DependencyMissing

VECTORS = {"member": np.random.default_rng(0).normal(size=(20_000, 4)).astype(np.float32)}
AGE = {"age": np.arange(20_000, dtype=np.float64)}


def write_module(root: Path, name: str, body: str) -> None:
    (root / f"{name}.py").write_text(
        "import numpy as np\n\n\ndef load():\n    def score(vectors, columns):\n"
        + "".join(f"        {line}\n" for line in body.splitlines())
        + "    return score\n"
    )


def write_onnx(path: Path, *, column: bool = False, outputs: str = "[rows]") -> np.ndarray:
    """A logistic model on the vector of a member, and on their age where asked; gives its weights."""
    weights = np.array([[1.0], [-2.0], [0.5], [3.0]], dtype=np.float32)
    inputs = [helper.make_tensor_value_info("member", TensorProto.FLOAT, ["rows", 4])]
    nodes = [helper.make_node("MatMul", ["member", "w"], ["product"])]
    last = "product"
    if column:
        inputs.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, ["rows", 1]))
        nodes.append(helper.make_node("Add", ["product", "age"], ["sum"]))
        last = "sum"
    nodes.append(helper.make_node("Sigmoid", [last], ["chance"]))
    shapes: dict[str, list[Any]] = {"score": ["rows", 1]}
    if outputs == "[rows]":
        nodes.append(helper.make_node("Squeeze", ["chance", "axis"], ["score"]))
        shapes = {"score": ["rows"]}
    elif outputs == "[rows, 2]":
        nodes.append(helper.make_node("Sub", ["one", "chance"], ["other"]))
        nodes.append(helper.make_node("Concat", ["other", "chance"], ["score"], axis=1))
        shapes = {"score": ["rows", 2]}
    else:
        nodes.append(helper.make_node("Identity", ["chance"], ["score"]))
    if outputs == "two, none named score":
        nodes.append(helper.make_node("Identity", ["chance"], ["a"]))
        nodes.append(helper.make_node("Identity", ["chance"], ["b"]))
        shapes = {"a": ["rows", 1], "b": ["rows", 1]}
    graph = helper.make_graph(
        nodes,
        "frozen",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [4, 1], weights.ravel().tolist()),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
            helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return weights[:, 0]


def test_a_python_function_is_found_beside_the_project(tmp_path: Path) -> None:
    write_module(tmp_path, "frozen_feed", "return vectors['member'][:, 0] + columns['age']")
    before = list(sys.path)
    scores = open_scorer({"python": "frozen_feed:load"}, tmp_path).score(VECTORS, AGE)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, VECTORS["member"][:, 0] + AGE["age"], rtol=1e-6)
    assert sys.path == before


@pytest.mark.parametrize("outputs", ["[rows]", "[rows, 1]", "[rows, 2]"])
def test_an_onnx_file_is_scored_whatever_the_shape_of_its_answer(tmp_path: Path, outputs: str) -> None:
    weights = write_onnx(tmp_path / "model.onnx", outputs=outputs)
    scores = open_scorer({"onnx": "model.onnx"}, tmp_path).score(VECTORS, {})
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-VECTORS["member"] @ weights)), atol=1e-5)


def test_columns_become_the_type_and_shape_that_the_model_takes(tmp_path: Path) -> None:
    weights = write_onnx(tmp_path / "model.onnx", column=True)
    ages = {"age": np.random.default_rng(1).integers(-2, 2, 20_000)}
    scores = open_scorer({"onnx": "model.onnx"}, tmp_path).score(VECTORS, ages)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-VECTORS["member"] @ weights - ages["age"])), atol=1e-5)
    with pytest.raises(CompatError, match=r"C031.*age"):
        open_scorer({"onnx": "model.onnx"}, tmp_path).score(VECTORS, {})


@pytest.mark.parametrize(
    "spec",
    [
        {"python": "no_such_module:load"},
        {"python": "frozen_broken:load"},
        {"python": "frozen_broken"},
        {"onnx": "missing.onnx"},
        {"onnx": "damaged.onnx"},
        {"onnx": "two.onnx"},
        {"pickle": "model.pkl"},
        {},
    ],
)
def test_what_cannot_be_opened_is_said(tmp_path: Path, spec: dict[str, str]) -> None:
    (tmp_path / "frozen_broken.py").write_text("raise ValueError('weights are not there')\n")
    (tmp_path / "damaged.onnx").write_bytes(b"not a model")
    write_onnx(tmp_path / "two.onnx", outputs="two, none named score")
    with pytest.raises(CompatError, match="C030"):
        open_scorer(spec, tmp_path)


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("frozen_raises", "return columns['salary']", "KeyError"),
        ("frozen_shape", "return vectors['member']", "array"),
        ("frozen_nan", "return vectors['member'][:, 0] * np.nan", "not finite"),
    ],
)
def test_what_fails_is_said(tmp_path: Path, name: str, body: str, reason: str) -> None:
    write_module(tmp_path, name, body)
    scorer = open_scorer({"python": f"{name}:load"}, tmp_path)
    with pytest.raises(CompatError, match=f"C031.*{reason}"):
        scorer.score(VECTORS, AGE)


def test_a_missing_onnxruntime_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_onnx(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DependencyMissing, match=r"D020.*star-platform\[onnx\]"):
        open_scorer({"onnx": "model.onnx"}, tmp_path)
