"""What uvicorn itself takes for a WebSocket: an app that accepts it, and waits."""

from starlette.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Greets each client, and listens to it until it leaves; a request gets an empty answer."""
    message = await receive()
    if scope["type"] == "lifespan":
        while message["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
            message = await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})
    else:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": '{"type": "welcome"}'})
        while message["type"] != "websocket.disconnect":
            message = await receive()
