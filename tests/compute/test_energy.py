"""Energy counters, in files like those of Linux."""

import pytest

from cifar10.compute.energy import joules, read_counters


def write(folder, values, wrap=1_000_000):
    for number, value in enumerate(values):
        zone = folder / f"intel-rapl:{number}"
        zone.mkdir(exist_ok=True)
        (zone / "energy_uj").write_text(f"{value}\n")
        (zone / "max_energy_range_uj").write_text(f"{wrap}\n")
    (folder / "intel-rapl:0:0").mkdir(exist_ok=True)  # the cores of the first package, which includes them
    return read_counters(folder)


def test_energy_is_summed_over_packages_across_a_wrap_around(tmp_path):
    before = write(tmp_path, [100_000, 900_000])
    after = write(tmp_path, [400_000, 200_000])
    assert joules(before, after) == pytest.approx(0.3 + 0.300001)


def test_energy_that_cannot_be_read_is_none(tmp_path):
    assert read_counters(tmp_path) == {}
    assert joules({}, {}) is None
    before = write(tmp_path, [1])
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    assert read_counters(tmp_path) == {}
    assert joules(before, read_counters(tmp_path)) is None
