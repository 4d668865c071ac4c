"""The dialect of express-status-monitor (npm, 1.3): figures of a Node.js process, pushed over Socket.IO 2.

Address: ``ws://HOST:PORT/socket.io/?EIO=3&transport=websocket``. Each span of its configuration tells the process's figures
at its own interval; the others tell the same less often, so one is followed, the shortest by default. ``esm_start``
repeats what a span remembers. Its last entry has not been broadcast yet: a sample goes out one interval late.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from legacy_ws.protocol.foreign import Memory, Observation, Said
from legacy_ws.protocol.json_dialect import addressable, from_unix
from legacy_ws.protocol.socketio import SocketIoDialect
from monitoring.events import stream_id
from monitoring.fingerprint import Likeness


class ExpressStatusMonitor(SocketIoDialect):
    """One span of one process; ``device`` is what it is called here."""

    name = "express-status-monitor"
    protocol = 3
    greets = True
    likeness = Likeness(
        ignored=frozenset({"responses"})
    )  # the memory does not say which ones went with a sample

    def __init__(self, device: str = "express", interval: float | None = None) -> None:
        self._device = addressable(device)
        self._interval = interval

    def on(self, event: str, arguments: Sequence[Any]) -> Iterable[Said]:
        """Return what ``esm_start`` and ``esm_stats`` say."""
        match event:
            case "esm_start":
                span = self._span(arguments[0])
                yield Memory(tuple(self._sample(each) for each in span["os"][:-1]))
            case "esm_stats" if self._follows(arguments[0]) and "os" in arguments[0]:
                yield self._sample(arguments[0]["os"], arguments[0].get("responses"))

    def _span(self, spans: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        chosen = [span for span in spans if self._follows(span)]
        return min(chosen, key=lambda span: float(span["interval"]))

    def _follows(self, span: Mapping[str, Any]) -> bool:
        return self._interval is None or float(span["interval"]) == self._interval

    def _sample(self, figures: Mapping[str, Any], responses: object = None) -> Observation:
        return Observation(
            stream=stream_id(self._device, "process"),
            kind="process_sampled",
            occurred_at=from_unix(figures["timestamp"] / 1000),
            payload={**figures, "responses": responses},
        )
