"""The energy that the processors take, where the machine tells (Linux, by the counters called RAPL)."""

from pathlib import Path

COUNTERS = Path("/sys/class/powercap")


def read_counters(folder: Path = COUNTERS) -> dict[str, tuple[int, int]]:
    """Of each processor package, its counter and the value at which it starts again, in microjoules; {} if untold."""
    counters = {}
    for zone in folder.glob("intel-rapl:[0-9]"):  # those within, of cores and memory, are parts of these
        try:
            value, wrap = (int((zone / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
        except (OSError, ValueError):  # mostly, only root may read them
            return {}
        counters[zone.name] = (value, wrap)
    return counters


def joules(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float | None:
    """What all packages took between two readings less than one turn of the counters apart; None if untold."""
    if not before or before.keys() != after.keys():
        return None
    return sum((after[zone][0] - value) % (wrap + 1) for zone, (value, wrap) in before.items()) / 1e6
