"""The command line. Each command is a module of its own, which is imported only when it is called."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import click

from toolchain._version import __version__
from toolchain.cli import answers
from toolchain.errors import BadInputError, EdgetlError, EdgetlWarning, ExitCode, StoppedError
from toolchain.system import masking
from toolchain.system.processor import respect_quota
from toolchain.system.text import harmless

COMMANDS = {
    "finetune": "Train a network on your photographs.",
    "adopt": "Take a network that edgetl did not train, as it is.",
    "export": "Write a run as one ONNX file, and quantise it.",
    "bench": "Measure accuracy and latency on every device at hand.",
    "camera": "Say what a camera sees, live.",
    "teach": "Teach it your own things, before a camera.",
    "review": "Sort what a camera collected, or what is suspected, on a page.",
    "predict": "Say what is in photographs.",
    "card": "Show what a model file says about itself.",
    "explain": "Show what a network looks for, where it looks, and what fools it.",
    "data": "List, inspect, check and download photographs.",
    "doctor": "Show what this machine can run, and what is missing.",
    "demo": "Try every step once on drawn pets, offline.",
}
"""Name and one-line help. The help is here so that `edgetl --help` imports no command."""

HIDDEN = frozenset({"worker"})
"""Commands that edgetl itself starts on other machines."""

EXTRAS = {
    **dict.fromkeys(
        ("torch", "torchvision", "onnxscript", "safetensors", "scipy", "nncf", "captum", "PIL"), "train"
    ),
    **dict.fromkeys(("jinja2", "matplotlib"), "report"),
    "av": "record",
    "paho": "mqtt",
    "timm": "timm",
}
"""Modules that `pip install edgetl` leaves out (a device neither trains nor exports), and the extra to install."""

MAX_LINE = 1000
"""Characters of an error: names in it may be of any length."""

WEB_TOKEN, WEB_TOKEN_VARIABLE = "--web-token", "EDGETL_WEB_TOKEN"
SOURCE_VARIABLE = "EDGETL_SOURCE"
MQTT_PASSWORD_VARIABLE = "EDGETL_MQTT_PASSWORD"


class Group(click.Group):
    """A group that suggests what may have been meant by an unknown command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from toolchain.cli import words

        word = args[0]
        if ctx.parent is None and word in words.ALIASES and word not in self.list_commands(ctx):
            args = [words.ALIASES[word], *args[1:]]
        if self.get_command(ctx, args[0]) is None and not word.startswith("-"):
            hint = words.command_hint(word, ctx.command_path, self.list_commands(ctx))
            raise BadInputError(f"No such command {word!r}", hint)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group whose commands are `command` in the modules `package.<name>`, listed as `summaries` has them."""

    def __init__(
        self, *, package: str, summaries: Mapping[str, str], hidden: Collection[str] = (), **options: Any
    ) -> None:
        super().__init__(**options)
        self._package = package
        self._summaries = summaries
        self._hidden = hidden

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._summaries and cmd_name not in self._hidden:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))


@click.command(
    cls=LazyGroup,
    package="toolchain.cli",
    summaries=COMMANDS,
    hidden=HIDDEN,
    context_settings={"help_option_names": ["-h", "--help"]},
    # Not the function's docstring, which Python drops with -OO.
    help="""Turn a folder of photographs into an image classifier on an edge device.

    \b
    edgetl demo                                  every step once, offline, in four minutes
    edgetl finetune PHOTOS --out RUN             train
    edgetl export RUN --int8                     one ONNX file, float and int8
    edgetl bench RUN                             accuracy and latency on this machine
    edgetl camera RUN                            what the webcam sees, live
    """,
)
@click.version_option(__version__, prog_name="edgetl")
def root() -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # This process is edgetl's own. What OpenCV would print about a picture, edgetl says itself, in one line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if words[:1] == ["help"]:  # as git and others have it
        words = [*words[1:], "--help"]
    # They are None if the program was started with them closed (`>&-`, some services).
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lives
        # A character that the terminal cannot show must not cost the result: it is written as an escape code.
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    respect_quota(os.environ)
    _interrupt_on_signals()
    code = run(words)
    if any(type(thread).__module__.startswith("toolchain.") for thread in threading.enumerate()):
        # A thread hangs in a driver. Python would stop it there, in the middle of C++, which aborts the process.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


@contextlib.contextmanager
def _own_warnings() -> Iterator[None]:
    """Show edgetl's own warnings as one line each. Those of others stay as Python has them."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", EdgetlWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, EdgetlWarning):
                return usual(message, category, filename, lineno, file, line)
            from toolchain.cli.console import Console

            return Console().warn(str(message))

        warnings.showwarning = show
        yield


