"""The app: its routers, its middleware in order, and its start and end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlmodel import SQLModel
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware

from backend.core import openapi
from backend.core.deadlines import RequestDeadline
from backend.core.problems import ProblemsOnly, add_error_handlers
from backend.core.requests import AllowedHosts, RequestLog, UniformRequests, configure_logging
from backend.core.serving import serving
from backend.core.sockets import BoundedSockets
from backend.database import database, followers
from backend.migrations import migrations
from backend.routers import auth, health, live, todos, users
from backend.security import owners_of
from backend.settings import settings

DESCRIPTION = """
A small backend for todos. Without a token it is about the todos that all share; with one,
about the todos of the user who has signed in.

Every GET route answers HEAD too, and a trailing slash makes no difference on any route.
Every error is an RFC 9457 problem, `application/problem+json`, whose `detail` is one
sentence a person can read; a 422 lists what is invalid under `errors`. Every answer has an
`X-Request-ID`, which the log has too, and an `X-Process-Time` in seconds.

`/api/live` is a WebSocket that says at once when a list has changed, and what to read again.
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Serves between start and end of the process."""
    delay = settings.shutdown_delay
    async with (
        serving(database, migrations, shutdown_delay=delay),
        followers.running(SQLModel.metadata, owners_of),
    ):
        yield


configure_logging(settings.log_level)

app = FastAPI(
    title="Todo API",
    version="1.0.0",
    description=DESCRIPTION,
    lifespan=lifespan,
    redirect_slashes=False,
    redoc_url=None,
    generate_unique_id_function=openapi.operation_id,
)
app.state.request_timeout = settings.request_timeout
app.include_router(todos.router)
app.include_router(users.router)
app.include_router(auth.router)
app.include_router(live.router)
app.include_router(health.router)
add_error_handlers(app)
openapi.describe(app)

# From the inside out: what is added last is asked first. CORS stands around all that can
# fail, so that a browser can read every error, and refuses with a plain text itself.
app.add_middleware(RequestDeadline, request_timeout=settings.request_timeout)
app.add_middleware(UniformRequests)
app.add_middleware(AllowedHosts, allowed_hosts=settings.allowed_hosts, www_redirect=False)
app.add_middleware(RequestBodyLimitMiddleware, max_body_size=settings.max_body_size)
app.add_middleware(ProblemsOnly)
app.add_middleware(
    CORSMiddleware,
    allow_origins=settings.cors_origins,
    allow_credentials=True,
    allow_methods=["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"],
    allow_headers=[
        *("Authorization", "Content-Type", "Idempotency-Key"),
        *("If-Match", "If-None-Match", "X-Request-ID"),
    ],
    expose_headers=[
        *("ETag", "Link", "Location", "Retry-After"),
        *("WWW-Authenticate", "X-Request-ID", "X-Total-Count"),
    ],
)
app.add_middleware(ProblemsOnly)
app.add_middleware(RequestLog, cors_origins=settings.cors_origins)
app.add_middleware(BoundedSockets)
