"""The addresses of a host, found within a time: libpq's own search for them has no limit."""

import math
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

import psycopg2

LOST = 60.0  # seconds after which a search is given up, and may be begun again


class Resolver:
    """Asks the system for hosts, with one thread for each name, however many wait for it.

    A search that hangs cannot be ended. So it goes on, and who asks again waits for the
    same one.
    """

    def __init__(self) -> None:
        self._searches: dict[str, tuple[float, Future[list[str]]]] = {}
        self._lock = threading.Lock()

    def find(self, names: Sequence[str], seconds: float) -> dict[str, list[str]]:
        """Returns the addresses of the hosts that are found within these seconds.

        The folder of a socket has an empty one. Raises `psycopg2.OperationalError` when
        none of the hosts is found.
        """
        asked = time.monotonic()
        started, searches = {}, {}
        for name in names:
            started[name], searches[name] = self._search(name)
        # One that was waited for in vain before is not waited for where there is another host.
        wait([searches[name] for name in names if started[name] > asked - seconds], seconds)
        if not any(search.done() for search in searches.values()):
            wait(searches.values(), seconds - (time.monotonic() - asked), FIRST_COMPLETED)
        done = {name: search for name, search in searches.items() if search.done()}
        found = {name: search.result() for name, search in done.items() if not search.exception()}
        if not found:
            first = done.get(names[0])
            said = first.exception() if first else "the name service does not answer"
            raise psycopg2.OperationalError(f"the host {names[0]} was not found: {said}")
        return found

    def _search(self, name: str) -> tuple[float, Future[list[str]]]:
        """Returns the search for a host that is under way, or begins it, and when it began."""
        with self._lock:
            started, search = self._searches.get(name, (-math.inf, Future()))
            if time.monotonic() - started > LOST:
                started, search = self._searches[name] = (time.monotonic(), Future())
                # A daemon, because it must not hold up the exit.
                threading.Thread(target=self._run, args=(name, search), daemon=True).start()
            return started, search

    def _run(self, name: str, search: Future[list[str]]) -> None:
        try:
            search.set_result(addresses(name))
        except (OSError, UnicodeError) as error:  # a name may be none
            search.set_exception(error)
        finally:
            with self._lock:
                _, current = self._searches.get(name, (0.0, None))
                if current is search:
                    del self._searches[name]


resolver = Resolver()


def addresses(name: str) -> list[str]:
    """Returns the addresses that the system has for a host, each once, in its order."""
    if name.startswith(("/", "@")):
        return [""]
    known = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in known))
