"""The first minutes: help without a command, slips of the fingers, and words from other tools."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from toolchain.cli import COMMANDS, root, run
from toolchain.cli.words import ADVICE, ALIASES, OPTIONS


@pytest.mark.parametrize("words", [[], ["data"], ["explain"]])
def test_a_group_alone_shows_its_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert run([*words, "--help"]) == 0
    assert capsys.readouterr().out == told.out
    assert "Commands" in told.out


def _said(words: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    assert run(words.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    error, hint = told.err.splitlines()
    return error, hint


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        ("finetune --seed", "'--seed' requires an argument", "`edgetl finetune --help`"),
        ("finetun PHOTOS", "No such command 'finetun'", "`edgetl finetune`"),
        ("Bench RUN", "'Bench'", "`edgetl bench`"),
        ("data fech pets", "No such command 'fech'", "`edgetl data fetch`"),
        ("explain idel", "'idel'", "`edgetl explain ideal`"),
        ("quantise RUN", "'quantise'", "edgetl export RUN --int8"),
        ("trian PHOTOS", "'trian'", "edgetl finetune"),
        ("xyzzy", "'xyzzy'", "Commands: finetune, adopt, export"),
        ("predict --tpo 3 a b", "edgetl predict has no option '--tpo'", "--top"),
        ("finetune x --lr 0.1", "'--lr'", "Did you mean --learning-rate?"),
        ("export RUN -o FILE", "'-o'", "Did you mean --out?"),
        ("camera RUN --seconds 5", "'--seconds'", "Did you mean --duration?"),
        ("bench RUN --lr 0.1", "'--lr'", "See `edgetl bench --help`"),
        ("--quiet predict", "'--quiet'", "after the command"),
        ("predict", "Missing argument 'MODEL'", "Type `edgetl predict MODEL IMAGE"),
        ("finetune x --model mobilenetv2", "unknown model 'mobilenetv2'", "Did you mean mobilenet_v2?"),
        ("finetune x --model ResNet-18", "unknown model 'ResNet-18'", "Did you mean resnet18?"),
    ],
)
def test_slips_are_answered_with_what_was_meant(
    words: str, error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said, advised = _said(words, capsys)
    assert error in said
    assert hint in advised


def test_paths_in_what_is_to_be_typed_are_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("an été/checkpoint", "un fini/checkpoint"):
        Path(folder).mkdir(parents=True)
    Path("an été/checkpoint/settings.json").touch()
    Path("a model.onnx").touch()
    for words, hint in (
        (["finetune", "drawn-pets", "--out", "an été"], "--resume 'an été'"),
        (["export", "un fini"], "edgetl finetune --resume 'un fini'"),
        (["an été"], "edgetl finetune 'an été', or edgetl camera 'an été'"),
        (["a model.onnx"], "edgetl predict 'a model.onnx' PHOTOGRAPH"),
    ):
        assert run(words) == 2
        assert hint in capsys.readouterr().err


def test_a_path_in_the_place_of_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "model.onnx").touch()
    assert "edgetl finetune" in _said(str(tmp_path / "photos"), capsys)[1]
    assert "edgetl predict" in _said(str(tmp_path / "model.onnx"), capsys)[1]


@pytest.mark.parametrize(("word", "command"), ALIASES.items())
def test_words_of_other_tools_are_understood(word: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert word not in COMMANDS
    assert run([word, "--help"]) == 0
    shown = capsys.readouterr().out
    assert run([command, "--help"]) == 0
    assert capsys.readouterr().out == shown


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    context = click.Context(group)
    found: dict[tuple[str, ...], click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[(*path, name)] = command
        if isinstance(command, click.Group):
            found |= _commands(command, (*path, name))
    return found


def test_what_is_advised_exists() -> None:
    commands = _commands(root)
    options = {option for command in commands.values() for parameter in command.params for option in parameter.opts}
    assert set(ALIASES.values()) <= {path[0] for path in commands}
    assert set(OPTIONS.values()) <= options
    for advice in ADVICE.values():
        for line in advice.split(", or "):
            _, *words = line.split()
            assert words[0] in COMMANDS or words == ["--version"], line
            assert all(word in options for word in words[1:] if word.startswith("--")), line
            if words[0] in {"data", "explain"}:
                assert (words[0], words[1]) in commands, line


def test_help_as_a_word(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from toolchain.cli import main

    with pytest.raises(SystemExit) as left:
        main(["help", "predict"])
    assert left.value.code == 0
    assert "edgetl predict" in capsys.readouterr().out
