"""Who watches which device at a legacy server: what clients asked for by name, in any dialect that has topics."""

from __future__ import annotations

import json

from tests.unit.legacy_ws.test_hub import OneHub


async def test_devices_that_are_asked_for_by_name_are_watched_until_the_client_leaves() -> None:
    hub = OneHub()
    told: list[frozenset[str]] = []
    hub.watchers.changed = lambda: told.append(hub.watchers.devices)
    everything, page, stream = hub.attach(), hub.attach(), hub.attach("stream")
    hub.received(everything, json.dumps({"type": "subscribe", "topics": ["global"]}))
    assert told == []
    hub.received(page, json.dumps({"type": "subscribe", "topics": ["devices.web-1", "metrics.system"]}))
    hub.received(
        stream,
        json.dumps(
            {"type": "subscription", "action": "subscribe", "topics": ["devices.web-1", "devices.nas"]}
        ),
    )
    assert told[-1] == hub.watchers.devices == {"web-1", "nas"}
    hub.detach(page)
    hub.detach(page)
    assert hub.watchers.devices == {"web-1", "nas"}
    hub.received(
        stream, json.dumps({"type": "subscription", "action": "unsubscribe", "topics": ["devices.web-1"]})
    )
    assert hub.watchers.devices == {"nas"}
    hub.detach(stream)
    hub.detach(everything)
    assert told[-1] == frozenset()
