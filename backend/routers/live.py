"""Live: a WebSocket that says when a list has changed.

GET  /api/live  follow
"""

from fastapi import APIRouter, WebSocket

from backend.core.problems import ProblemResponse
from backend.database import followers
from backend.settings import settings

router = APIRouter(tags=["live"])


@router.websocket("/api/live")
async def follow(websocket: WebSocket) -> None:
    """Follows the shared todos, or after a `sign_in` those of a user.

    A page must be of an origin that may call the API.
    """
    origins = websocket.headers.getlist("Origin")
    if origins and (len(origins) > 1 or origins[0] not in settings.cors_origins):
        await websocket.send_denial_response(ProblemResponse(403))
        return
    await followers.follow(websocket, shared=not settings.auth_required)
