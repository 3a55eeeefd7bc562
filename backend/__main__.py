"""`python -m backend`: serves the API where and how the settings say."""

import argparse
import errno
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from backend.core.process import serve_again, tune_process
from backend.settings import ROOT, settings, stop

# Seconds that requests under way have at the end; uvicorn would wait for ever.
GRACE = 10


def own_app() -> FastAPI:
    """Returns the app, in a process that does nothing but serve it."""
    from backend.main import app

    tune_process()
    return app


def check_address() -> str:
    """Returns the API's URL; ends the process with one sentence when it cannot listen there."""
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as listener:
            address = ip_address(listener.getsockname()[0])
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            stop(
                f"PORT {port} of HOST {host} is in use; stop the program that listens there, "
                f"or set another port, for example PORT={port % 65535 + 1}"
            )
        stop(
            f"PORT {port} of HOST {host} cannot be opened; set HOST to an address of this "
            "machine and PORT to a number above 1023, for example HOST=127.0.0.1 PORT=8000"
        )
    if address.is_unspecified:  # all addresses, this one among them
        host = "::1" if address.version == 6 else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def options() -> dict[str, Any]:
    """Returns how uvicorn serves, as the settings have it."""
    return {
        "app": "backend.__main__:own_app",
        "factory": True,
        "host": settings.host,
        "port": settings.port,
        "log_level": settings.log_level,
        "access_log": False,  # RequestLog writes it
        "ws_per_message_deflate": False,  # it takes memory, and the messages are short
        "timeout_graceful_shutdown": GRACE,
    }


def announce(url: str) -> None:
    """Says where the API and its documentation are."""
    sys.stderr.write(f"API:  {url}/api/todos\nDocs: {url}/docs\n")


def serve_alone() -> None:
    """Serves in a process that is started again when something changes, the settings too.

    It listens by itself: when it fails, no client is left waiting.
    """
    announce(check_address())
    uvicorn.Server(uvicorn.Config(**options())).run()


def main() -> None:
    """Serves until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m backend", description=__doc__)
    parser.add_argument("--reload", action="store_true", help="restart when backend/ changes")
    reload = parser.parse_args().reload
    url = check_address()
    if reload:
        watched = [str(Path(__file__).parent)]
        config = uvicorn.Config(**options(), reload=True, reload_dirs=watched)
        serve_again(config, "backend.__main__:serve_alone", ROOT / ".env")
    else:
        announce(url)
        uvicorn.run(**options(), workers=settings.workers)


if __name__ == "__main__":
    main()
