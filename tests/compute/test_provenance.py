"""Which code a result says that it comes from."""

import os
import re
import subprocess

import pytest

from cifar10.compute.provenance import _commit, provenance, sources


@pytest.fixture
def package(tmp_path):
    """A package in a folder of a git repository, neither of them committed."""

    def git(*arguments):
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    folder = tmp_path / ".venv" / "lib" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("x = 1\n")
    (tmp_path / "other.txt").write_text("of the other repository")
    git("init")
    git("add", "other.txt")
    git("commit", "-m", "other")
    return folder, git


def test_commit_of_a_repository_that_does_not_track_the_package_is_not_recorded(package):
    """As where it is installed in an environment inside that repository."""
    folder, git = package
    assert _commit(folder) is None
    git("add", ".")
    git("commit", "-m", "package")
    commit = _commit(folder)
    assert re.fullmatch("[0-9a-f]{7,}", commit)
    (folder / "__init__.py").write_text("x = 2\n")
    assert _commit(folder) == f"{commit}-dirty"
    assert _commit(folder.parents[3]) is None  # outside any repository, or in one that does not track it


def test_errors_of_git_may_be_in_any_language_and_encoding(tmp_path, monkeypatch):
    (tmp_path / "git").write_text("#!/bin/sh\nprintf 'Verf\\374gbar' >&2\nexit 1\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert _commit(tmp_path) is None


def test_sources_change_with_any_file_but_not_with_its_line_ends(package):
    folder, _ = package
    before = sources(folder)
    assert re.fullmatch("[0-9a-f]{12}", before)
    (folder / "__init__.py").write_bytes(b"x = 1\r\n")
    assert sources(folder) == before
    (folder / "notes.txt").write_text("not Python")
    assert sources(folder) == before
    (folder / "more.py").write_text("")
    added = sources(folder)
    (folder / "more.py").rename(folder / "other.py")
    renamed = sources(folder)
    (folder / "__init__.py").write_text("x = 2\n")
    assert len({before, added, renamed, sources(folder)}) == 4


def test_provenance_has_the_sources_of_this_package():
    assert provenance()["sources"] == sources()
