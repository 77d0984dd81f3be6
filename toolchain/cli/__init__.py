"""What a person types. Each command is a module of its own, imported only when it is called."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import click

from toolchain._version import __version__
from toolchain.errors import BadInputError, EdgetlError, ExitCode, StoppedError
from toolchain.system import masking
from toolchain.system.names import escaped, harmless
from toolchain.system.processor import respect_quota

COMMANDS = {
    "finetune": "Train a network on your photographs.",
    "export": "Write a run as one ONNX file, and quantise it.",
    "bench": "Measure accuracy and latency on every device at hand.",
    "camera": "Name what a camera sees, as it sees it.",
    "predict": "Name what is on photographs.",
    "card": "Show what a model file says about itself.",
    "explain": "Show what a network looks for, where it looks, and what fools it.",
    "data": "List, inspect, check and download photographs.",
    "doctor": "Show what this machine can run, and what is missing.",
    "demo": "Walk the whole road on drawn pets, offline.",
}
"""Name and one-line help; the help stands here so that `edgetl --help` imports no command."""


EXTRAS = {
    **dict.fromkeys(
        ("torch", "torchvision", "onnxscript", "safetensors", "scipy", "nncf", "captum", "PIL"), "train"
    ),
    **dict.fromkeys(("jinja2", "matplotlib"), "report"),
    "av": "record",
}
"""What `pip install edgetl` leaves out (a device neither trains nor exports), and the extra that brings it."""


WEB_TOKEN, WEB_TOKEN_VARIABLE = "--web-token", "EDGETL_WEB_TOKEN"


class Group(click.Group):
    """A group that says its help where no command is named, and what may have been meant where a wrong one is."""

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

    def __init__(self, *, package: str, summaries: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options)
        self._package = package
        self._summaries = summaries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._summaries:
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
    context_settings={"help_option_names": ["-h", "--help"]},
    # Not as the function's docstring, which Python leaves out with -OO.
    help="""Take a folder of photographs to an image classifier on an edge device.

    \b
    edgetl demo                                  the whole road, offline, in two minutes
    edgetl finetune PHOTOS --out RUN             train
    edgetl export RUN --int8                     one ONNX file, float and int8
    edgetl bench RUN                             accuracy and latency on this machine
    edgetl camera RUN                            name what the webcam sees
    """,
)
@click.version_option(__version__, prog_name="edgetl")
def root() -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # This process is edgetl's own. What OpenCV has to say of a picture, edgetl says itself, in one line.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    if words[:1] == ["help"]:  # as git and others have it
        words = [*words[1:], "--help"]
    # A program started with them closed (`>&-`, some services) has none to write to.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lives
        # A name that the terminal cannot show must not cost the result: it is written as Python writes it.
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    respect_quota(os.environ)
    _heed_polite_kills()
    code = run(words)
    if any(type(thread).__module__.startswith("toolchain.") for thread in threading.enumerate()):
        # One hangs in a driver. Python would end it there, in the middle of C++, which aborts the process.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _heed_polite_kills() -> None:
    """Let SIGTERM and a closed terminal interrupt a command like Ctrl-C, so that it leaves what can be gone on with
    and none of its helpers running. `nohup` stays what it is."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise StoppedError

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)


def run(words: Sequence[str]) -> int:
    """Run one command; tell errors as one line of what is wrong and one of what to do; return the exit code."""
    masking.remember(words, _secrets(words))
    try:
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
        # The reader of our output has gone (`edgetl ... | head`); nobody is left to tell. click meets a broken pipe
        # first and leaves by SystemExit(1), which would read as a broken promise.
        with contextlib.suppress(OSError):  # what a program put in its place is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except Exception as error:
        if "--debug" in words:
            said = masking.masked("".join(traceback.format_exception(error)))
            print(escaped(harmless(said, keep="\n")), end="", file=sys.stderr)
        message, hint, code = _explain(error)
        _tell(words, message, hint, code)
        return code


def _secrets(words: Sequence[str]) -> list[str]:
    """What is never to be shown, whatever it looks like."""
    found = [after for word, after in pairwise(words) if word == WEB_TOKEN]
    found += [word.removeprefix(f"{WEB_TOKEN}=") for word in words if word.startswith(f"{WEB_TOKEN}=")]
    return [*found, os.environ.get(WEB_TOKEN_VARIABLE, "")]


def _explain(error: Exception) -> tuple[str, str, ExitCode]:
    if isinstance(error, EdgetlError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, click.ClickException):
        return *_usage(error), ExitCode.BAD_INPUT
    if isinstance(error, ModuleNotFoundError) and (module := (error.name or "").partition(".")[0]):
        from toolchain.doctor.packages import BROUGHT

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
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", "Check the path, its permissions and the space left.", ExitCode.BAD_INPUT
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    message = f"unexpected {type(error).__name__}: {reason}"
    return message, "Run it again with --debug and report it.", ExitCode.DEFECT


def _usage(error: click.ClickException) -> tuple[str, str]:
    """What is said of a line that cannot be understood, and what to do about it."""
    if isinstance(error, click.NoSuchOption):
        from toolchain.cli.words import no_option

        return no_option(error)
    context = error.ctx if isinstance(error, click.UsageError) else None
    see = f"See `{context.command_path if context else 'edgetl'} --help`."
    if isinstance(error, click.MissingParameter) and context:
        pieces = context.command.collect_usage_pieces(context)[1:]  # the first says that there are options
        return error.format_message(), f"Type `{context.command_path} {' '.join(pieces)}`. {see}"
    return error.format_message(), see


def _tell(words: Sequence[str], message: str, hint: str, code: ExitCode) -> None:
    line, hint = (escaped(harmless(" ".join(masking.masked(text).split()))) for text in (message, hint))
    print(f"error: {line}" if code != ExitCode.INTERRUPTED else line, file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    if "--json" in words:
        import json

        with contextlib.suppress(OSError):  # stdout may be what failed
            print(json.dumps({"error": line, "hint": hint, "exit_code": int(code)}), flush=True)
