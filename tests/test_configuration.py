"""Configuration and data are found in folders of any name, and what is not valid is said in one sentence."""

import re
import sys

import pytest
from kedro.io import DataCatalog

from cifar10.architectures import ARCHITECTURES
from cifar10.configuration import ROOTS, ConfigLoader
from cifar10.errors import InputError
from tests.helpers import PROJECT


def write(conf, **files):
    """Write files of the environment `base`, and return the loader of that configuration."""
    for name in ("base", "local"):
        (conf / name).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (conf / f"base/{name}.yml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return conf


def load(conf, **runtime_params):
    return ConfigLoader(str(conf), base_env="base", default_run_env="local", runtime_params=runtime_params)


@pytest.mark.parametrize("folder", ["run[1]", "run[", "run]", "run*", "run?", "run{1}", "run[!2]", "**"])
def test_configuration_is_found_in_a_checkout_of_any_name(tmp_path, folder):
    """Neither is it overlooked, nor is that of a checkout beside it read, too."""
    write(tmp_path / "run1/conf", parameters="epochs: 1", catalog="other: {type: text}")
    conf = write(tmp_path / folder / "conf", parameters="epochs: 2", parameters_more="seed: 3", globals="a: 4")
    (conf / "base/parameters/deep").mkdir(parents=True)
    (conf / "base/parameters/deep/more.yml").write_text("depth: 5")
    (conf / "base/deep").mkdir()
    (conf / "base/deep/catalog_more.yml").write_text("x: {type: '${globals:a}'}")
    loader = load(conf)
    assert loader["parameters"] == {"epochs": 2, "seed": 3, "depth": 5}
    assert loader["catalog"] == {"x": {"type": 4}}


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("data", "data"),
        ("/mnt/a b[1]*?~", "/mnt/a b[1]*?~"),
        ("~/data", "HOME/data"),
        ("~", "HOME"),
        ("./~", "./~"),
        (None, "is empty, as where a variable of the shell is not set"),
        ("", "is empty"),
        (" ", "is empty"),
        (2026, "is 2026, which is not text"),
        ("~nobody-of-this-name/data", "no such home folder"),
        ("data{1}", "whose braces"),
    ],
)
def test_the_folders_of_the_data_are_expanded_or_refused(tmp_path, monkeypatch, name, value, expected):
    monkeypatch.setenv("HOME", str(tmp_path))
    catalog = f"x: {{filepath: '${{runtime_params:{name},${{globals:{name}}}}}/x'}}"
    quoted = "null" if value is None else repr(value)
    loaders = {
        "--params": lambda: load(write(tmp_path, globals=f"{name}: other", catalog=catalog), **{name: value}),
        "globals": lambda: load(write(tmp_path, globals=f"{name}: {quoted}", catalog=catalog)),
    }
    for loader in loaders.values():
        if expected.startswith(("is ", "no ", "whose ")):
            with pytest.raises(
                InputError, match=rf"{name} is .*{re.escape(expected.removeprefix('is '))}.*\. Set {name} to"
            ):
                loader()
        else:
            assert loader()["catalog"]["x"]["filepath"] == f"{expected.replace('HOME', str(tmp_path))}/x"


def test_the_data_alone_may_be_in_an_object_store(tmp_path):
    conf = write(tmp_path, globals="data_root: data")
    assert load(conf, data_root="memory://bucket/~data").runtime_params == {"data_root": "memory://bucket/~data"}
    for name in ROOTS[1:]:
        with pytest.raises(InputError, match=rf"{name} is the URL s3://bucket/data\. Set {name} to a folder of this"):
            load(conf, **{name: "s3://bucket/data"})


def test_another_environment_can_be_read(tmp_path):
    conf = write(tmp_path, parameters="epochs: 1")
    (conf / "other").mkdir()
    (conf / "other/parameters.yml").write_text("epochs: 2")
    loader = load(conf, epochs=3)
    assert loader.of_environment("other", "parameters") == {"epochs": 2}
    assert loader["parameters"] == {"epochs": 3}


def test_a_home_folder_that_does_not_exist_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"data_root is ~/x, but there is no such home folder\."):
        load(write(tmp_path, globals="data_root: data"), data_root="~/x")


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere, a backslash is part of a name")
def test_a_backslash_may_follow_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    conf = write(tmp_path, globals="data_root: data")
    assert load(conf, data_root=r"~\data").runtime_params == {"data_root": rf"{tmp_path}\data"}


@pytest.mark.parametrize("key", ["globals", "parameters", "catalog"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", r"base/KEY\.yml could not be read: expected ',' or '\]', .* in line 1\. Correct it\."),
        ("b: 1\na: *x", r"base/KEY\.yml could not be read: found undefined alias 'x' in line 2\."),
        ("a: 1\na: 2", r"base/KEY\.yml could not be read: found duplicate key a in line 2\."),
        ("a:\tb: 1", r"base/KEY\.yml could not be read: .* in line 1\."),
        ("- a", r"base/KEY\.yml could not be read: it has no names with values\."),
        ("3", r"base/KEY\.yml could not be read: "),
        (b"a: \xff", r"base/KEY\.yml could not be read: 'utf-8' codec can't decode byte 0xff"),
        ("a: ${b}", r"The KEY in .* are not valid: Interpolation key 'b' not found\. Correct them\."),
        ("a: ${globals:}", r"The KEY in .* are not valid: "),
    ],
)
def test_configuration_that_is_not_valid_is_named_in_one_sentence(tmp_path, key, content, message):
    with pytest.raises(InputError, match=message.replace("KEY", key)) as error:
        load(write(tmp_path, **{"globals": "data_root: data", key: content}))[key]
    assert "\n" not in str(error.value)


def test_the_same_names_in_two_files_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"The parameters in .* are not valid: Duplicate keys found in .*: a\. Correct"
    ):
        load(write(tmp_path, globals="data_root: data", parameters="a: 1", parameters_more="a: 2"))["parameters"]


def test_the_catalog_is_the_same_after_a_round_trip(tmp_path):
    """As `kedro catalog resolve-patterns` prints it, and other tools read it."""
    loader = ConfigLoader(
        str(PROJECT / "conf"), base_env="base", default_run_env="demo", runtime_params={"data_root": str(tmp_path)}
    )
    catalog = DataCatalog.from_config(loader["catalog"])
    names = [
        *catalog.keys(),
        *(f"{name}.{kind}" for name in ARCHITECTURES for kind in ("model", "checkpoint", "tuned")),
    ]
    assert all(catalog.get(name) is not None for name in names)
    written, *others = catalog.to_config()
    assert set(names) <= set(written)
    assert not [entry for entry in written.values() if {"args", "kwargs", "version"} & set(entry)]
    again = DataCatalog.from_config(written, *others)
    assert all(type(again.get(name)) is type(catalog.get(name)) for name in names)
    assert again.to_config()[0] == written
