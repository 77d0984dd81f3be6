from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from datasets_support import Remembering, Tree

from toolchain.datasets.catalogue import list_data
from toolchain.datasets.check import check
from toolchain.datasets.folder import list_folder
from toolchain.drawn.pets import draw


def jpeg(label: str, index: int, size: int = 96) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(draw(label, index, size=size), cv2.COLOR_RGB2BGR))[1].tobytes()


def test_a_sound_folder(drawn_folder: Path, reporter: Remembering) -> None:
    findings = check(list_folder(drawn_folder), reporter)
    assert findings.is_sound
    assert findings.photographs == reporter.steps == 24
    assert findings.tiny == findings.copies_within == ()


def test_everything_that_can_be_wrong(tree: Tree) -> None:
    good, other = jpeg("cat", 0), jpeg("cat", 1)
    root = tree(
        {
            "train/cat/good.jpg": good,
            "train/cat/again.jpg": good,
            "train/cat/other.jpg": other,
            "train/cat/cut.jpg": jpeg("cat", 2)[:-600],
            "train/dog/good.jpg": jpeg("dog", 0),
            "train/dog/empty.jpg": b"",
            "train/dog/text.png": b"this is not a picture",
            "train/dog/small.jpg": jpeg("dog", 1, size=48),
            "train/dog/a cat.jpg": other,
            "test/cat/leak.jpg": good,
            "test/dog/empty too.jpg": b"",
        }
    )
    findings = check(list_folder(root))
    assert not findings.is_sound
    assert {bad.name: bad.reason for bad in findings.unreadable} == {
        "train/cat/cut.jpg": "the picture is truncated",
        "train/dog/empty.jpg": "the file is empty",
        "train/dog/text.png": "not a readable picture",
        "test/dog/empty too.jpg": "the file is empty",
    }
    assert findings.copies_across_splits == (("train/cat/again.jpg", "train/cat/good.jpg", "test/cat/leak.jpg"),)
    assert findings.copies_across_classes == (("train/cat/other.jpg", "train/dog/a cat.jpg"),)
    assert findings.copies_within == ()
    assert [(tiny.name, tiny.width, tiny.height) for tiny in findings.tiny] == [("train/dog/small.jpg", 48, 48)]


def test_copies_within_a_class_do_no_harm(tree: Tree) -> None:
    data = jpeg("cat", 0)
    findings = check(list_folder(tree({"cat/a.jpg": data, "cat/b.jpg": data, "dog/c.jpg": jpeg("dog", 0)})))
    assert findings.copies_within == (("cat/a.jpg", "cat/b.jpg"),)
    assert findings.is_sound


@pytest.mark.photographs
def test_the_real_pets_can_be_read(real_data: Path) -> None:
    listing = list_data("pets")
    findings = check(listing)
    assert findings.photographs == len(listing.photographs)
    # The publisher's photographs are known to have a few odd files; most must be fine.
    assert len(findings.unreadable) < 0.01 * findings.photographs
