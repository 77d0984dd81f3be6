"""The pages of ideal pictures, features and looks (see `toolchain.explain.gallery`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toolchain.explain.gallery import Animation, Page, Picture, Section, Table, has_page, stems
from toolchain.explain.heat import overlay
from toolchain.explain.why import Why
from toolchain.images.preprocess import Image

if TYPE_CHECKING:
    from toolchain.explain.features import Maps
    from toolchain.explain.ideal import Ideal

GAP = 8
SHEET_COLUMNS = 6


def ideal_page(name: str, ideals: Sequence[Ideal], gifs: Sequence[bytes], settings: Mapping[str, Any]) -> Page:
    """The ideal pictures of the network called `name`; `gifs` are their descents, or none."""
    sure = [one.robustness.probability for one in ideals]
    after = [one.robustness.shifted_jpeg90 for one in ideals]
    files = stems([one.label for one in ideals])
    pictures = [
        Picture(
            file,
            one.picture,
            one.label,
            {
                "probability": share(one.robustness.probability),
                "moved, JPEG 75": share(one.robustness.shifted_jpeg75),
            },
        )
        for file, one in zip(files, ideals, strict=True)
    ]
    text = "All of them in one picture: sheet.png." if len(ideals) > 1 else ""
    sections = [Section("Ideal pictures", text, pictures)]
    beside = []
    if len(ideals) > 1:
        beside.append(Picture("sheet", contact_sheet([one.picture for one in ideals])))
    if gifs:
        films = [
            Animation(f"{file}-descent", gif, one.label) for file, one, gif in zip(files, ideals, gifs, strict=True)
        ]
        sections.append(Section("From noise to picture", pictures=films))
    sections.append(_robustness(ideals))
    if has_page():
        sections.append(_curves(ideals))
    return Page(
        f"What {name} looks for",
        [
            f"Noise, changed step by step until the network takes it for {_listed([one.label for one in ideals])}: "
            f"with probability {share(min(sure))}{' at least' if len(sure) > 1 else ''}, and {share(min(after))} "
            "after a move by 5 pixels and JPEG.",
            "Shapes, colours and textures that appear here are those that the network knows the class by. What "
            "does not belong to the thing itself, such as grass or a hand, was in its photographs and was learned.",
        ],
        sections,
        settings,
        beside,
    )


def _robustness(ideals: Sequence[Ideal]) -> Section:
    columns = ("class", "as it is", "JPEG 90", "JPEG 75", "moved", "moved, JPEG 90", "moved, JPEG 75")
    rows = [
        (
            one.label,
            *(
                share(value)
                for value in (
                    one.robustness.probability,
                    one.robustness.jpeg90,
                    one.robustness.jpeg75,
                    one.robustness.shifted,
                    one.robustness.shifted_jpeg90,
                    one.robustness.shifted_jpeg75,
                )
            ),
        )
        for one in ideals
    ]
    text = (
        "The probability of the class, of the saved file read back through the deployed preprocessing. Moved: by 5 "
        "pixels, the least probable of eight directions."
    )
    return Section("Robustness", text, table=Table(columns, rows))


def _curves(ideals: Sequence[Ideal]) -> Section:
    from toolchain.explain.plots import curves

    steps = list(range(1, len(ideals[0].loss) + 1))
    losses = {one.label: (steps, one.loss) for one in ideals}
    logits = {one.label: (steps, one.logit) for one in ideals}
    plots = [
        curves("loss", "Loss, by step", losses, "step", "loss"),
        curves("logit", "Logit of the class, by step", logits, "step", "logit of the class"),
    ]
    text = "Of the view that the network saw in each step. The loss jumps where the view becomes larger."
    return Section("Course of the descent", text, plots=plots)


def features_page(
    name: str, picture: Image, found: Sequence[Maps], sheets: Sequence[Image], settings: Mapping[str, Any]
) -> Page:
    """What the layers of the network called `name` make of `picture`; `sheets` are the pictures of `found`."""
    sections = [Section("What the network sees", pictures=[Picture("input", picture)])]
    for maps, sheet in zip(found, sheets, strict=True):
        layer = maps.layer
        channels = ", ".join(str(one.channel) for one in maps.strongest)
        text = (
            f"{layer.kind}, {layer.channels} maps of {layer.height} x {layer.width}, of which {maps.silent} see "
            f"nothing here. Shown, the strongest first: {channels}."
        )
        sections.append(Section(layer.name, text, [Picture(layer.name, sheet)]))
    return Page(
        f"What {name} sees in a picture",
        [
            "Early layers answer to edges and colours, exactly where they are; late ones to parts of things, and "
            "only roughly where.",
            "Each map is drawn up to its own largest value, the brightest; black is 0 or less.",
        ],
        sections,
        settings,
    )


def why_page(name: str, answers: Mapping[str, Why], settings: Mapping[str, Any]) -> Page:
    """Where the network called `name` looked in photographs, by the names of their files (see `stems`)."""
    sections = []
    for file, one in answers.items():
        pictures = [Picture(file, one.picture, "what the network saw")]
        for look in one.looks:
            facts = {
                "half the heat in": share(look.area_of_half),
                "fifth covered": share(look.without_hottest),
                "fifth alone": share(look.only_hottest),
            }
            pictures.append(Picture(f"{file}-{look.method}", overlay(one.picture, look.heat), look.method, facts))
        text = f"Predicted: {one.label}, with probability {share(one.probability)}."
        if one.asked != one.label:
            text += f" Asked about {one.asked}: probability {share(one.asked_probability)}."
        sections.append(Section(file, text, pictures))
    return Page(
        f"Where {name} looked",
        [
            "Bright is what spoke for the class.",
            "Whether a map is to be believed: once the hottest fifth of the picture is covered, the probability of "
            "the class should fall; with that fifth alone and all else covered, it should stay. Below each map, "
            "too: the share of the picture that holds half of the heat.",
        ],
        sections,
        settings,
    )


def contact_sheet(pictures: Sequence[Image]) -> Image:
    """Pictures of one size as one, in rows, uint8 RGB."""
    height, width = pictures[0].shape[:2]
    columns = min(len(pictures), SHEET_COLUMNS)
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for place, picture in enumerate(pictures):
        top, left = (place // columns) * (height + GAP), (place % columns) * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def share(value: float) -> str:
    """A fraction as a person reads it."""
    return f"{100 * value:.1f}\u00a0%"


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:6]) + ([f"{len(names) - 6} others"] if len(names) > 6 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
