"""How pixels become what a foreign network wants: what its file tells, and what `--preprocess` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolchain.adopt.normalisation import KNOWN, candidates, parse
from toolchain.adopt.onnx_file import _normalises, read_foreign
from toolchain.errors import BadInputError


def test_normalisation_inside_leaves_the_order_of_colours(foreign: Path) -> None:
    assert [one.name for one in candidates(read_foreign(foreign / "keras.onnx"))] == ["raw", "raw,colour=BGR"]


@pytest.mark.parametrize(("mean", "expected"), [(120.0, "raw"), (0.45, "unit"), (0.01, None)])
def test_a_first_batchnorm_tells_of_pixels_that_are_not_normalised_yet(
    mean: float, expected: str | None, tmp_path: Path
) -> None:
    """Around 0 they were normalised before, in a way that the file does not tell."""
    names = ("scale", "shift", "mean", "var")
    values = [np.full(3, value, np.float32) for value in (1.0, 0.0, mean, 1.0)]
    constants = [numpy_helper.from_array(value, name) for name, value in zip(names, values, strict=True)]
    node = helper.make_node("BatchNormalization", ["image", *names], ["normalised"])
    shape = [1, 3, 64, 64]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("image", "normalised")]
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:], constants)
    assert _normalises(helper.make_model(graph), "image") == expected


@pytest.mark.parametrize(("name", "expected"), [("keras", "raw,colour=BGR"), ("ultralytics", "unit,colour=BGR")])
def test_the_order_of_colours_alone_keeps_what_the_file_tells(name: str, expected: str, foreign: Path) -> None:
    told = parse("colour=BGR")
    own = KNOWN[read_foreign(foreign / f"{name}.onnx").normalises or ""]
    found = told.with_colour(own)
    assert found is not None
    assert (found.name, found.colour, found.std) == (expected, "BGR", own.std)
    assert told.with_colour(None) is None, "then it has to be said"
    assert parse("half,colour=BGR").with_colour(own) == parse("half,colour=BGR").normalisation


def test_words_of_preprocess() -> None:
    told = parse("mean=0.5/0.4/0.3,std=0.2,colour=BGR,size=96,interpolation=cubic")
    assert told.normalisation is not None
    assert told.normalisation.mean == pytest.approx((127.5, 102, 76.5))
    assert told.normalisation.std == pytest.approx((51, 51, 51))
    assert (told.normalisation.colour, told.size, told.fields) == ("BGR", 96, (("interpolation", "cubic"),))
    with pytest.raises(BadInputError, match="says nothing"):
        parse(" , ")
