"""Energy counters, in files like those of Linux."""

import pytest

from cifar10.compute import energy
from cifar10.compute.energy import EnergyMeter, read_counters


def write(folder, values, wrap=1_000_000, name="package-{}"):
    for number, value in enumerate(values):
        zone = folder / f"intel-rapl:{number}"
        zone.mkdir(exist_ok=True)
        (zone / "name").write_text(name.format(number) + "\n")
        (zone / "energy_uj").write_text(f"{value}\n")
        (zone / "max_energy_range_uj").write_text(f"{wrap}\n")
    (folder / "intel-rapl:0:0").mkdir(exist_ok=True)  # the cores of the first package, which includes them


def test_energy_is_summed_over_packages_and_wrap_arounds(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "INTERVAL", -1.0)
    write(tmp_path, [100_000, 900_000])
    meter = EnergyMeter(tmp_path)
    write(tmp_path, [400_000, 200_000])
    meter.update()
    write(tmp_path, [400_000, 900_000])
    meter.update()
    write(tmp_path, [400_000, 300_000])
    assert meter.joules() == pytest.approx(0.3 + 2 * 1.000001 - 0.6)


def test_the_counter_of_the_whole_platform_is_left_out(tmp_path):
    """Of laptops and desktops, it includes that of the package."""
    write(tmp_path, [1, 1], name="psys")
    write(tmp_path, [100_000])
    assert read_counters(tmp_path) == {"intel-rapl:0": (100_000, 1_000_000)}


def test_counters_are_not_read_at_each_update(tmp_path):
    write(tmp_path, [100_000])
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    meter.update()
    write(tmp_path, [500_000])
    assert meter.joules() == pytest.approx(0.4)


def test_energy_that_cannot_be_read_is_none(tmp_path):
    assert read_counters(tmp_path) == {}
    assert EnergyMeter(tmp_path).joules() is None
    write(tmp_path, [1])
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    assert read_counters(tmp_path) == {}
    assert meter.joules() is None
    write(tmp_path, [2])
    assert meter.joules() is None  # what was used in between is not known
