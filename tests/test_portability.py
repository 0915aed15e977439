"""Nothing needs a module that exists on Unix alone. No test here replaces a run on Windows."""

import ast
import subprocess
import sys
from collections.abc import Iterator

from tests.helpers import PROJECT

SOURCES = sorted((PROJECT / "src").rglob("*.py"))
UNIX_ONLY = {
    *("crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline", "resource", "spwd"),
    *("syslog", "termios", "tty", "uvloop"),
}
NEED_OPTIONAL_PACKAGES = {"cifar10.farm.work", "cifar10.pipelines.benchmark.torch_peer", "cifar10.tracking"}

# asyncio and shutil choose the modules they need by the platform, which here is Unix, so they are imported before.
# No other package needs an exception: those that we use try such modules and do without them.
IMPORT_EVERYTHING = """
import asyncio, importlib, pkgutil, shutil, sys, traceback

hidden, skipped = (names.split(",") for names in sys.argv[1:])
sys.modules.update(dict.fromkeys(hidden))

import cifar10

def fail(name):
    print(f"{name} cannot be imported:\\n{traceback.format_exc()}")

for module in pkgutil.walk_packages(cifar10.__path__, "cifar10.", onerror=fail):
    if module.name not in skipped:
        try:
            importlib.import_module(module.name)
        except BaseException:
            fail(module.name)
print("imported", sum(name.startswith("cifar10.") for name in sys.modules), "modules")
"""


def _imported_at_once(node: ast.AST) -> Iterator[str]:
    """Yield the top-level names of the modules that are imported with this one, not when a function is called."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module.partition(".")[0]
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imported_at_once(child)


def test_every_module_can_be_imported_without_unix_only_modules():
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EVERYTHING, ",".join(UNIX_ONLY), ",".join(NEED_OPTIONAL_PACKAGES)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    assert (words[0], words[2]) == ("imported", "modules"), result.stdout
    assert int(words[1]) >= len(SOURCES) - len(NEED_OPTIONAL_PACKAGES) - 1  # the package itself


def test_unix_only_modules_are_imported_in_functions_alone():
    imported = {str(path): set(_imported_at_once(ast.parse(path.read_text(encoding="utf-8")))) for path in SOURCES}
    assert {name: found & UNIX_ONLY for name, found in imported.items() if found & UNIX_ONLY} == {}


def test_imports_are_found_wherever_they_are():
    source = "try:\n    import pwd\nexcept ImportError:\n    from os import path\ndef f():\n    import grp\n"
    assert list(_imported_at_once(ast.parse(source))) == ["pwd", "os"]
