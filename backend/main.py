"""The app: its routers, its middleware in order, and its start and end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from backend import openapi
from backend.deadlines import RequestDeadline
from backend.errors import PlainErrors, add_error_handlers
from backend.logs import RequestLog, configure_logging
from backend.process import one_cpu, rare_collection
from backend.requests import UniformRequests
from backend.routers import health, todos
from backend.settings import settings
from backend.shutdown import announced_shutdown
from backend.startup import serving


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Serves between start and end of the process."""
    with announced_shutdown(), rare_collection():
        async with one_cpu(), serving():
            yield


configure_logging(settings.log_level)

api = FastAPI(
    title="Todo API",
    version="1.0.0",
    description=openapi.DESCRIPTION,
    lifespan=lifespan,
    redirect_slashes=False,
    redoc_url=None,
    max_body_size=settings.max_body_size,
)
# Not by include_router, which looks for the route twice at every request: about a tenth
# of a read's time. The routers bring their own prefixes and names of operations.
api.router.routes[:0] = [*todos.router.routes, *health.router.routes]
add_error_handlers(api)
openapi.describe(api)

# CORS wraps the finished app, so that a browser can read every error too. From the
# outside in: the log, the shape of errors, CORS, the host check, slashes and
# HEAD, the deadline.
app = RequestLog(
    PlainErrors(
        CORSMiddleware(
            TrustedHostMiddleware(
                UniformRequests(RequestDeadline(api)),
                allowed_hosts=settings.allowed_hosts,
                www_redirect=False,
            ),
            allow_origins=settings.cors_origins,
            allow_credentials=True,
            allow_methods=["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"],
            allow_headers=[
                "Content-Type",
                "Idempotency-Key",
                "If-Match",
                "If-None-Match",
                "X-Request-ID",
            ],
            expose_headers=["ETag", "Link", "Location", "Retry-After", "X-Total-Count"],
        )
    )
)
