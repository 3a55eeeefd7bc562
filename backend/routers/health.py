"""What a person or a supervisor asks first: who are you, do you live, can you serve?

GET /              read_root
GET /health        read_health
GET /health/ready  read_readiness
"""

from fastapi import APIRouter

from backend.errors import NotReady
from backend.openapi import operation_id, problems
from backend.schemas import Health, Message, Readiness
from backend.shutdown import Shutdown
from backend.startup import is_ready

router = APIRouter(tags=["health"], generate_unique_id_function=operation_id)


@router.get("/", responses=problems())
async def read_root() -> Message:
    """Says what this is and where its documentation stands."""
    return Message(message="Todo API", docs="/docs", openapi="/openapi.json", todos="/api/todos")


@router.get("/health", responses=problems())
async def read_health() -> Health:
    """Says that the process lives; never asks the database."""
    return Health(status="healthy")


@router.get("/health/ready", responses=problems(503))
async def read_readiness() -> Readiness:
    """Says whether the process can serve.

    It answers 503 while the database does not answer within two seconds, and from the
    moment the process is told to stop.
    """
    if Shutdown.announced:
        raise NotReady("The process is shutting down")
    if not await is_ready():
        raise NotReady("The database does not answer")
    return Readiness(status="ready")
