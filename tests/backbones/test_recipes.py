"""Recipes say of each network what is true, and a broken one says what is wrong with it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from toolchain.backbones import find, recipe_of, recipes
from toolchain.backbones.networks import blocks_of, build, head_of
from toolchain.errors import BadInputError
from toolchain.training.settings import TrainSettings, settings_for

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CLASSES = 37


def test_every_backbone_has_a_recipe() -> None:
    assert all(find(name).name == name for name in recipes.names())
    assert recipes.names()[0] == TrainSettings(data="pets").model
    assert {path.stem for path in (ROOT / "models").glob("*.toml")} == set(recipes.names())


def test_the_wheel_takes_every_recipe_along() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = document["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in recipes.names():
        assert included[f"models/{name}.toml"] == f"toolchain/models/{name}.toml"


@pytest.mark.parametrize("name", recipes.names())
def test_sizes_are_those_of_the_network(name: str) -> None:
    with torch.device("meta"):
        network = build(name, CLASSES).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    told = recipes.load(name).network
    assert told is not None
    assert told.parameters == parameters
    assert told.macs == counter.get_total_flops() / 2
    assert told.features == head_of(network).in_features
    download = find(name).download
    assert isinstance(download, partial)
    published = download.args[0].meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert told.imagenet_top1 == pytest.approx(published / 100, abs=1e-6)
    # A BatchNorm's scale goes into the convolution, its shift becomes the convolution's bias.
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    weights_mb = 4 * (parameters - sum(norm.num_features for norm in norms)) / 1e6
    # Graph and card come on top: less than 0.1 MB.
    assert weights_mb - 0.05 < told.size_mb < weights_mb + 0.15


@pytest.mark.parametrize("name", recipes.names())
def test_defaults_are_settings_that_make_sense(name: str) -> None:
    given = dict(recipes.load(name).finetune.items())
    settings = TrainSettings(data="pets", model=name, **given)
    assert {key: getattr(settings, key) for key in given} == given
    with torch.device("meta"):
        assert 0 < settings.trained_blocks < len(blocks_of(build(name, 2)))


def test_settings_of_mobilenet_v2_are_those_of_its_recipe() -> None:
    recipe = recipes.load("mobilenet_v2")
    settings = settings_for("pets", "mobilenet_v2", recipe)
    set_by_recipe = dict(recipe.finetune.items())
    assert set_by_recipe
    assert {name: getattr(settings, name) for name in set_by_recipe} == set_by_recipe


def test_names_of_earlier_versions_are_still_read(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text("[finetune]\naverage_decay = 0.9\nsmallest_crop = 0.3\nclip_norm = 2\n", encoding="utf-8")
    settings = settings_for("pets", "mobilenet_v2", recipes.read(path))
    assert (settings.ema_decay, settings.min_crop_area, settings.max_grad_norm) == (0.9, 0.3, 2)


def test_a_recipe_of_ones_own_may_say_little(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[finetune]\nepochs = 12\nlearning_rate = 1e-4\n", encoding="utf-8")
    recipe = recipes.read(path)
    assert dict(recipe.finetune.items()) == {"epochs": 12, "learning_rate": 1e-4}
    assert recipe.network is None
    assert recipe.measured == recipes.Measured()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[finetune\nepochs = 6", "is not TOML"),
        ("[finetune]\nepochs = six", "is not TOML"),
        ("[finetune]\nepochs = '6'", r"Expected `int.*`finetune\.epochs`"),
        ("[finetune]\nepochs = -1", r">= 0.*`finetune\.epochs`"),
        ("[finetune]\nlearning_rate = 1.5", r"< 1.*`finetune\.learning_rate`"),
        ("[finetune]\nlearning_rate = nan", r"`finetune\.learning_rate`"),
        ("[finetune]\nmax_minutes = inf", r"`finetune\.max_minutes`"),
        ("[finetune]\nepoch = 6", r"unknown key `finetune\.epoch`"),
        ("[finetune]\nseed = 6", r"unknown key `finetune\.seed`"),
        ("[finetune]\nclip_norm = -1", r">= 0.*`finetune\.max_grad_norm`"),
        ("finetune = 6", "`finetune`"),
        ("epochs = 6", "unknown key `epochs`"),
        ("[network]\nparameters = 1", r"missing required field `macs`.*`network`"),
        ("[measured]\npets_top1 = 89.8", r"<= 1.*`measured\.pets_top1`"),
    ],
)
def test_a_damaged_recipe_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=said) as caught:
        settings_for("photos", "mobilenet_v2", recipes.read(path))
    assert str(path) in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(BadInputError, match="cannot be read"):
            recipes.read(path)
    (tmp_path / "latin1.toml").write_bytes("# Größe\n".encode("latin-1"))
    with pytest.raises(BadInputError, match="UTF-8"):
        recipes.read(tmp_path / "latin1.toml")


def test_an_unknown_network_is_told_which_there_are() -> None:
    with pytest.raises(BadInputError, match="alexnet") as caught:
        recipe_of("alexnet")
    assert "mobilenet_v2" in caught.value.hint
