"""What people type instead of edgetl's words: names from other tools, and typing errors."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from pathlib import Path

import click

ALIASES = {
    "train": "finetune",
    "fit": "finetune",
    "fine-tune": "finetune",
    "convert": "export",
    "import": "adopt",
    "val": "bench",
    "validate": "bench",
    "benchmark": "bench",
    "infer": "predict",
    "inference": "predict",
    "classify": "predict",
    "webcam": "camera",
    "cam": "camera",
    "watch": "camera",
    "inspect": "card",
    "interpret": "explain",
    "dataset": "data",
    "datasets": "data",
}
"""Words of other tools that mean one command of edgetl. They are accepted for it."""

ADVICE = {
    "quantize": "edgetl export RUN --int8",
    "quantise": "edgetl export RUN --int8",
    "compare": "edgetl bench RUN --compare OLD.json",
    "evaluate": "edgetl bench RUN",
    "eval": "edgetl bench RUN",
    "test": "edgetl bench RUN, or edgetl predict RUN PHOTOGRAPH",
    "detect": "edgetl predict RUN PHOTOGRAPH, or edgetl camera RUN",
    "run": "edgetl camera RUN, or edgetl predict RUN PHOTOGRAPH",
    "download": "edgetl data fetch NAME",
    "fetch": "edgetl data fetch NAME",
    "resume": "edgetl finetune --resume RUN",
    "info": "edgetl card RUN, or edgetl data info DATA",
    "models": "edgetl finetune --list-models",
    "list": "edgetl data list, or edgetl finetune --list-models",
    "check": "edgetl data check DATA, or edgetl doctor",
    "clean": "edgetl data cache --clear",
    "version": "edgetl --version",
}
"""Words that mean a command with arguments. They are answered with what to type."""

OPTIONS = {
    "--lr": "--learning-rate",
    "--batch": "--batch-size",
    "--bs": "--batch-size",
    "--wd": "--weight-decay",
    "--optim": "--optimizer",
    "--imgsz": "--size",
    "--img-size": "--size",
    "--image-size": "--size",
    "--pretrained": "--weights",
    "--checkpoint": "--resume",
    "--output": "--out",
    "--output-dir": "--out",
    "--save-dir": "--out",
    "--project": "--out",
    "--arch": "--model",
    "--backbone": "--model",
    "--gpu": "--device",
    "--provider": "--device",
    "--workers": "--threads",
    "--topk": "--top",
    "--top-k": "--top",
    "--half": "--fp16",
    "--float16": "--fp16",
    "--quantize": "--int8",
    "--quantise": "--int8",
    "--verbose": "--debug",
    "--silent": "--quiet",
    "--input": "--source",
    "--camera": "--source",
    "--video": "--source",
    "--no-window": "--headless",
    "--conf": "--min-probability",
    "--threshold": "--min-probability",
    "--iterations": "--rounds",
    "--seconds": "--duration",
    "--max-frames": "--frames",
    "--baseline": "--compare",
    "-o": "--out",
    "-q": "--quiet",
    "-v": "--debug",
}
"""Names of options in other tools, and in edgetl. They are suggested if the command has the option."""

EVERYWHERE = {"--json", "--quiet", "--debug"}
"""Options that every command has, and that come after its name."""


def command_hint(word: str, path: str, commands: Iterable[str]) -> str:
    """What to type instead of a command that does not exist; `path` is what was typed before it."""
    near = difflib.get_close_matches(word.lower(), [*commands], n=1, cutoff=0.6)
    if path == "edgetl" and word.lower() in ADVICE:
        return f"Did you mean: {ADVICE[word.lower()]}?"
    if near:
        return f"Did you mean `{path} {near[0]}`?"
    if path == "edgetl":
        near = difflib.get_close_matches(word.lower(), [*ALIASES, *ADVICE], n=1, cutoff=0.8)
        if near:
            return f"Did you mean: {ADVICE.get(near[0], 'edgetl ' + ALIASES.get(near[0], ''))}?"
        quoted = shlex.quote(word)
        if Path(word).is_dir():
            return f"A command comes first: edgetl finetune {quoted}, or edgetl camera {quoted} for a run."
        if Path(word).is_file():
            return f"A command comes first: edgetl predict {quoted} PHOTOGRAPH, or edgetl camera {quoted}."
    return f"Commands: {', '.join(commands)}. See `{path} --help`."


def no_option(error: click.NoSuchOption) -> tuple[str, str]:
    """The two lines about an option that does not exist."""
    context = error.ctx
    path = context.command_path if context else "edgetl"
    known = {name for parameter in context.command.params for name in parameter.opts} if context else set()
    name = error.option_name
    said = f"{path} has no option {name!r}"
    if context is not None and isinstance(context.command, click.Group) and name in EVERYWHERE:
        return said, f"It goes after the command: {path} COMMAND ... {name}"
    near = [OPTIONS[name]] if OPTIONS.get(name) in known else sorted(error.possibilities or ())
    return said, f"Did you mean {' or '.join(near)}? See `{path} --help`." if near else f"See `{path} --help`."
