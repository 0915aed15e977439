"""The energy that the processors use, where the machine reports it (Linux, RAPL counters)."""

from pathlib import Path

COUNTERS = Path("/sys/class/powercap")


def read_counters(folder: Path = COUNTERS) -> dict[str, tuple[int, int]]:
    """Return counter and wrap-around value per processor package, in microjoules; {} if they cannot be read."""
    counters = {}
    for zone in folder.glob("intel-rapl:[0-9]"):  # nested zones (cores, memory) are parts of these
        try:
            value, wrap = (int((zone / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
        except (OSError, ValueError):  # usually only root may read them
            return {}
        counters[zone.name] = (value, wrap)
    return counters


def joules(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float | None:
    """Return the joules used between two readings, less than one wrap-around apart; None if they cannot be read."""
    if not before or before.keys() != after.keys():
        return None
    return sum((after[zone][0] - value) % (wrap + 1) for zone, (value, wrap) in before.items()) / 1e6
