"""Energy that the processor's packages have used, where Linux counts it (RAPL, through powercap)."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Sums the packages' counters. `available` is false where there are none, or only root may read them."""

    def __init__(self, folder: Path = POWERCAP) -> None:
        # intel-rapl:0 is a package or the platform (`psys`), which holds all packages; intel-rapl:0:1 is a part of
        # a package. AMD's processors are listed by the same names.
        zones = sorted(path for path in folder.glob("*-rapl:*") if path.name.count(":") == 1)
        self._packages = [zone for zone in zones if _name(zone).startswith("package-")]
        self._before = self._read()

    @property
    def available(self) -> bool:
        return bool(self._before)

    def start(self) -> None:
        """Measure from here on."""
        self._before = self._read()

    def joules(self) -> float | None:
        """Energy since `start`; None where it is not counted. A counter may have begun anew once meanwhile."""
        now = self._read()
        if not now or now.keys() != self._before.keys():
            return None
        total = 0
        for path, value in now.items():
            used = value - self._before[path]
            total += used if used >= 0 else used + _number(path / "max_energy_range_uj")
        return total / 1e6

    def _read(self) -> dict[Path, int]:
        try:
            return {path: _number(path / "energy_uj") for path in self._packages}
        except (OSError, ValueError):
            return {}


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text())
