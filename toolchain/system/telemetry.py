"""Switches off the telemetry of libraries while they are imported, so that nothing leaves this machine.

ONNX Runtime, OpenVINO and NNCF (through OpenVINO's package) look up a host of their makers when they are imported
or soon after, and leave an identifier in the home folder. That is decided once, during the import, for as long as
the process lives. Libraries that a host program has imported before stay as it decided. After the import,
environment and modules are as before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

ORT_SWITCH = "ORT_DISABLE_TELEMETRY"
"""ONNX Runtime reads it during the import. Its own function comes too late: it has left a file by then."""
SENDER = "openvino_telemetry"
"""If this package cannot be imported, OpenVINO and NNCF work without it, silently. They have no other switch for
one process: `opt_in_out --opt_out` is for the whole user, in a file of the home folder."""

_lock = RLock()


@contextmanager
def off() -> Iterator[None]:
    """Import ONNX Runtime, OpenVINO or NNCF in this block, and nowhere else."""
    with _lock:
        variable, is_new = os.environ.get(ORT_SWITCH), "onnxruntime" not in sys.modules
        senders = {name: module for name, module in sys.modules.items() if name == SENDER}
        os.environ[ORT_SWITCH] = "1"
        sys.modules[SENDER] = None  # type: ignore[assignment]  # importing it raises ImportError
        try:
            yield
            if is_new and (runtime := sys.modules.get("onnxruntime")):
                runtime.disable_telemetry_events()  # those of Windows, which the variable does not cover
        finally:
            os.environ.pop(ORT_SWITCH)
            if variable is not None:
                os.environ[ORT_SWITCH] = variable
            del sys.modules[SENDER]
            sys.modules |= senders
