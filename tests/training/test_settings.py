"""One annotated class is all that there is of a training option."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import click
import pytest
from click.testing import CliRunner
from msgspec import Meta

from toolchain.backbones import recipes
from toolchain.cli.finetune import command
from toolchain.cli.options import SectionedCommand, options_from
from toolchain.errors import BadInputError
from toolchain.images.preprocess import Preprocess
from toolchain.system.options import Option, settings_of
from toolchain.training.settings import TrainSettings, read_stored, settings_for


def test_every_field_is_an_option_with_a_help_text() -> None:
    named = {setting.name for setting in settings_of(TrainSettings)}
    # `data` is the command's argument, `preprocess` is made of --size and --resize; `from` is no name in Python.
    assert {one.name for one in fields(TrainSettings)} - named == {"data", "preprocess", "from_run"}
    options = {parameter.opts[0]: parameter for parameter in command.params if isinstance(parameter, click.Option)}
    for setting in settings_of(TrainSettings):
        assert options[setting.words].help == setting.option.help


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": -1}, "--epochs must be at least 0, not -1"),
        ({"batch_size": 0}, "--batch-size must be at least 1, not 0"),
        ({"max_minutes": 0.0}, "--max-minutes must be above 0 and at most 1e.06, not 0"),
        ({"learning_rate": 1.5}, "--learning-rate must be above 0 and below 1, not 1.5"),
        ({"ema_decay": float("nan")}, "--ema-decay must be at least 0 and below 1, not nan"),
        ({"min_crop_area": 0.0}, "--min-crop-area must be above 0 and at most 1, not 0"),
        ({"augmentation": 3.0}, "--augmentation must be at least 0 and at most 2, not 3"),
        ({"crop_size": 8}, "--crop-size must be at least 32 and at most 1024, not 8"),
        ({"weight_decay": float("inf")}, "--weight-decay"),
        ({"folds": 1}, "--folds must be at least 2, not 1"),
    ],
)
def test_values_are_held_within_the_bounds_beside_them(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        TrainSettings("photos", **change)


def test_what_is_stored_is_read_back_and_so_are_former_names() -> None:
    settings = TrainSettings("photos", ema_decay=0.9, max_grad_norm=2.0, min_crop_area=0.3, epochs=3)
    stored = json.loads(json.dumps(asdict(settings)))
    assert read_stored(stored) == settings
    former = {setting.name: setting.option.former for setting in settings_of(TrainSettings)}
    assert read_stored({former.get(name) or name: value for name, value in stored.items()}) == settings


@dataclass(frozen=True)
class _Brewing:
    """Settings of something else: whatever they are, options come from them."""

    leaves: Annotated[Annotated[int, Meta(ge=1)] | None, Option("How many.", "N")] = None
    heat: Annotated[float, Meta(gt=0, lt=100), Option("In degrees.", "C", former="warmth", section="More")] = 80.0
    milk: Annotated[bool, Option("Without.")] = True
    name: Annotated[str, Option("Of the tea.", "NAME", recipe=False)] = "assam"


@click.command(cls=SectionedCommand)
@options_from(_Brewing)
def _brew(**given: Any) -> None:
    click.echo(json.dumps(given))


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], {"leaves": None, "heat": None, "milk": True, "name": "assam"}),
        (["--leaves", "3", "--no-milk"], {"leaves": 3, "heat": None, "milk": False, "name": "assam"}),
        (["--heat", "70"], {"leaves": None, "heat": 70.0, "milk": True, "name": "assam"}),
        (["--warmth", "70"], {"leaves": None, "heat": 70.0, "milk": True, "name": "assam"}),
    ],
)
def test_a_field_becomes_an_option(words: list[str], given: dict[str, Any]) -> None:
    done = CliRunner().invoke(_brew, words)
    assert json.loads(done.output) == given


def test_a_former_name_is_not_shown() -> None:
    text = CliRunner().invoke(_brew, ["--help"]).output
    assert "--heat C" in text
    assert "warmth" not in text
    assert text.index("--name") < text.index("More:") < text.index("--heat")
    assert "[default: assam]" in text


def test_former_options_go_on_working(tmp_path: Path, drawn_folder: Path) -> None:
    words = ["--average-decay", "1", "--smallest-crop", "2", "--clip-norm", "-1"]
    for option, value in zip(words[::2], words[1::2], strict=True):
        done = CliRunner().invoke(command, [str(drawn_folder), option, value, "--out", str(tmp_path / "run")])
        assert isinstance(done.exception, BadInputError), (option, done.output)


def test_a_recipe_goes_before_the_defaults_and_options_before_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[finetune]\ndropout = 0.5\nwarm_up = 0.3\n", encoding="utf-8")
    settings = settings_for("photos", "mobilenet_v2", recipes.read(path), warm_up=0.2)
    assert (settings.dropout, settings.warm_up, settings.label_smoothing) == (0.5, 0.2, 0.0)


@pytest.mark.parametrize(("size", "expected"), [(None, 176), (224, 176), (96, 75), (320, 251), (32, 32)])
def test_crops_of_a_networks_own_recipe_follow_the_size_of_its_input(size: int | None, expected: int) -> None:
    usual = Preprocess()
    given = {} if size is None else {"preprocess": usual.with_size(size, usual.resize)}
    own = recipes.load("mobilenet_v2")
    assert settings_for("photos", "mobilenet_v2", own, **given).crop_size == expected
    assert settings_for("photos", "mobilenet_v2", own, crop_size=100, **given).crop_size == 100


def test_a_recipe_of_the_users_keeps_its_rate_for_random_weights(tmp_path: Path) -> None:
    path = tmp_path / "scratch é.toml"
    path.write_text("[finetune]\nlearning_rate = 0.01\ncrop_size = 160\n", encoding="utf-8")
    spec = Preprocess().with_size(96, Preprocess().resize)
    settings = settings_for("photos", "mobilenet_v2", recipes.read(path), weights="none", preprocess=spec)
    assert (settings.learning_rate, settings.crop_size) == (0.01, 160)
