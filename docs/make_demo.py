"""Record the five commands, and draw them as an animated terminal: `python docs/make_demo.py [--record]`.

`--record` runs them on drawn pets with the ready-made model (offline, a few minutes) and writes every line they
print, with its time, to docs/images/demo.json. Without it the record is only drawn again: docs/images/demo.svg, and the
output that README.md shows. Nothing is typed by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
RECORD = DOCS / "images" / "demo.json"
PICTURE = DOCS / "images" / "demo.svg"
README = ROOT / "README.md"
OUTPUT = re.compile(r"(?<=<!-- output: )([a-z]+) -->\n.*?(?=<!-- end of output -->)", re.DOTALL)

COMMANDS = {
    "finetune": "edgetl finetune photos --weights ready-made --out run",
    "export": "edgetl export run --int8",
    "bench": "edgetl bench run --device ort:cpu --device openvino:CPU",
    "predict": "edgetl predict run cat.jpg",
    "camera": "edgetl camera run --source clip.mp4 --headless",
}
COLUMNS, ROWS = 100, 24
SHOWN = {
    "finetune": r"",
    "export": r"(On|file|model|run/) ?|Next",
    "bench": r"",
    "predict": r"",
    "camera": r"",
}
"""What the beginning of a line must match to be in README; others are an ellipsis there."""

LONGEST_PAUSE_S = 0.6
TYPING_S = 0.03
"""A letter."""
READING_S = 2.0
"""After each command."""


def record() -> list[dict[str, Any]]:
    """Run the commands; what each printed, a list of [seconds, stream, line]."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", DRAWING], cwd=folder, env=_environment(), check=True)
        return [_run(command, folder) for command in COMMANDS.values()]


DRAWING = """
from pathlib import Path
import cv2
from toolchain.drawn.pets import CLASSES, draw, draw_clip
for label in CLASSES:
    folder = Path("photos", label)
    folder.mkdir(parents=True)
    for number in range(1, 61):
        cv2.imwrite(str(folder / f"{number}.jpg"), draw(label, number)[..., ::-1])
cv2.imwrite("cat.jpg", draw("cat", 100)[..., ::-1])
draw_clip(Path("clip.mp4"), 6.0, 15.0, 1)
"""


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "COLUMNS": str(COLUMNS), "NO_COLOR": "1"}


def _run(command: str, folder: Path) -> dict[str, Any]:
    words = [sys.executable, "-m", "toolchain", *command.split()[1:]]
    lines: list[tuple[float, str, str]] = []
    started = time.perf_counter()
    process = subprocess.Popen(
        words, cwd=folder, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def read(stream: Any, kind: str) -> None:
        lines.extend((round(time.perf_counter() - started, 2), kind, line.rstrip("\n")) for line in stream)

    readers = [Thread(target=read, args=(process.stdout, "out")), Thread(target=read, args=(process.stderr, "err"))]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    code = process.wait()
    if code:
        raise SystemExit(f"{command}: exit code {code}\n" + "\n".join(line for _, _, line in lines))
    lines.sort(key=lambda line: line[0])
    return {"command": command, "seconds": round(time.perf_counter() - started, 1), "lines": lines}


def shortened(lines: list[list[Any]]) -> list[tuple[float, str, str]]:
    """What is shown: without the first lines of a step that is told twice, pauses shortened."""
    shown: list[tuple[float, str, str]] = []
    now, before = 0.0, 0.0
    for at, kind, line in lines:
        now += min(at - before, LONGEST_PAUSE_S)
        before = at
        shown.append((now, kind, line))
    return shown


def picture(commands: list[dict[str, Any]]) -> str:
    """The animated terminal as SVG: each line appears at its time, and all move up once the screen is full."""
    lines: list[tuple[float, str, str]] = []
    now = 0.5
    for command in commands:
        lines.append((now, "prompt", f"$ {command['command']}"))
        now += TYPING_S * len(command["command"]) + 0.4
        printed = shortened(command["lines"])
        lines += [(now + at, kind, line) for at, kind, line in printed]
        now += (printed[-1][0] if printed else 0) + READING_S
        lines.append((now, "out", ""))
    total = now + READING_S
    width, height = 20 + 7.8 * COLUMNS, 46 + 18 * ROWS
    texts = "".join(
        f'<text class="{kind}" y="{18 * number}" style="animation-delay:{at:.2f}s">{escape(line[:COLUMNS])}</text>'
        for number, (at, kind, line) in enumerate(lines)
        if line
    )
    steps = [
        f"{100 * at / total:.2f}% {{transform: translateY({-18 * (number - ROWS + 1)}px)}}"
        for number, (at, _, _) in enumerate(lines)
        if number >= ROWS
    ]
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">
<title>edgetl at the terminal: finetune, export, bench, predict, camera</title>
<style>
text {{font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #d8dee9; white-space: pre; opacity: 0;
  animation: show 0.01s linear forwards}}
.prompt {{fill: #a3e0a3; font-weight: 600}}
.err {{fill: #8a94a6}}
.lines {{animation: scroll {total:.1f}s step-end forwards}}
@keyframes show {{to {{opacity: 1}}}}
@keyframes scroll {{0% {{transform: none}} {" ".join(steps)} 100% {{transform: translateY({-18 * max(len(lines) - ROWS, 0)}px)}}}}
@media (prefers-reduced-motion: reduce) {{text {{animation-delay: 0s !important}}}}
</style>
<rect width="100%" height="100%" rx="8" fill="#1b2029"/>
<circle cx="18" cy="15" r="5" fill="#e06c60"/><circle cx="36" cy="15" r="5" fill="#e0b050"/><circle cx="54" cy="15" r="5" fill="#70b060"/>
<svg x="10" y="30" width="{width - 20:.0f}" height="{18 * ROWS + 6}"><g class="lines"><g transform="translate(0 14)">{texts}</g></g></svg>
</svg>
"""


def output(commands: list[dict[str, Any]], name: str) -> str:
    """A command and what it printed as its result, as a block of a document."""
    (found,) = (command for command in commands if command["command"] == COMMANDS[name])
    lines = [f"$ {found['command']}"]
    for _, kind, line in found["lines"]:
        if kind == "out" and re.match(SHOWN[name], line):
            lines.append(line)
        elif kind == "out" and lines[-1] != "...":
            lines.append("...")
    return "```\n" + "\n".join(lines).rstrip() + "\n```\n"


def conditions(commands: list[dict[str, Any]]) -> str:
    """Whether the machine was at rest, by what `edgetl bench` said of it."""
    noisy = any("noisy:" in line for command in commands for _, _, line in command["lines"])
    rest = (
        "`edgetl bench` found the machine unsteady, so latencies are rough" if noisy else "the machine was at rest"
    )
    return f"Recorded on two CPU cores, with 360 pictures of six animals that are drawn by code; {rest}.\n"


def readme(text: str) -> str:
    """README's text with the recorded output."""
    commands = json.loads(RECORD.read_text(encoding="utf-8"))

    def block(name: str) -> str:
        return conditions(commands) if name == "conditions" else output(commands, name)

    return OUTPUT.sub(lambda found: f"{found[1]} -->\n{block(found[1])}", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="run the commands again")
    if parser.parse_args().record:
        RECORD.write_text(json.dumps(record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PICTURE.write_text(picture(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
