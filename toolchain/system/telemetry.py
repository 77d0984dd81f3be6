"""What libraries would send to their makers is switched off while they are imported: nothing leaves this machine.

ONNX Runtime and OpenVINO (and NNCF, by OpenVINO's package) look up a host of their makers when they are imported or
soon after, and leave an identifier in the home folder. Whether they do is decided at that moment, for as long as
the process lives, so here it is decided for them. What a host program has imported before, it has decided itself.
Environment and modules are as they were once the import is done.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

ORT_SWITCH = "ORT_DISABLE_TELEMETRY"
"""Read by ONNX Runtime when it is imported; by then its own function to switch off comes too late for a file."""
SENDER = "openvino_telemetry"
"""OpenVINO and NNCF do without this package, silently, where it cannot be imported. They have no other switch that
is for one process: `opt_in_out --opt_out` is for the user, in a file of the home folder."""

_lock = RLock()


@contextmanager
def off() -> Iterator[None]:
    """Import ONNX Runtime, OpenVINO or NNCF in this block, and nowhere else."""
    with _lock:
        variable, is_new = os.environ.get(ORT_SWITCH), "onnxruntime" not in sys.modules
        senders = {name: module for name, module in sys.modules.items() if name == SENDER}
        os.environ[ORT_SWITCH] = "1"
        sys.modules[SENDER] = None  # type: ignore[assignment]  # whoever imports it gets an ImportError
        try:
            yield
            if is_new and (runtime := sys.modules.get("onnxruntime")):
                runtime.disable_telemetry_events()  # what Windows notes of it, which the variable is not for
        finally:
            os.environ.pop(ORT_SWITCH)
            if variable is not None:
                os.environ[ORT_SWITCH] = variable
            del sys.modules[SENDER]
            sys.modules |= senders
