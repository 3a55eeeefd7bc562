"""The end of the process: readiness turns to 503 before anything else stops."""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from backend.settings import settings


class Shutdown:
    """Whether the process has been told to stop."""

    announced = False


@contextmanager
def announced_shutdown() -> Iterator[None]:
    """Puts `SHUTDOWN_DELAY` between SIGTERM and what the server does about it.

    Meanwhile all is served but readiness, so that a load balancer finds out first and
    sends no more. The server then stops listening and finishes what is under way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # a test client's thread, where signals cannot be had
        return
    stop_server = signal.getsignal(signal.SIGTERM)
    loop = asyncio.get_running_loop()

    def announce(number: int, frame: FrameType | None) -> None:
        Shutdown.announced = True
        if callable(stop_server):
            loop.call_soon_threadsafe(
                loop.call_later, settings.shutdown_delay, stop_server, number, frame
            )

    signal.signal(signal.SIGTERM, announce)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, stop_server)
