"""Giving one input to one command, in this process, and judging how it ends.

The streams are real files under the numbers 0, 1 and 2, as strict as Python opens them: what FFmpeg or OpenCV
writes past Python is seen too, and a name that stdout cannot encode fails as it would for a person.
"""

from __future__ import annotations

import faulthandler
import fnmatch
import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import toolchain
from tests.bad_inputs.entry import Entry
from toolchain.cli import main
from toolchain.errors import ExitCode
from toolchain.system.text import harmless

FAILURES = (ExitCode.BAD_INPUT, ExitCode.MISSING)
MAX_LINE = 1200
"""Characters of an error line. What was given is named in it, not repeated whole."""
INTERNAL = re.compile(r"Traceback|object at 0x|NoneType|<class |\[Errno|std::|\bself\.")
"""What speaks to programmers."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""A name out of an archive must not steer the terminal."""

OF_LIBRARIES = ("tmp/torchinductor_*",)
"""Empty folders that libraries make when they are imported."""

Snapshot = dict[bytes, tuple[int, bytes]]


class TooLongError(BaseException):
    """Not an `Exception`: nothing may catch it on the way."""


@dataclass(frozen=True)
class Outcome:
    """`code` is None for a command that did not end, or raised."""

    words: Sequence[str]
    code: int | None
    raised: str
    out: str
    err: str


def attempt(entry: Entry, words: Sequence[str]) -> Outcome:
    """Run one command with real streams and a limit of time."""
    if entry.apart:
        return _apart(entry, words)
    with TemporaryFile() as out, TemporaryFile() as err:
        with _streams(entry, out, err):
            code, raised = _ended(entry, words)
        texts = _text(out, _encoding_of(entry, words)), _text(err, entry.encoding)
    return Outcome(words, code, raised, *texts)


def _encoding_of(entry: Entry, words: Sequence[str]) -> str:
    """JSON is UTF-8 whatever the terminal takes."""
    return "utf-8" if "--json" in words else entry.encoding


def _apart(entry: Entry, words: Sequence[str]) -> Outcome:
    program = [sys.executable, "-m", "toolchain", *words]
    environment = os.environ | {"PYTHONPATH": str(Path(toolchain.__file__).parents[1])}
    try:
        done = subprocess.run(
            program, input=entry.stdin, capture_output=True, timeout=entry.limit_s, env=environment
        )
    except subprocess.TimeoutExpired:
        return Outcome(words, None, f"it had not ended after {entry.limit_s:g} s", "", "")
    out = done.stdout.decode(_encoding_of(entry, words), "backslashreplace")
    return Outcome(words, done.returncode, "", out, done.stderr.decode(entry.encoding, "backslashreplace"))


def _ended(entry: Entry, words: Sequence[str]) -> tuple[int | None, str]:
    try:
        with _limit(entry.limit_s):
            main(list(words))
    except SystemExit as left:
        return int(left.code or 0), ""
    except TooLongError:
        return None, f"it had not ended after {entry.limit_s:g} s"
    except BaseException as error:
        return None, repr(error)
    return None, "it returned instead of ending the process"


def judge(entry: Entry, outcome: Outcome) -> None:
    """Fail unless the command ended as every command must, and as `entry` says."""
    told = f"\n{' '.join(outcome.words)!r} -> {outcome.code}\n{outcome.out[-2000:]}\n{outcome.err[-2000:]}"
    assert not outcome.raised, outcome.raised + told
    assert outcome.code in entry.codes, f"not one of {entry.codes}{told}"
    assert not INTERNAL.search(outcome.err), f"speaks to programmers{told}"
    assert not CONTROL.search(outcome.err.replace("\n", "")), f"control characters on stderr{told}"
    assert entry.says.lower() in outcome.err.lower(), f"does not say {entry.says!r}{told}"
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    hints = [line for line in outcome.err.splitlines() if line.startswith("hint: ")]
    if outcome.code in FAILURES and (entry.told_by_error or errors):
        assert len(errors) == 1, f"{len(errors)} error lines{told}"
        assert len(hints) <= 1, f"{len(hints)} hints{told}"
        assert 8 < len(errors[0]) <= MAX_LINE, f"an error line of {len(errors[0])} characters{told}"
    else:
        assert not errors, f"an error that is none{told}"
    if "--json" in outcome.words and not entry.stdout:
        _judge_json(entry, outcome, errors, hints, told)
    elif outcome.code in FAILURES and entry.told_by_error and not entry.result_stays:
        assert not outcome.out.strip(), f"an error's stdout is empty{told}"


