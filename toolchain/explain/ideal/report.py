"""Ideal pictures as a page and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from toolchain.explain.gallery import Animation, Page, Picture, Section, Table, has_page, percent, stems
from toolchain.explain.ideal import Ideal
from toolchain.explain.pictures import as_gif, contact_sheet

DESCENT = "-descent"
"""Behind the name of the class, in that of the film."""


def entries(ideals: Sequence[Ideal]) -> list[dict[str, object]]:
    """What `--json` prints for each class."""
    return [
        {
            "label": one.label,
            "file": f"{stem}.png",
            **asdict(one.robustness),
            "seconds": round(one.seconds, 2),
            "loss": one.loss,
            "logit": one.logit,
        }
        for one, stem in zip(ideals, _stems(ideals), strict=True)
    ]


def ideal_page(name: str, ideals: Sequence[Ideal], settings: Mapping[str, Any], *, gif: bool = False) -> Page:
    """The page of ideal pictures of the network called `name`; with `gif`, also how each grew out of noise."""
    sure = [one.robustness.probability for one in ideals]
    after = [one.robustness.shifted_jpeg90 for one in ideals]
    names = [one.label for one in ideals]
    files = _stems(ideals)
    pictures = [
        Picture(
            file,
            one.saved,
            one.label,
            {
                "probability": percent(one.robustness.probability),
                "moved, JPEG 75": percent(one.robustness.shifted_jpeg75),
            },
        )
        for file, one in zip(files, ideals, strict=True)
    ]
    text = "All of them in one picture: sheet.png." if len(ideals) > 1 else ""
    sections = [Section("Ideal pictures", text, pictures)]
    beside = []
    if len(ideals) > 1:
        beside.append(Picture("sheet", contact_sheet([one.picture for one in ideals])))
    if gif:
        films = [
            Animation(f"{file}{DESCENT}", as_gif(one.frames), one.label)
            for file, one in zip(files, ideals, strict=True)
        ]
        sections.append(Section("From noise to picture", pictures=films))
    sections.append(_robustness(ideals))
    if has_page():
        sections.append(_curves(ideals))
    return Page(
        f"What {name} looks for",
        [
            f"Noise was changed step by step, until the network took it for {_listed(names)}. The probability is "
            f"{percent(min(sure))}{' at least' if len(sure) > 1 else ''}; after a move by 5 pixels and JPEG it is "
            f"{percent(min(after))}.",
            "The network recognises the class by the shapes, colours and textures that appear here. Things that do "
            "not belong to the class, such as grass or a hand, were in its photographs, and were learned too.",
        ],
        sections,
        settings,
        beside,
    )


def _stems(ideals: Sequence[Ideal]) -> list[str]:
    return stems([one.label for one in ideals], [DESCENT])


def _robustness(ideals: Sequence[Ideal]) -> Section:
    columns = ("class", "as it is", "JPEG 90", "JPEG 75", "moved", "moved, JPEG 90", "moved, JPEG 75")
    rows = [(one.label, *map(percent, asdict(one.robustness).values())) for one in ideals]
    text = (
        "The probability of the class for the saved file, read back through the deployed preprocessing. Moved: by "
        "5 pixels; of eight directions, the one with the lowest probability."
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
    text = "For the view that the network saw in each step. The loss jumps where the view becomes larger."
    return Section("Loss and logit", text, plots=plots)


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:6]) + ([f"{len(names) - 6} others"] if len(names) > 6 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
