"""What a person or a supervisor asks first: who are you, do you live, can you serve?

GET /              read_root
GET /health        read_health
GET /health/ready  read_readiness
"""

from fastapi import APIRouter

from backend.core.serving import require_ready
from backend.database import database
from backend.schemas import Health, Message, Readiness

router = APIRouter(tags=["health"])


@router.get("/")
async def read_root() -> Message:
    """Says what this is and where its documentation stands."""
    return Message(message="Todo API", docs="/docs", openapi="/openapi.json", todos="/api/todos")


@router.get("/health")
async def read_health() -> Health:
    """Says that the process lives; never asks the database."""
    return Health(status="healthy")


@router.get("/health/ready", responses={503: {"description": "The database does not answer"}})
async def read_readiness() -> Readiness:
    """Says whether the process can serve.

    It answers 503 while the database does not answer within two seconds, and from the
    moment the process is told to stop.
    """
    await require_ready(database)
    return Readiness(status="ready")
