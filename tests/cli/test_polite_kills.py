"""SIGTERM and a closed terminal interrupt every command as Ctrl-C does: in order, with exit code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent")

LONG = """
import signal, sys, time
import click
from toolchain import cli

@click.command()
def long():
    try:
        print("at work", flush=True)
        time.sleep(20)
    finally:
        print("left in order", flush=True)

cli.root.get_command = lambda context, name: long
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
signal.signal(signal.SIGHUP, getattr(signal, sys.argv[1]))
cli.main(["long"])
"""


def _sent(number: signal.Signals, hangup: str = "SIG_DFL") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LONG, hangup]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout is not None
    assert started.stdout.readline() == "at work\n"
    started.send_signal(number)
    return started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_long_command_is_interrupted_in_order(number: signal.Signals) -> None:
    with _sent(number) as started:
        out, err = started.communicate(timeout=20)
    assert (out, err.split(), started.returncode) == ("left in order\n", ["interrupted"], 130)


def test_nohup_is_respected() -> None:
    with _sent(signal.SIGHUP, "SIG_IGN") as started:
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(0.3)
        started.terminate()
        assert started.wait(20) == 130


EARLY = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
sys.argv[1:] = [sys.argv[1], "--version"]
from toolchain.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["toolchain.cli", "click", "toolchain.system.processor"])
def test_ctrl_c_while_the_command_line_is_loaded_is_no_traceback(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", EARLY, module], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr, done.returncode) == ("", "interrupted\n", 130)
