"""The configuration as Kedro reads it, with the folders of the data checked and every mistake in one sentence."""

import copy
import os
import re
from pathlib import Path
from typing import Any

import yaml
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import glob_translate
from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import DictConfig, OmegaConf

from cifar10.errors import InputError, readable, reason
from cifar10.store import local

ROOTS = ("data_root", "published_root", "docs_root")  # folders, from `globals.yml` or --params


class ConfigLoader(OmegaConfigLoader):
    """Kedro's loader for any checkout and any data folder, which reads and merges files once."""

    def __init__(
        self, conf_source: str, env: str | None = None, runtime_params: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self._read: dict[tuple[str, str | None, str], dict[str, Any]] = {}
        super().__init__(conf_source, env, _with_folders(runtime_params or {}), **options)
        self["globals"] = _with_folders(self["globals"])

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Read one kind of configuration, such as `parameters`.

        Raises:
            InputError: it is not valid, and the message names the file.
            MissingConfigException: there is none.
        """
        if key in self.data:  # it was assigned
            return super().__getitem__(key)
        read = key, self.env, repr(self.runtime_params)
        if read not in self._read:
            self._read[read] = self._merge(key)
        return copy.deepcopy(self._read[read])

    def _merge(self, key: str) -> dict[str, Any]:
        try:
            return super().__getitem__(key)
        except (InputError, KeyError, MissingConfigException):  # Kedro expects the last two
            raise
        except Exception as error:  # of the YAML parser, of OmegaConf or of Kedro
            self._check_files()
            raise InputError(
                f"The {key} in {self.conf_source} are not valid: {reason(error)}. Correct them."
            ) from error

    def without_runtime_params(self, key: str) -> dict[str, Any]:
        """Read one kind of configuration as its files have it, whatever `--params` says."""
        given, self.runtime_params = self.runtime_params, {}
        try:
            return self[key]
        finally:
            self.runtime_params = given

    def of_environment(self, env: str, key: str) -> dict[str, Any]:
        """Read one kind of configuration as the files of another environment have it."""
        own, self.env = self.env, env
        try:
            return self.without_runtime_params(key)
        finally:
            self.env = own

    def _check_files(self) -> None:
        """Raise `InputError` with the name of the first file that cannot be read by itself."""
        for env in (self.base_env, self.env or self.default_run_env):
            for path in sorted(Path(self.conf_source, env).rglob("*.y*ml")):
                with readable(path, "Correct it."):
                    _check_file(path)

    @staticmethod
    def _initialise_filesystem_and_protocol(conf_source: str) -> tuple[Any, str]:
        filesystem, protocol = OmegaConfigLoader._initialise_filesystem_and_protocol(conf_source)
        return _LiteralFolders() if protocol == "file" else filesystem, protocol


class _LiteralFolders(LocalFileSystem):
    """Local files. Kedro puts the path of `conf` before its patterns, and `[` in that path is not part of a pattern."""

    def glob(self, path: str, **options: Any) -> list[str]:
        """Return the files that match a pattern below the innermost folder of `path` that exists."""
        folder = next(parent for parent in Path(path).parents if parent.is_dir())
        pattern = re.compile(glob_translate(Path(path).relative_to(folder).as_posix()))
        return [
            each for each in self.find(str(folder)) if pattern.match(Path(os.path.relpath(each, folder)).as_posix())
        ]


def _check_file(path: Path) -> None:
    try:
        content = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"{error.problem}{line}") from error
    if not isinstance(content, DictConfig):
        raise ValueError("it has no names with values")


def _with_folders(values: dict[str, Any]) -> dict[str, Any]:
    """Return these values, with `~` expanded in those of `ROOTS`."""
    return {name: _folder(name, value) if name in ROOTS else value for name, value in values.items()}


def _folder(name: str, value: Any) -> str:
    """Return the path or, in an object store, the URL of a folder in which data are read and written.

    Raises:
        InputError: it is empty, in the home folder of a user that does not exist, or a pattern for Kedro; or it is a
            URL, unless it is the `data_root`, and fsspec can use it.
    """
    advice = f"Set {name} to a folder of this machine, or leave it out to use that of the environment."
    if value is None or not str(value).strip():
        raise InputError(f"{name} is empty, as where a variable of the shell is not set. {advice}")
    if not isinstance(value, str):
        raise InputError(f"{name} is {value!r}, which is not text. {advice}")
    if "://" in value and name != "data_root":
        raise InputError(f"{name} is the URL {value}. {advice}")
    if "{" in value or "}" in value:
        raise InputError(f"{name} is {value}, whose braces Kedro's catalog would take for a pattern. {advice}")
    if "://" in value:
        local(value)
        return value
    if value.startswith("~") and not os.path.isdir(os.path.expanduser(Path(value).parts[0])):
        raise InputError(f"{name} is {value}, but there is no such home folder. {advice}")
    return os.path.expanduser(value)
