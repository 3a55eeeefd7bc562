"""The app as FastAPI's own documentation would extend it: a router of one's own, and a guard.

Run it as `uvicorn tests.extended:app`, or `tests.extended:guarded`.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

from backend.core.problems import add_error_handlers
from backend.main import app, lifespan
from backend.routers import health, todos

router = APIRouter(prefix="/extra", tags=["extra"])


class Thing(BaseModel):
    """What a client sends."""

    size: int


@router.get("/teapot")
def read_teapot() -> None:
    """Refuses."""
    raise HTTPException(418, "It is a teapot", headers={"X-Tea": "green"})


@router.get("/defect")
def read_defect() -> None:
    """Has a defect."""
    raise RuntimeError("Zaphod")


@router.post("/things")
def create_thing(thing: Thing) -> Thing:
    """Returns what it was sent."""
    return thing


app.include_router(router)


async def require_word(x_word: Annotated[str, Header()] = "") -> None:
    """Lets in who says the word."""
    if x_word != "please":
        raise HTTPException(401, "Say the word", headers={"WWW-Authenticate": "Word"})


guarded = FastAPI(dependencies=[Depends(require_word)], lifespan=lifespan)
guarded.state.request_timeout = 5
guarded.include_router(todos.router)
guarded.include_router(health.router)
add_error_handlers(guarded)
