"""Registries: edgetl's own and other packages' plug-ins, by name, imported only when asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from toolchain.errors import MissingError
from toolchain.plugins import Plugin, PluginWarning, Registry, instance_of


def installed(folder: Path, entries: dict[str, str], source: str, name: str = "somebody") -> None:
    """What pip leaves in `folder`: one module, and the metadata that names its entry points."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    lines = [line for group, points in entries.items() for line in (f"[{group}]", points)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    points = "good = somebody:GOOD\nbroken = somebody:MISSING\nwrong = somebody:NUMBER\nown = somebody:GOOD"
    installed(tmp_path, {"edgetl.words": points}, "GOOD = 'good'\nNUMBER = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "somebody", raising=False)
    return Registry("words", {"own": "toolchain.plugins:OWN"}, instance_of(str))


def test_names_import_nothing(words: Registry[str]) -> None:
    assert words.names() == ("own", "broken", "good", "wrong")
    assert "good" in words
    assert "nosuch" not in words
    assert "somebody" not in sys.modules


def test_what_works_is_loaded_and_the_rest_is_a_warning(words: Registry[str]) -> None:
    with pytest.warns(PluginWarning) as warned:
        assert words.all() == {"own": "edgetl", "good": "good"}
    assert [str(one.message) for one in warned] == [
        "the plug-in broken (edgetl.words, from somebody 1.0) is left out: "
        "AttributeError: module 'somebody' has no attribute 'MISSING'",
        "the plug-in wrong (edgetl.words, from somebody 1.0) is left out: "
        "TypeError: int found, where builtins.str is expected",
    ]
    assert words.all() == {"own": "edgetl", "good": "good"}  # told once


def test_a_broken_one_that_is_asked_for_is_an_error_with_what_to_do(words: Registry[str]) -> None:
    with pytest.raises(MissingError) as raised:
        words.get("broken")
    assert raised.value.hint == "Update it, or remove it: pip uninstall somebody"
    with pytest.raises(KeyError):
        words.get("nosuch")


def test_all_are_listed_with_their_package_and_what_is_wrong(words: Registry[str]) -> None:
    own, broken, good, wrong, second = words.plugins()
    assert own == Plugin("words", "own", "edgetl")
    assert good == Plugin("words", "good", "somebody 1.0")
    assert "no attribute" in broken.problem
    assert "builtins.str" in wrong.problem
    assert second == Plugin("words", "own", "somebody 1.0", "edgetl has one of that name")
