"""`cifar10-serve`: serve the newest export in a folder, or the chosen one."""

import logging
import re
import signal
import socket
import sys
import warnings
from pathlib import Path

import click

from cifar10.serving.limits import Limits

KEEP_ALIVE_SECONDS = 30  # idle connections are closed after this time
SHUTDOWN_SECONDS = 30  # time for requests in progress to finish when the service is stopped


def _check_choice(context: click.Context, option: click.Parameter, choice: str | None) -> str | None:
    """Refuse what is no NAME, and no NAME:VERSION of an export."""
    if choice is None or re.fullmatch(r"\w+(:[1-9][0-9]*)?", choice):
        return choice
    raise click.BadParameter(
        f"{choice} is neither NAME nor NAME:VERSION; the version is the number of an export, as in simple_cnn:1"
    )


@click.command(context_settings={"show_default": True})
@click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    default="data/07_model_output/serving",
    help="Folder that the export pipeline writes to.",
)
@click.option(
    "--model",
    callback=_check_choice,
    metavar="NAME[:VERSION]",
    help="The model to serve, as in simple_cnn or, for its first export, simple_cnn:1. It is "
    "waited for until it is exported. Default: the newest export.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on; use 0.0.0.0 for all interfaces.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port to listen on; 0 selects a free port.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Number of threads per prediction.")
@click.option(
    "--max-body-bytes",
    type=click.IntRange(min=1),
    default=Limits.max_body_bytes,
    help="Maximum size of a request body.",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    default=Limits.max_images,
    help="Maximum number of images per request.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1, 22_000_000),  # Pillow opens images of up to four times as many
    default=Limits.max_pixels,
    help="Maximum number of pixels per image.",
)
@click.option(
    "--max-concurrent",
    "max_concurrent_requests",
    type=click.IntRange(min=1),
    default=Limits.max_concurrent_requests,
    help="Maximum number of concurrent prediction requests.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0.1),
    default=Limits.timeout_seconds,
    help="Seconds to wait for a request body, and for a prediction.",
)
def serve(models: Path, model: str | None, host: str, port: int, threads: int, **limits: float) -> None:
    """Serve image classification over HTTP with the newest exported model, or with the one that --model names.

    A newer export, of that name if there is one, is loaded automatically.
    """
    if not models.is_dir():
        raise click.ClickException(
            f"There is no folder {models}. Export a model first (kedro run --pipelines=export; with --env=demo, to "
            "data/demo/07_model_output/serving), or name a folder of exports with --models."
        )
    listener = _listen(host, port)  # before the slow imports, so that early connections wait instead of failing
    try:
        import uvicorn

        from cifar10.serving.app import create_app
        from cifar10.serving.connection import BoundedConnection
        from cifar10.serving.repository import Repository
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"The module {error.name} is not installed. Install the requirements of the service: "
            "pip install -c constraints.txt -e '.[serve]'"
        ) from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # Clients could fill the log with malformed images and forms.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    request_limits = Limits(**limits)  # type: ignore[arg-type]
    app = create_app(Repository(models, model, threads=threads, max_images=request_limits.max_images), request_limits)
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    address, bound_port = listener.getsockname()[:2]
    logging.info(
        "Listening on http://%s:%d, with %s in %s.",
        f"[{address}]" if ":" in address else address,
        bound_port,
        model or "the newest export",
        models,
    )
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)  # uvicorn handles the signal, and raises it again when it has finished
    uvicorn.Server(config).run(sockets=[listener])


def _reason(error: Exception) -> str:
    """Return why, without the address, which Python adds to the reason of the system."""
    return str(getattr(error, "strerror", error)).partition(" (while")[0]


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:  # UnicodeError for a host name with empty labels, such as a..b
        raise click.ClickException(
            f"Cannot listen on {host}:{port}: {_reason(error)}. Choose another --host or --port."
        ) from error


def main() -> None:
    """Run the command line, and report an error in one line."""
    try:
        serve.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)
    except click.Abort:  # Ctrl-C before the server runs
        sys.exit(0)


if __name__ == "__main__":
    main()
