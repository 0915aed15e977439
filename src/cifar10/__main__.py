"""Run the project as a package: `python -m cifar10` and the command `cifar10` take the options of `kedro run`."""

import os

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main() -> None:
    """Run pipelines, by the options on the command line."""
    os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "1")  # as in the file .telemetry, which the package does not have
    configure_project("cifar10")
    find_run_command("cifar10")()


if __name__ == "__main__":
    main()
