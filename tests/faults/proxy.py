"""A TCP proxy in front of PostgreSQL that can fail in the ways a network does."""

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Self


@dataclass
class Link:
    """One connection through the proxy; once deaf, nothing comes back from the server."""

    client: socket.socket
    server: socket.socket
    deaf: bool = False

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Forwards a port of 127.0.0.1 to a unix socket, until it is told to fail."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.losing = b""
        self.closing_after_loss = False
        self._links: list[Link] = []
        self._flowing = Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.refuse()
        self.flow()

    def refuse(self) -> None:
        """Lets nobody connect any more and cuts everybody off."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def listen_again(self) -> None:
        """Undoes `refuse`."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Closes every connection."""
        links, self._links = self._links, []
        for link in links:
            link.close()

    def swallow(self) -> None:
        """Lets nothing through, in neither direction, and tells nobody."""
        self._flowing.clear()

    def flow(self) -> None:
        """Undoes `swallow`; what was held back goes on, as with TCP's retransmission."""
        self._flowing.set()

    def lose_answer_to(self, text: bytes, *, closing: bool) -> None:
        """Forwards a message with the text, but not its answer; then closes or stays silent."""
        self.losing, self.closing_after_loss = text, closing

    def lose_nothing(self) -> None:
        """Undoes `lose_answer_to` for messages to come."""
        self.losing = b""

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self.target))
                link = Link(client, server)
                self._links.append(link)
                Thread(target=self._forward_messages, args=(link,), daemon=True).start()
                Thread(target=self._forward_answers, args=(link,), daemon=True).start()

    def _forward_messages(self, link: Link) -> None:
        with suppress(OSError):
            while message := link.client.recv(65536):
                self._flowing.wait()
                if self.losing and self.losing in message:
                    link.deaf = True
                link.server.sendall(message)
        link.close()

    def _forward_answers(self, link: Link) -> None:
        with suppress(OSError):
            while answer := link.server.recv(65536):
                self._flowing.wait()
                if not link.deaf:
                    link.client.sendall(answer)
                elif self.closing_after_loss:
                    break
        link.close()
