"""Looking for devices in a process of its own: a broken driver may crash or hang the process that asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from toolchain.errors import MissingError
from toolchain.runtimes.devices import Device, probe
from toolchain.system.progress import Reporter, Silent
from toolchain.timing.process import AnyWorker, WorkerError, WorkerProcess

LIMIT_S = 60.0
_SILENT = Silent()


def probe_devices(
    names: Sequence[str],
    reporter: Reporter = _SILENT,
    launch: Callable[[], AnyWorker] = WorkerProcess,
    limit_s: float = LIMIT_S,
) -> list[Device]:
    """Look for each of `names`, which are known to be well formed; in their order."""
    devices = []
    worker: AnyWorker | None = None
    try:
        with reporter.task("looking for devices", len(names)) as task:
            for name in names:
                try:
                    worker = worker or launch()
                except MissingError:
                    # A frozen app cannot start another interpreter: it looks in its own process.
                    devices.append(probe(name))
                    task.advance(note=name)
                    continue
                try:
                    devices.append(worker.ask("probe", name, Device, limit_s))
                except WorkerError as error:
                    devices.append(Device(name, False, f"looking for it failed: {error.reason}"))
                    worker.close()
                    worker = None
                task.advance(note=name)
    finally:
        if worker is not None:
            worker.close()
    return devices
