"""Probabilities, accuracies and intervals are computed in `evaluation` and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import toolchain

PACKAGE = Path(toolchain.__file__).parent

EXCEPTIONS = {
    "explain/why/grad_cam.py": "differentiates a log-odds in torch",
    "explain/ideal/__init__.py": "climbs a log-odds in torch",
    "explain/torch_model.py": "the network with its gradients, in torch",
    "export/onnx_writer.py": "the softmax is a part of the deployed graph",
    "export/int8/qat.py": "the loss of a student, in torch",
    "export/int8/torch_graph.py": "computes a graph's operators, of which Softmax is one",
    "training/teacher.py": "a teacher's answers stay on the GPU, in torch",
    "runtimes/torch.py": "answers as the deployed graph does, in torch",
}
"""Modules that compute probabilities themselves, each with its reason."""

PROBABILITIES = {"softmax", "log_softmax", "logsumexp", "Softmax", "LogSoftmax"}
AVERAGES = {"mean", "average"}
QUANTILES = {1.96, 1.645, 1.2816, 2.576}
"""Of the normal distribution, by which intervals are made."""


def _computed(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and kind of what looks like a probability, an accuracy or an interval."""
    right = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _compares_for_equality(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("scipy.special", "scipy.stats")):
            yield node.lineno, f"import of {node.module}"
        if isinstance(node, ast.Constant) and _is_quantile(node.value):
            yield node.lineno, "quantile of an interval"
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called, inside = node.func, [node.func.value, *node.args]
        if called.attr in PROBABILITIES:
            yield node.lineno, called.attr
        if called.attr in AVERAGES and any(
            _compares_for_equality(one) or (isinstance(one, ast.Name) and one.id in right) for one in inside
        ):
            yield node.lineno, "share of equal answers"
        if called.attr == "exp" and any(_subtracts_a_maximum(one) for one in node.args):
            yield node.lineno, "softmax by hand"


def _is_quantile(value: object) -> bool:
    return isinstance(value, float) and any(abs(value - quantile) < 1e-3 for quantile in QUANTILES)


def _compares_for_equality(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq)


def _subtracts_a_maximum(node: ast.AST) -> bool:
    names = {"max", "amax", "largest"}
    return any(
        isinstance(part, ast.BinOp)
        and isinstance(part.op, ast.Sub)
        and any(getattr(one, "attr", getattr(one, "id", "")) in names for one in ast.walk(part.right))
        for part in ast.walk(node)
    )


def _found(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [f"{path.relative_to(PACKAGE)}:{line}: {kind}" for line, kind in _computed(tree)]


def test_nothing_of_it_is_computed_elsewhere() -> None:
    elsewhere = [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "evaluation"
        and path.relative_to(PACKAGE).as_posix() not in EXCEPTIONS
    ]
    found = [line for path in elsewhere for line in _found(path)]
    assert not found, "use toolchain.evaluation, or name an exception and its reason: " + "; ".join(found)


@pytest.mark.parametrize("name", sorted(EXCEPTIONS))
def test_exceptions_are_still_needed(name: str) -> None:
    assert _found(PACKAGE / name), f"{name} computes nothing of the kind any more"


@pytest.mark.parametrize(
    "code",
    [
        "probabilities = torch.softmax(logits, 1)",
        "probabilities = (logits / temperature).softmax(1)",
        "from scipy.special import softmax",
        "powers = np.exp(logits - logits.max(1, keepdims=True))",
        "log_sum = np.log(np.exp(logits - largest[:, None]).sum(1))",
        "top1 = (logits.argmax(1) == labels).mean()",
        "top1 = np.mean(answers == labels)",
        "right = answers == labels\ntop1 = right.mean()",
        "high = share + 1.96 * error",
        "upper = drop + 1.645 * deviation",
    ],
)
def test_each_kind_is_recognised(code: str) -> None:
    assert list(_computed(ast.parse(code)))
