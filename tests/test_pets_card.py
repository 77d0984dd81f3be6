"""The card of the ready-made model says what was measured, and that a machine was not at rest."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

from toolchain.artifact import read_artifact
from toolchain.artifact.card import Reject
from toolchain.bench.compare import read_report
from toolchain.runs import Rejection, read_run, read_splits

ROOT = Path(__file__).resolve().parent.parent


def test_card_is_made_of_what_was_measured(exported: Path) -> None:
    card_page = runpy.run_path(str(ROOT / "models" / "make_pets.py"))["card_page"]
    reject = Reject("energy", 11.3)
    rejection = Rejection(reject, {"val": 0.978, "test": 0.961}, outliers=150, outliers_rejected=0.97)
    run = replace(read_run(exported), rejection=rejection)
    card = replace(read_artifact(exported / "model.int8.onnx").card, reject=reject)
    report = replace(read_report(ROOT / "models" / "pets"), noisy=True, remarks=("noisy: others", "resized"))
    text = card_page(run, read_splits(exported), card, report)
    assert "2.2% of the validation photographs and 3.9% of the test photographs" in text.replace("\n", " ")
    assert "97% of 150 pictures of other things" in text
    assert "trained on 5 to 5\nphotographs each, half of them on 5 or fewer." in text
    assert "**The machine was not at rest:**\n\n- noisy: others\n\n" in text
    quiet = card_page(run, read_splits(exported), card, replace(report, noisy=False))
    assert "at rest" not in quiet