def _judge_json(entry: Entry, outcome: Outcome, errors: Sequence[str], hints: Sequence[str], told: str) -> None:
    lines = outcome.out.splitlines() if outcome.words[0] == "camera" else [outcome.out]
    try:
        documents = [json.loads(line) for line in lines]
    except ValueError as error:
        raise AssertionError(f"stdout is not JSON: {error}{told}") from None
    assert documents, f"no document{told}"
    if errors:
        last = documents[-1]
        if entry.result_stays and "not_compared" in last:
            assert errors[0].endswith(harmless(last["not_compared"])), f"another error than the result's{told}"
            return
        assert set(last) == {"error", "hint", "exit_code"}, f"no document of an error{told}"
        assert last["exit_code"] == outcome.code, told
        assert bool(last["hint"]) == bool(hints), told


def snapshot(root: Path) -> Snapshot:
    """All that lies below `root`: by path its mode, and a hash of its content."""
    found: Snapshot = {}
    for parent, folders, names in os.walk(os.fsencode(root)):
        for name in (*folders, *names):
            path = os.path.join(parent, name)  # noqa: PTH118 - names are bytes
            mode = os.lstat(path).st_mode
            content = b""
            if stat.S_ISLNK(mode):
                content = os.readlink(path)  # noqa: PTH115 - names are bytes
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:  # noqa: PTH123 - names are bytes
                    content = hashlib.sha256(file.read()).digest()
            found[os.path.relpath(path, os.fsencode(root))] = (mode, content)
    return found


def lost(before: Snapshot, after: Snapshot) -> list[bytes]:
    """What was there and is not, or is another."""
    return sorted(path for path, what in before.items() if after.get(path) != what)


def left_behind(before: Snapshot, after: Snapshot, allowed: Sequence[str]) -> list[bytes]:
    """What was not there before and matches none of the patterns in `allowed`."""
    fresh = sorted(after.keys() - before.keys())
    patterns = (*allowed, *OF_LIBRARIES)
    return [path for path in fresh if not any(fnmatch.fnmatch(os.fsdecode(path), one) for one in patterns)]


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise TooLongError after `seconds`; where Python does not get to it, end the process with a traceback."""

    def late(*_: object) -> None:
        _let_readers_go()
        raise TooLongError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    faulthandler.dump_traceback_later(3 * seconds + 10, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def _let_readers_go() -> None:
    """Let threads go that wait for a writer to a pipe below the current folder."""
    for path in Path.cwd().parent.rglob("*"):
        if path.is_fifo():
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


@contextmanager
def _streams(entry: Entry, out: IO[bytes], err: IO[bytes]) -> Iterator[None]:
    saved = sys.stdin, sys.stdout, sys.stderr
    kept = [os.dup(number) for number in range(3)]
    with TemporaryFile() as given:
        given.write(entry.stdin)
        given.seek(0)
        target = os.open(entry.stdout, os.O_WRONLY) if entry.stdout else os.dup(out.fileno())
        for number, handle in enumerate((given.fileno(), target, err.fileno())):
            os.dup2(handle, number)
        os.close(target)
        own = [
            os.fdopen(0, "r", encoding=entry.encoding, closefd=False),
            os.fdopen(1, "w", encoding=entry.encoding, errors="strict", closefd=False),
            os.fdopen(2, "w", encoding=entry.encoding, errors="backslashreplace", buffering=1, closefd=False),
        ]
        sys.stdin, sys.stdout, sys.stderr = own
        try:
            yield
        finally:
            for stream in own:
                with suppress(OSError, ValueError):
                    stream.close()
            sys.stdin, sys.stdout, sys.stderr = saved
            for number, handle in enumerate(kept):
                os.dup2(handle, number)
                os.close(handle)


def _text(stream: IO[bytes], encoding: str) -> str:
    stream.seek(0)
    return stream.read().decode(encoding, "backslashreplace")