def _interrupt_on_signals() -> None:
    """Make SIGTERM and a closed terminal interrupt a command as Ctrl-C does: it can be continued later, and none of
    its processes keeps running. `nohup` still works."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise StoppedError

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)


def run(words: Sequence[str]) -> int:
    """Run one command and return the exit code. Errors are two lines: what is wrong, and what to do."""
    masking.remember([*words, os.environ.get(SOURCE_VARIABLE, "")], _secrets(words))
    answers.given = False
    try:
        with _own_warnings():
            result = root.main(args=list(words), prog_name="edgetl", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        return result if isinstance(result, int) else ExitCode.DONE
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.exceptions.NoArgsIsHelpError as error:  # a question, not a mistake
        print(error.ctx.get_help() if error.ctx else "", flush=True)
        return ExitCode.DONE
    except (click.Abort, KeyboardInterrupt):
        _tell(words, "interrupted", "", ExitCode.INTERRUPTED)
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of our output has gone (`edgetl ... | head`), so there is nobody to tell. click notices it
        # first and raises SystemExit(1), which would look like a broken promise.
        with contextlib.suppress(OSError):  # what a program put in its place is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except Exception as error:
        if "--debug" in words:
            said = masking.masked("".join(traceback.format_exception(error)))
            print(harmless(said, keep="\n"), end="", file=sys.stderr)
        message, hint, code = _explain(error, words)
        _tell(words, message, hint, code)
        return code


def _secrets(words: Sequence[str]) -> list[str]:
    """Words that must never be shown, whatever they look like."""
    found = [after for word, after in pairwise(words) if word == WEB_TOKEN]
    found += [word.removeprefix(f"{WEB_TOKEN}=") for word in words if word.startswith(f"{WEB_TOKEN}=")]
    return [*found, os.environ.get(WEB_TOKEN_VARIABLE, ""), os.environ.get(MQTT_PASSWORD_VARIABLE, "")]


def _explain(error: Exception, words: Sequence[str]) -> tuple[str, str, ExitCode]:
    if isinstance(error, EdgetlError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, click.ClickException):
        return *_usage(error, words), ExitCode.BAD_INPUT
    if isinstance(error, ModuleNotFoundError) and (module := (error.name or "").partition(".")[0]):
        from toolchain.doctor import BROUGHT

        message = f"this command needs {module}, which is not installed"
        if module in EXTRAS:
            from toolchain.system.installation import install

            return message, install(EXTRAS[module]), ExitCode.MISSING
        if module in BROUGHT:
            return message, f"pip install {BROUGHT[module]}", ExitCode.MISSING
    if isinstance(error, ImportError):
        from toolchain.doctor.opencv import is_of_opencv, will_not_load

        if is_of_opencv(error):
            return *will_not_load(error), ExitCode.MISSING
    if isinstance(error, MemoryError):
        return "there is too little memory", "Give this process more, or less to do at once.", ExitCode.MISSING
    if type(error).__name__ == "OutOfMemoryError":  # PyTorch's, which need not be imported to know it
        hint = "Other programs may hold it. Give it less at once (finetune: --batch-size), or use another --device."
        return "the GPU has too little free memory", hint, ExitCode.MISSING
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", "Check the path, its permissions and the space left.", ExitCode.BAD_INPUT
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    message = f"unexpected {type(error).__name__}: {reason}"
    return message, "Run it again with --debug and report it.", ExitCode.DEFECT


def _usage(error: click.ClickException, words: Sequence[str]) -> tuple[str, str]:
    """The two lines about a command line that cannot be understood."""
    if isinstance(error, click.NoSuchOption):
        from toolchain.cli.words import no_option

        return no_option(error)
    context = error.ctx if isinstance(error, click.UsageError) else None
    named = [word for word in words[:1] if word in COMMANDS]  # of some errors click does not say where
    see = f"See `{context.command_path if context else ' '.join(['edgetl', *named])} --help`."
    if isinstance(error, click.MissingParameter) and context:
        pieces = context.command.collect_usage_pieces(context)[1:]  # the first says that there are options
        return error.format_message(), f"Type `{context.command_path} {' '.join(pieces)}`. {see}"
    return error.format_message(), see


def one_line(text: str) -> str:
    """A text as one line of an error: masked, harmless, and of bounded length."""
    line = harmless(" ".join(masking.masked(text).split()))
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…"


def _tell(words: Sequence[str], message: str, hint: str, code: ExitCode) -> None:
    line, hint = (one_line(text) for text in (message, hint))
    print(f"error: {line}" if code != ExitCode.INTERRUPTED else line, file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    if "--json" in words and not answers.given:
        import json

        with contextlib.suppress(OSError):  # stdout may be what failed
            print(json.dumps({"error": line, "hint": hint, "exit_code": int(code)}), flush=True)
