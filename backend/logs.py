"""Logging: how lines look, and one line for each request."""

import logging
import re
import time
from logging.config import dictConfig
from secrets import token_hex

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

# What may stand in a log line and a header as it is.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")


def configure_logging(level: str) -> None:
    """Sends our lines, from `level` on, to standard error; `RequestLog` replaces uvicorn's."""
    dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "loggers": {
                "backend": {"handlers": ["stderr"], "level": level.upper(), "propagate": False},
                "uvicorn.access": {"handlers": [], "propagate": False},
            },
        }
    )


class RequestLog:
    """ASGI middleware: a line for each request, its id and its time, and every defect's trace.

    A client's own `X-Request-ID` is kept where it is a short plain word. Queries and
    bodies are not logged: they are the users' own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope["request_id"] = find_request_id(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                seconds = time.perf_counter() - started
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-process-time", b"%.6f" % seconds),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:  # the 500 is sent already, and the reason belongs here
            logger.exception("%s failed", request_id)
        finally:
            logger.info(
                "%s %s %d %.1fms %s",
                scope["method"],
                scope["raw_path"].decode("ascii", "backslashreplace"),
                status,
                1000 * (time.perf_counter() - started),
                request_id,
            )


def find_request_id(scope: Scope) -> str:
    """Returns the client's request id, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return token_hex(8)
