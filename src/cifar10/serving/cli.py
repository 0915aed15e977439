"""`cifar10-serve`: serve the newest export of a folder."""

import logging
import signal
import socket
import sys
import warnings
from pathlib import Path

import click

from cifar10.serving.limits import Limits

KEEP_ALIVE = 30  # seconds that an idle connection stays open
SHUTDOWN = 30  # seconds for what is in progress when the service is told to end


@click.command(context_settings={"show_default": True})
@click.option(
    "--models",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default="data/07_model_output/serving",
    help="Where the export pipeline writes to.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="0 takes a free one.")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads that compute an answer.")
@click.option("--most-bytes", type=click.IntRange(min=1), default=Limits.most_bytes, help="Of a request.")
@click.option("--most-pictures", type=click.IntRange(min=1), default=Limits.most_pictures, help="Of a request.")
@click.option("--most-pixels", type=click.IntRange(min=1), default=Limits.most_pixels, help="Of a picture.")
@click.option("--most-waiting", type=click.IntRange(min=1), default=Limits.most_waiting, help="Requests at a time.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=Limits.seconds, help="Until a request is given up.")
def serve(models: Path, host: str, port: int, threads: int, **limits: float) -> None:
    """Answer which class a picture shows, by the newest export; a newer one is noticed."""
    listening = _listen(host, port)  # first, for what connects while the rest is loaded waits instead of failing
    try:
        import uvicorn

        from cifar10.serving.app import create_app
        from cifar10.serving.connection import BoundedConnection
        from cifar10.serving.repository import Repository
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing. Install what the service needs: pip install -c constraints.txt -e '.[serve]'"
        ) from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on what is odd in a picture; that would be a line each
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # and on what is wrong with a form
    bounds = Limits(**limits)  # type: ignore[arg-type]
    app = create_app(Repository(models, threads, bounds.most_pictures), bounds)
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        log_config=None,
        log_level=logging.ERROR,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=SHUTDOWN,
    )
    address, bound = listening.getsockname()[:2]
    logging.info(
        "Listening on http://%s:%d for pictures, with the exports of %s.",
        f"[{address}]" if ":" in address else address,
        bound,
        models,
    )
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)  # uvicorn has its own while it runs, and repeats the signal afterwards
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:  # the latter for a name that has empty parts
        raise click.ClickException(
            f"{host}:{port} cannot be listened on: {getattr(error, 'strerror', error)}. Give another --host or --port."
        ) from error


def main() -> None:
    """Run, and say in one line what is wrong with the options."""
    try:
        serve.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        sys.exit(2)
    except click.Abort:  # Ctrl-C before there was anything to end
        sys.exit(0)


if __name__ == "__main__":
    main()
