"""Where an endpoint runs, and what is found for it there.

A plain endpoint runs in a worker thread. What one of its parameters needs from the database
is found in the same thread, before it: that costs no second trip to a thread, and no
connection is held meanwhile. What is costly, such as hashing a password, has a thread of
its own, so that whoever waits for it holds no worker thread.
"""

from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar

import anyio
from anyio.to_thread import run_sync
from sqlalchemy import exc

from backend.core.deadlines import remaining_time

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

costly_endpoints: set[Callable[..., Any]] = set()

COSTS = 0.5  # seconds; so long before the end of its time a request's turn has to come

# Waited for in order, and with an eye on the clock; the thread is then free.
costly_turn = anyio.Semaphore(1)
# None of anyio's, whose threads take turns: each would keep the memory that a hash takes.
costly_thread = ThreadPoolExecutor(1, "costly")


@dataclass(frozen=True)
class Later:
    """A parameter's value that is yet to be found, in the endpoint's own thread."""

    find: Callable[[], Any]


def costly(endpoint: Endpoint) -> Endpoint:
    """Lets a plain endpoint run one at a time, in a thread of its own; it stands below the route.

    Raises `exc.TimeoutError`, a 503, when its turn does not come in time: before it has begun.
    """
    costly_endpoints.add(endpoint)
    return endpoint


def prepare(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Returns an endpoint that is given its `Later` parameters found, in the right thread."""
    if iscoroutinefunction(endpoint):

        @wraps(endpoint)
        async def call_found(**values: Any) -> Any:
            return await endpoint(**await run_sync(found, values))

        return call_found

    @wraps(endpoint)
    def call(**values: Any) -> Any:
        try:
            return endpoint(**found(values))
        except exc.IntegrityError:
            found(values)  # what the row refers to may be gone meanwhile: then that is the answer
            raise

    if endpoint not in costly_endpoints:
        return call

    @wraps(endpoint)
    async def call_in_turn(**values: Any) -> Any:
        try:
            with anyio.fail_after(remaining_time() - COSTS):
                await costly_turn.acquire()
        except TimeoutError:
            raise exc.TimeoutError("The request waited too long for its turn") from None
        try:
            run = partial(copy_context().run, call, **values)  # the deadline goes along
            return await get_running_loop().run_in_executor(costly_thread, run)
        finally:
            costly_turn.release()

    return call_in_turn


def found(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of parameters, each found that is to be found later."""
    return {
        name: value.find() if isinstance(value, Later) else value for name, value in values.items()
    }
