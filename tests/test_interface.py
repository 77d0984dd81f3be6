"""What `import toolchain` offers: complete, loaded when it is used, and documented by examples that run."""

from __future__ import annotations

import ast
import doctest
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from artifacts import tiny_artifact

import toolchain
from toolchain.drawn.pets import draw

SOURCE = Path(toolchain.__file__)
HEAVY = ("click", "cv2", "msgspec", "numpy", "onnx", "onnxruntime", "openvino", "rich", "torch")
ERRORS = (
    *("ArtifactError", "BadInputError", "FallbackError", "MissingError"),
    *("PromiseBrokenError", "UnreadableImageError"),
)


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_all_is_sorted_and_complete() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name for node in ast.walk(guarded) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(toolchain.__all__) == imported | {"__version__"}
    assert list(toolchain.__all__) == sorted(toolchain.__all__)
    assert set(toolchain.__all__) <= set(dir(toolchain))


@pytest.mark.parametrize("name", toolchain.__all__)
def test_each_name_is_there_and_documented(name: str) -> None:
    one = getattr(toolchain, name)
    assert name == "__version__" or (inspect.unwrap(one).__doc__ or "").strip()
    assert name == "__version__" or isinstance(one, ModuleType) or one.__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'toolchain' has no attribute 'train'"):
        _ = toolchain.train  # type: ignore[attr-defined]


def test_import_loads_nothing_else() -> None:
    assert fresh(f"import sys, toolchain; print([name for name in {HEAVY} if name in sys.modules])") == "[]"


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_an_edgetl_error(name: str) -> None:
    error = getattr(toolchain, name)("wrong", "do this")
    assert isinstance(error, toolchain.EdgetlError)
    assert (error.message, error.hint, error.exit_code in set(toolchain.ExitCode)) == ("wrong", "do this", True)


ORDERS = {
    "function first": "import toolchain; one = toolchain.{name}; import toolchain.{name}.interface",
    "module first": "import toolchain.{name}.interface; one = toolchain.{name}",
    "from import": "from toolchain import {name} as one; import toolchain.{name}.interface",
    "from import after": "import toolchain.{name}.interface; from toolchain import {name} as one",
}


@pytest.mark.parametrize("name", ["bench", "export"])
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_packages_can_be_called_in_any_order_of_imports(name: str, order: str) -> None:
    code = (
        order.format(name=name)
        + f"""
import inspect, sys
assert one is toolchain.{name} is sys.modules["toolchain.{name}"]
assert toolchain.{name}.interface.{name} is inspect.unwrap(one)
assert inspect.signature(one) == inspect.signature(toolchain.{name}.interface.{name})
try:
    one(no_such_option=1)
except TypeError as error:
    print(error)
""".replace("import inspect", "import toolchain, inspect", 1)
    )
    assert "no_such_option" in fresh(code)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of two colours, called flowers, and photographs of them."""
    tiny_artifact(tmp_path / "model.onnx", labels=("daisy", "tulip"))
    for folder, colour in (("daisy", (0, 0, 255)), ("tulip", (255, 255, 0))):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number in range(1, 4):
            picture = np.zeros((40, 40, 3), np.uint8)
            picture[:, 10:] = colour  # a picture of one colour would show nothing
            cv2.imwrite(str(tmp_path / "photos" / folder / f"{number}.png"), picture)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_examples(name: str) -> None:
    function: Any = inspect.unwrap(getattr(toolchain, name))
    found = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    examples = [example for one in found for example in one.examples]
    assert len(examples) >= 3, "no example in the docstring"
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for one in found:
        runner.run(one, out=said.append)
    assert not runner.summarize(verbose=False).failed, "".join(said)


@pytest.mark.parametrize("name", ["load", "watch", pytest.param("bench", marks=pytest.mark.slow)])
def test_examples_of_the_docstrings_run(name: str, here: Path) -> None:
    run_examples(name)


@pytest.mark.slow
def test_examples_of_training_and_export_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for animal, flower in (("cat", "daisy"), ("fish", "tulip")):
        (tmp_path / "photos" / flower).mkdir(parents=True)
        for number in range(20):
            cv2.imwrite(str(tmp_path / "photos" / flower / f"{number}.jpg"), draw(animal, number)[..., ::-1])
    run_examples("finetune")
    run_examples("export")
