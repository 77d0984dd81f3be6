"""bench.html: whole, safe, in need of nothing else, and its table sorts (in a real browser, where there is one)."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import browse, in_browser
from test_report import ABSENT, FAILED, FLOAT, INT8, report

from toolchain.bench import page
from toolchain.bench.compare import Tolerance, compare
from toolchain.bench.plots import PlotPoint, front
from toolchain.bench.results import ArmAccuracy, BenchReport
from toolchain.timing.protocol import Throughput

QUANTILES = tuple(4 + number / 50 for number in range(101))
ARMS = (
    replace(FLOAT, quantiles_ms=QUANTILES),
    replace(INT8, quantiles_ms=QUANTILES),
    replace(FLOAT, device="openvino:CPU", quantiles_ms=QUANTILES),
)


def written(found: BenchReport, folder: Path) -> str:
    return page.write(found, folder).read_text(encoding="utf-8")


class References(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "action", "srcset"}]


def test_the_page_has_every_arm_and_reason_and_refers_to_nothing_outside(tmp_path: Path) -> None:
    html = written(replace(report(*ARMS, ABSENT, FAILED), command="edgetl bench run", noisy=True), tmp_path)
    for text in ("model.int8.onnx · ort:cpu", "no such provider", "it\ndied", "the machine is busy", "A CPU",
                 "edgetl bench run", "Noisy:", "Fastest: model.int8.onnx"):  # fmt: skip
        assert text in html
    assert html.count("<svg") == 2
    assert all(link.startswith("#") for link in References(html).found)
    assert "http" not in re.sub(r'"http://www.w3.org/[^"]*"', "", html).replace("http-equiv", "")


def test_what_comes_from_outside_is_only_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>$x$.onnx"
    html = written(report(replace(ARMS[0], artifact=evil), replace(FAILED, reason=evil)), tmp_path)
    assert "<script>alert" not in html
    assert html.count("<script") == 1


def test_throughput_has_its_interval(tmp_path: Path) -> None:
    known = replace(ARMS[0], throughput=Throughput(130.0, 8, 2, (121.0, 139.6)))
    assert ">121 to 140<" in written(report(known), tmp_path)


@pytest.mark.parametrize(
    "found",
    [
        report(FLOAT),
        report(ABSENT),
        replace(report(replace(ARMS[0], accuracy=None)), data=None),
        report(*(replace(ARMS[0], threads=count, artifact=f"run/{'long' * 30}.onnx") for count in range(1, 21))),
    ],
    ids=["old file", "nothing measured", "no accuracy", "twenty arms with long names"],
)
def test_other_reports_make_pages_too(found: BenchReport, tmp_path: Path) -> None:
    html = written(found, tmp_path)
    assert html.count("<svg") == bool(found.arms[0].accuracy) + bool(found.arms[0].quantiles_ms)


def test_a_comparison_is_shown(tmp_path: Path) -> None:
    found = compare(report(FLOAT), report(FLOAT), "old.json", Tolerance())
    html = written(replace(report(FLOAT), comparison=found), tmp_path)
    assert "Comparison with an older run" in html
    assert "Nothing is worse than in old.json" in html


def test_front_is_what_nothing_beats_in_both() -> None:
    points = [PlotPoint(0, name, True, ms, (ms, ms), (), top1) for name, ms, top1 in
              (("a", 1, 0.8), ("b", 2, 0.9), ("c", 3, 0.85), ("d", 4, 0.95), ("e", 2, 0.7))]  # fmt: skip
    assert [point.name for point in front(points)] == ["a", "b", "d"]


@in_browser
def test_the_table_sorts_on_click(tmp_path: Path) -> None:
    script = """
    const heading = [...document.querySelectorAll("th button")].find(one => one.textContent === "p50");
    const order = () => [...heading.closest("table").tBodies[0].rows].map(row => row.cells[1].dataset.value);
    heading.click(); const up = order(); heading.click();
    const told = {up, down: order(), sort: heading.closest("th").getAttribute("aria-sort"),
        requests: performance.getEntriesByType("resource").map(one => one.name)};
    document.body.textContent = "told:" + JSON.stringify(told) + ":end";
    """
    shown = browse(written(report(*ARMS), tmp_path), tmp_path, script)
    told = json.loads(re.search("told:(.*?):end", shown)[1])  # type: ignore[index]
    assert [float(value) for value in told["up"]] == [4, 8, 8]
    assert [float(value) for value in told["down"]] == [8, 8, 4]
    assert (told["sort"], told["requests"]) == ("descending", [])


@in_browser
@pytest.mark.parametrize("dark", [False, True])
def test_no_column_is_hidden_on_a_screen_of_1280_pixels(dark: bool, tmp_path: Path) -> None:
    """Every figure can be seen without scrolling sideways, with names that are long and tell all they have to."""
    told = {
        "provider_effective": "torch 2.14.1+cu130 bf16+compile on cpu",
        "load_ms": 12345.67,
        "first_ms": 1234.56,
    }
    arms = [
        replace(arm, threads=threads, batch=batch, artifact=f"run/model.int8.{arm.device[:3]}.onnx", **told)
        for arm in ARMS
        for threads in (1, 16)
        for batch in (1, 128)
    ]
    found = compare(report(*arms), report(*arms), "old.json", Tolerance())
    html = written(replace(report(*arms), comparison=found), tmp_path)
    script = """
    const wide = [...document.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth);
    document.body.dataset.told = wide.map(one => one.getAttribute("aria-label")).join(", ") || "nothing";
    """
    options = ["--window-size=1280,1000", *(["--blink-settings=preferredColorScheme=0"] if dark else [])]
    shown = browse(html, tmp_path, script, *options)
    assert re.search(r'data-told="([^"]*)"', shown)[1] == "nothing"  # type: ignore[index]


def test_top1_ends_at_one(tmp_path: Path) -> None:
    sure = replace(FLOAT, accuracy=ArmAccuracy(1.0, 1.0, 120, 1.0, (0.97, 1.0)))
    html = written(report(sure), tmp_path)
    plot = re.findall(r"<svg[^>]*pareto-title.*?</svg>", html, re.DOTALL)[0]
    shares = [float(value) for value in re.findall(r">([\d.]+)\s%<", plot)]
    assert len(shares) > 2
    assert max(shares) == 100


@in_browser
def test_nothing_is_requested_and_a_phone_need_not_scroll_sideways(tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    script = """
    document.title = "";
    document.body.dataset.told = [document.documentElement.scrollWidth, innerWidth].join(" ");
    """
    html = written(report(*ARMS, ABSENT, FAILED), tmp_path)
    shown = browse(html, tmp_path, script, "--window-size=390,800", f"--log-net-log={log}", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update")  # fmt: skip
    width, screen = map(int, re.search(r'data-told="(\d+) (\d+)"', shown).groups())  # type: ignore[union-attr]
    assert width <= screen
    asked = set(re.findall(r'"url":"([^"]+)"', log.read_text(encoding="utf-8", errors="replace")))
    # Chromium itself looks for its dictionaries and updates.
    own = re.compile(r"https?://[^/]*(google|gvt1)")
    assert {url for url in asked if url.startswith(("http", "ws")) and not own.match(url)} == set()
