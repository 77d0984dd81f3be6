"""Thousands of inputs that are made from whole ones: no traceback, no defect, no hang, and nothing lost.

`python benchmarks/hostile/fuzz.py` runs ten times as many.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import changing
from tests.fuzz.kinds import KINDS
from tests.fuzz.running import one, run_all, shares
from tests.fuzz.stock import make_stock

INPUTS = 2000
LIGHT = (
    "card",
    "ir",
    "graph",
    "bench",
    "recipe",
    "archive",
    "record",
    "photograph",
    "cache",
    "litert",
    "journal",
    "collected",
    "album",
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names, pipes and devices as Linux has them")


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock")
    make_stock(folder)
    return folder


@pytest.mark.slow
def test_no_input_is_a_defect(stock: Path) -> None:
    cases = list(run_all(shares(INPUTS), stock, workers=2))
    assert len(cases) == INPUTS
    wrong = [case for case in cases if case.wrong]
    assert not wrong, "\n".join(f"{one.kind} {one.seed} {' '.join(one.words)}: {one.wrong}" for one in wrong[:5])
    # Were all refused at once, little would have been tried.
    assert sum(case.code == 0 for case in cases) > INPUTS // 20


@pytest.mark.slow
def test_a_defect_a_death_and_a_loss_would_be_noticed(stock: Path, tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.argv[0:1] = ['x']\n"
        "import tests.fuzz.kinds as kinds\n"
        "def bad(rng, stock, place):\n"
        "    {act}\n"
        "    return ['card', 'tiny.onnx']\n"
        "kinds.KINDS['bad'] = bad\n"
        "from tests.fuzz.running import one\n"
        "from pathlib import Path\n"
        "print('WRONG', one('bad', 0, Path(sys.argv[1]), Path(sys.argv[2])).wrong)\n"
    )
    acts = {
        "not one of": "import toolchain.artifact; toolchain.artifact.read_artifact = lambda path: 1 / 0",
        "lost or changed": "import toolchain.artifact as a; a.read_artifact = lambda path: path.unlink() or 1 / 0",
    }
    import os
    import subprocess

    root = Path(__file__).parents[2]
    for told, act in acts.items():
        done = subprocess.run(
            [sys.executable, "-c", program.replace("{act}", act), str(stock), str(tmp_path)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])},
            capture_output=True,
            text=True,
        )
        said = done.stdout.partition("WRONG")[2]
        assert told in said or (told == "lost or changed" and "not one of" in said), done.stderr


@pytest.mark.parametrize(
    "kind",
    ["card", "ir", "bench", "recipe", "archive", "record", "photograph", "litert", "journal", "collected", "album"],
)
def test_a_seed_makes_the_same_input(kind: str, tmp_path: Path, light_stock: Path) -> None:
    made = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        words = KINDS[kind](Random(f"{kind}-7"), light_stock, folder)
        content = {
            path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
        made.append((words, content))
    assert made[0] == made[1]


@pytest.fixture(scope="module")
def light_stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All but the runs."""
    folder = tmp_path_factory.mktemp("light")
    make_stock(folder, runs=False)
    return folder


@pytest.mark.parametrize("kind", LIGHT)
def test_a_few_of_each_kind(kind: str, light_stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", None)
    for name in ("HOME", "EDGETL_DATA", "EDGETL_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    for seed in range(5):
        case = one(kind, seed, light_stock, tmp_path)
        assert not case.wrong, case


def test_changes_keep_to_their_kind() -> None:
    tree = {"a": [1, 2.5, {"b": "text"}], "c": None}
    for seed in range(300):
        rng = Random(seed)
        changed = changing.changed_tree(rng, tree)
        json.dumps(changed)
        assert isinstance(changing.as_json(rng, changed), bytes)
        assert changing.changed_bytes(rng, b"12345678", keep=4)[:4] == b"1234"
    assert tree == {"a": [1, 2.5, {"b": "text"}], "c": None}
