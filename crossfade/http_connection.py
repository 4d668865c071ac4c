"""The connections of our HTTP services: uvicorn's, which wait for their clients only as long as `embedded.patience` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from embedded.patience import Client, Crowd

if TYPE_CHECKING:
    import asyncio


class PatientProtocol(HttpToolsProtocol):
    """Tells what happens on a connection."""

    _client: Client

    def __init__(self, crowd: Crowd, **given: Any) -> None:
        super().__init__(**given)
        self._crowd = crowd

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._client = Client(self._crowd, transport, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._client.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some of a request."""
        super().data_received(data)
        self._client.received()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection on to another protocol, which never gives it back."""
        self._client.leave()
        super().handle_websocket_upgrade()

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        super().on_headers_complete()
        self._client.heard()

    def on_message_complete(self) -> None:
        """Have all of a request; what is left of one that is answered already tells nothing."""
        super().on_message_complete()
        if self.cycle is not None and not self.cycle.response_complete:
            self._client.asked()

    def on_response_complete(self) -> None:
        """Have written an answer; unless there is another request already it is the client's turn."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._client.answered()

    def pause_writing(self) -> None:
        """Have written more than the client reads."""
        super().pause_writing()
        self._client.must_read()
