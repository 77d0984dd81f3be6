"""Where a network looked: as a page, as heat maps in files, and as JSON. No torch in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from toolchain.explain.gallery import Page, Picture, Section, percent
from toolchain.explain.gallery import write as write_gallery
from toolchain.explain.why import Why, as_sixteen_bits, overlay
from toolchain.system import files


def write(folder: Path, name: str, answers: Mapping[str, Why], settings: Mapping[str, Any]) -> list[str]:
    """Write the page, its pictures and the heat maps into `folder`; return the names of the files."""
    written = write_gallery(folder, why_page(name, answers, settings))
    for stem, answer in answers.items():
        for look in answer.saliency:
            files.write_bytes(folder / _heat_file(stem, look.method), as_sixteen_bits(look.heat))
            written.append(_heat_file(stem, look.method))
    return written


def entry(path: str, stem: str, answer: Why) -> dict[str, object]:
    """What `--json` prints for one photograph; the names of its files begin with `stem`."""
    return {
        "image": path,
        "file": f"{stem}.png",
        "label": answer.label,
        "probability": answer.probability,
        "class": answer.asked,
        "class_probability": answer.asked_probability,
        "looks": [
            {
                "method": look.method,
                "file": f"{stem}-{look.method}.png",
                "heat": _heat_file(stem, look.method),
                "peak": look.peak,
                "area_of_half": look.area_of_half,
                "without_hottest": look.without_hottest,
                "only_hottest": look.only_hottest,
            }
            for look in answer.saliency
        ],
    }


def why_page(name: str, answers: Mapping[str, Why], settings: Mapping[str, Any]) -> Page:
    """The page of where the network called `name` looked. The keys of `answers` name files (see `stems`)."""
    sections = []
    for file, one in answers.items():
        pictures = [Picture(file, one.picture, "what the network saw")]
        for look in one.saliency:
            facts = {
                "half the heat in": percent(look.area_of_half),
                "fifth covered": percent(look.without_hottest),
                "fifth alone": percent(look.only_hottest),
            }
            pictures.append(Picture(f"{file}-{look.method}", overlay(one.picture, look.heat), look.method, facts))
        text = f"Predicted: {one.label}, with probability {percent(one.probability)}."
        if one.asked != one.label:
            text += f" Asked about {one.asked}: probability {percent(one.asked_probability)}."
        sections.append(Section(file, text, pictures))
    return Page(
        f"Where {name} looked",
        [
            "What spoke for the class is bright.",
            "To check a map: when the hottest fifth of the picture is covered, the probability of the class should "
            "fall; when everything else is covered, it should stay. Both are given below each map, and so is the "
            "part of the picture that holds half of the heat.",
        ],
        sections,
        settings,
    )


def endings(methods: Iterable[str]) -> list[str]:
    """What stands behind the name of a photograph in the names of its files (see `stems`)."""
    return [ending for method in methods for ending in (f"-{method}", f"-{method}-heat")]


def _heat_file(stem: str, method: str) -> str:
    return f"{stem}-{method}-heat.png"
