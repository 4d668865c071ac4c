"""Presence between clients of both versions, over real sockets."""

import pytest

TOPIC = "realtime:room"
OK = {"status": "ok", "response": {}}


def metas(entry):
    """Return the metas without their refs."""
    return [{key: value for key, value in meta.items() if not key.startswith("phx_")} for meta in entry]


def plain(diff):
    return {
        part: {key: metas(entry["metas"]) for key, entry in diff[part].items()}
        for part in ("joins", "leaves")
    }


async def heard(peer):
    topic, event, payload = await peer.receive()
    assert (topic, event) == (TOPIC, "presence_diff"), (event, payload)
    return payload


async def own(peer):
    """Return the diff that a tracker gets beside the reply, in whichever order."""
    frames = {event: payload for _, event, payload in [await peer.receive(), await peer.receive()]}
    assert frames["phx_reply"] == OK
    return frames["presence_diff"]


async def test_the_recorded_conversation(rooms):
    alice, bob, nobody = await rooms.peer("1.0.0"), await rooms.peer(), await rooms.peer()
    await alice.join(key="alice")
    assert await alice.receive() == (TOPIC, "presence_state", {})
    await nobody.join()
    await nobody.silent()
    await alice.track({"status": "online", "n": 1})
    tracked = {"joins": {"alice": [{"n": 1, "status": "online"}]}, "leaves": {}}
    assert plain(await own(alice)) == tracked
    assert plain(await heard(nobody)) == tracked
    await bob.join(key="bob")
    _, event, state = await bob.receive()
    assert (event, metas(state["alice"]["metas"])) == ("presence_state", [{"n": 1, "status": "online"}])
    await bob.track({"status": "here"})
    first = (await own(bob))["joins"]["bob"]["metas"][0]["phx_ref"]
    for peer in (alice, nobody):
        assert plain(await heard(peer)) == {"joins": {"bob": [{"status": "here"}]}, "leaves": {}}
    await bob.track({"status": "here"})
    assert (await bob.receive())[2] == OK
    await bob.send(TOPIC, "presence", {"type": "presence", "event": "TRACK", "payload": {"status": "away"}})
    changed = await own(bob)
    assert changed["joins"]["bob"]["metas"][0]["phx_ref_prev"] == first
    assert changed["leaves"]["bob"]["metas"] == [{"phx_ref": first, "status": "here"}]
    for peer in (alice, nobody):
        assert await heard(peer) == changed
    await alice.send(TOPIC, "presence", {"type": "presence", "event": "untrack"})
    gone = {"joins": {}, "leaves": {"alice": [{"n": 1, "status": "online"}]}}
    assert plain(await own(alice)) == gone
    for peer in (bob, nobody):
        assert plain(await heard(peer)) == gone
    await bob.send(TOPIC, "phx_leave", {}, join_ref="1")
    assert [(await bob.receive())[1] for _ in range(2)] == ["phx_reply", "phx_close"]
    for peer in (alice, nobody):
        assert plain(await heard(peer)) == {"joins": {}, "leaves": {"bob": [{"status": "away"}]}}
    await alice.track({"status": "back"})
    await heard(nobody)
    alice.socket.transport.abort()  # no closing handshake
    assert plain(await heard(nobody)) == {"joins": {}, "leaves": {"alice": [{"status": "back"}]}}
    await bob.silent()
    assert rooms.server.health()["present"] == 0


async def test_a_second_join_starts_anew(rooms):
    peer, other = await rooms.peer(), await rooms.peer()
    await peer.join(key="k")
    await peer.receive()
    await peer.track({"n": 1})
    await own(peer)
    await other.join()
    await peer.join(key="k")
    assert plain(await heard(other))["leaves"] == {"k": [{"n": 1}]}
    rest = [(await peer.receive())[1:] for _ in range(2)]
    assert sorted(rest, key=str) == [("phx_close", {}), ("presence_state", {})]
    await peer.silent()


async def test_two_windows_of_one_user(rooms):
    first, second, watcher = await rooms.peer(), await rooms.peer(), await rooms.peer()
    for n, peer in enumerate((first, second)):
        await peer.join(key="user")
        await peer.receive()
        await peer.track({"n": n})
        await own(peer)
    await watcher.join(key="watcher")
    state = (await watcher.receive())[2]
    assert metas(state["user"]["metas"]) == [{"n": 0}, {"n": 1}]
    await first.socket.close()
    assert plain(await heard(watcher)) == {"joins": {}, "leaves": {"user": [{"n": 0}]}}


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        (
            {"event": "track", "payload": "str"},
            {"status": "error", "response": {"reason": "Presence track payload must be a map"}},
        ),
        ({"event": "bogus", "payload": {}}, {"status": "error", "response": {}}),
        ({"event": 7}, {"status": "error", "response": {}}),
        ({"type": "presence"}, OK),
        ({}, OK),
        ({"event": "untrack"}, OK),
    ],
)
async def test_what_tracks_nothing(rooms, payload, reply):
    peer = await rooms.peer()
    await peer.join(key="k")
    await peer.receive()
    await peer.send(TOPIC, "presence", payload)
    assert (await peer.receive())[2] == reply
    await peer.silent()


async def test_tracking_nothing_in_particular(rooms):
    peer = await rooms.peer()
    await peer.join()
    await peer.send(TOPIC, "presence", {"type": "presence", "event": "track"})
    ((key, entry),) = (await own(peer))["joins"].items()
    assert (len(key), metas(entry["metas"])) == (36, [{}])  # a made up key


async def test_refs_are_not_the_clients_to_choose(rooms):
    peer = await rooms.peer()
    await peer.join(key="k")
    await peer.receive()
    await peer.track({"phx_ref": "mine", "phx_ref_prev": "mine", "n": 1})
    (meta,) = (await own(peer))["joins"]["k"]["metas"]
    assert set(meta) == {"phx_ref", "n"}
    assert meta["phx_ref"] != "mine"


async def test_six_messages_in_thirty_seconds_are_too_many(rooms):
    peer, other = await rooms.peer(), await rooms.peer()
    await other.join()
    await peer.join(key="rl")
    await peer.receive()
    for n in range(5):
        await peer.track({"i": n})
        await own(peer)
        await heard(other)
    await peer.track({"i": 5})
    _, event, payload = await peer.receive()
    assert (event, payload["message"]) == ("system", "Client presence rate limit exceeded")
    assert (await peer.receive())[1] == "phx_close"
    assert plain(await heard(other)) == {"joins": {}, "leaves": {"rl": [{"i": 4}]}}
    await peer.track({"i": 6})
    assert (await peer.receive())[2] == {"status": "error", "response": {"reason": "unmatched topic"}}


async def test_too_much_at_once(rooms):
    peer = await rooms.peer()
    await peer.join(key="big")
    await peer.receive()
    await peer.track({"x": "y" * 3_200_000})
    _, event, payload = await peer.receive()
    assert (event, payload["message"]) == ("system", "Track message size exceeded")
    assert (await peer.receive())[1] == "phx_close"
