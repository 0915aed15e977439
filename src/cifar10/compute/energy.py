"""The energy that the processors use, where the machine reports it (Linux, RAPL counters)."""

import time
from pathlib import Path

COUNTERS = Path("/sys/class/powercap")
INTERVAL = 10.0  # seconds between readings


class EnergyMeter:
    """Adds up the energy that the processor packages use from its creation on.

    Counters wrap around, some of them within minutes of full load, so `update` must be called again and again.
    """

    def __init__(self, folder: Path = COUNTERS) -> None:
        """Read the counters in this folder for the first time."""
        self.folder = folder
        self._read_at, self._last = time.monotonic(), read_counters(folder)
        self._joules: float | None = 0.0

    def update(self) -> None:
        """Read the counters, unless that is `INTERVAL` seconds ago at most."""
        if time.monotonic() - self._read_at > INTERVAL:
            self.joules()

    def joules(self) -> float | None:
        """Return the joules used so far; None if a counter could not be read."""
        now = read_counters(self.folder)
        if not now or now.keys() != self._last.keys():
            self._joules = None
        elif self._joules is not None:
            used = ((now[zone][0] - value) % (wrap + 1) for zone, (value, wrap) in self._last.items())
            self._joules += sum(used) / 1e6
        self._read_at, self._last = time.monotonic(), now
        return self._joules


def read_counters(folder: Path = COUNTERS) -> dict[str, tuple[int, int]]:
    """Return counter and wrap-around value per processor package, in microjoules; {} if they cannot be read."""
    counters = {}
    for zone in folder.glob("intel-rapl:[0-9]"):  # nested zones (cores, memory) are parts of these
        try:
            if (zone / "name").read_text().strip() == "psys":  # the whole platform, of which the packages are a part
                continue
            value, wrap = (int((zone / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
        except (OSError, ValueError):  # usually only root may read them
            return {}
        counters[zone.name] = (value, wrap)
    return counters
