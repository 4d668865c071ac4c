"""The session in rooms: what may be sent and heard, when, and what a channel's end brings with it."""

import json

import pytest

from embedded.phoenix.actions import (
    Authorize,
    AwaitReplication,
    Disconnect,
    Enter,
    Publish,
    Send,
    SendPresence,
    Subscribe,
    Track,
    Unsubscribe,
    Untrack,
)
from embedded.phoenix.broadcast import BinaryBroadcast, Room, TextBroadcast, UserBroadcast
from embedded.phoenix.channel import Access, Permissions, State, Token, parse_join, replay_wanted
from embedded.phoenix.errors import JoinRefused, TokenFault, TokenRefused
from embedded.phoenix.frames import Vsn
from embedded.phoenix.limits import Limits, Rate
from embedded.phoenix.session import Session

NOW = 1_800_000_000.0
TOPIC = "realtime:room"
TODOS = [{"event": "*", "schema": "public", "table": "todos"}]
ALL = Permissions(broadcast=True, presence=True)
NOTHING = Permissions(broadcast=False, presence=False)


def verify(raw, now):
    return Token(raw, "authenticated", "{}", NOW + 1000)


def session(**options):
    return Session(Vsn.V2, verify("anon", NOW), verify, **options)


def frame(event, payload, *, topic=TOPIC, join_ref="1", ref="2"):
    return json.dumps([join_ref, ref, topic, event, payload])


def join(peer, *, ref="1", topic=TOPIC, **config):
    return peer.receive(frame("phx_join", {"config": config}, join_ref=ref, ref=ref, topic=topic), NOW)


def say(peer, event, payload, now=NOW):
    return peer.receive(frame(event, payload), now)


def kinds(actions):
    return [type(action) for action in actions]


def told(actions):
    """Return event and payload of what is sent."""
    return [tuple(json.loads(action.text)[3:]) for action in actions if isinstance(action, Send)]


def ok(response):
    return "phx_reply", {"status": "ok", "response": response}


def test_a_public_room_is_entered_after_the_reply():
    actions = join(session(), presence={"enabled": True, "key": "me"})
    assert kinds(actions) == [Send, Enter, SendPresence]
    channel = actions[1].channel
    assert (channel.room, channel.config.presence_key) == (Room("room", private=False), "me")


def test_broadcasts_are_published_keys_in_order_and_answered_if_so_wanted():
    peer = session()
    join(peer, broadcast={"ack": True})
    publish, answer = say(peer, "broadcast", {"type": "broadcast", "payload": {"b": 1, "a": 2}, "event": "e"})
    assert publish.message == TextBroadcast(b'{"event":"e","payload":{"a":2,"b":1},"type":"broadcast"}')
    assert told([answer]) == [ok({})]
    assert not publish.channel.config.hears_itself


def test_without_ack_there_is_no_answer():
    peer = session()
    join(peer, broadcast={"ack": "yes", "self": "TRUE"})
    (publish,) = say(peer, "broadcast", {})
    assert publish.channel.config.hears_itself


def test_binary_broadcasts():
    peer = session()
    join(peer)
    (publish,) = peer.receive_binary(b"\x03\x01\x00\x0d\x03\x02\x011realtime:roomevj{}[1]", NOW)
    assert publish.message == UserBroadcast("evj", b"[1]")
    (publish,) = peer.receive_binary(b"\x00\x01\x00\x0d\x091realtime:roombroadcastxyz", NOW)
    assert publish.message == BinaryBroadcast(b"xyz")
    assert peer.receive_binary(b"\x04\x00", NOW) == []
    assert told(peer.receive_binary(b"\x00\x00\x01\x07\x091phoenixheartbeat{}", NOW)) == [ok({})]


def test_a_join_in_binary_has_no_map():
    (answer,) = [
        action
        for action in session().receive_binary(b"\x00\x01\x01\x0d\x0811realtime:roomphx_join{}", NOW)
        if isinstance(action, Send)
    ]
    assert told([answer])[0][1]["response"] == {
        "reason": 'UnknownErrorOnChannel: expected params to be a :map, got: `{:binary, "{}"}`'
    }


@pytest.mark.parametrize("payload", [[], "text", 7, None, True])
@pytest.mark.parametrize("event", ["broadcast", "presence"])
def test_what_is_no_map_ends_the_channel(event, payload):
    peer = session()
    join(peer)
    actions = say(peer, event, payload)
    if (event, payload) == ("presence", None):
        assert told(actions) == [ok({})]
        return
    assert kinds(actions) == [Unsubscribe, Send]
    assert told(actions) == [("phx_error", {"reason": "channel_crash"})]
    assert peer.channels == {}


def test_what_is_too_large_is_not_published():
    peer = session(limits=Limits(payload_bytes=30))
    join(peer, broadcast={"ack": True})
    assert told(say(peer, "broadcast", {"x": "y" * 30})) == [
        ("phx_reply", {"status": "error", "response": "payload_size_exceeded"})
    ]
    assert kinds(say(peer, "broadcast", {"x": "y"})) == [Publish, Send]
    actions = say(peer, "presence", {"event": "track", "payload": {"x": "y" * 30}})
    assert kinds(actions) == [Send, Unsubscribe, Send]
    assert told(actions)[0][1]["message"] == "Track message size exceeded"


def test_presence():
    peer = session()
    join(peer)
    answer, track = say(peer, "presence", {"event": "Track", "payload": {"b": 1, "a": 1e5, "phx_ref": "x"}})
    assert told([answer]) == [ok({})]
    assert (type(track), track.payload) == (Track, b'{"a":1.0e5,"b":1}')
    assert kinds(say(peer, "presence", {"event": "untrack"})) == [Send, Untrack]
    for payload in ({"event": "bogus"}, {"event": ["track"]}):
        assert told(say(peer, "presence", payload)) == [("phx_reply", {"status": "error", "response": {}})]


def test_the_rate_of_presence_is_of_one_channel():
    peer = session(limits=Limits(presence_messages=2, presence_seconds=10.0))
    join(peer)
    assert [len(say(peer, "presence", {}, at)) for at in (NOW, NOW + 9, NOW + 11)] == [1, 1, 1]
    actions = say(peer, "presence", {}, NOW + 12)
    assert told(actions)[0][1]["message"] == "Client presence rate limit exceeded"
    join(peer)
    assert told(say(peer, "presence", {}, NOW + 12)) == [ok({})]


# -- before the join is answered


def test_what_is_sent_before_the_reply_waits_for_it():
    peer = session()
    (subscribe,) = join(peer, postgres_changes=TODOS, broadcast={"ack": True})
    assert say(peer, "broadcast", {"event": "e"}) == []
    assert say(peer, "presence", {"event": "track"}) == []
    actions = peer.subscribed(subscribe.channel)
    assert kinds(actions) == [Send, Enter, Send, Publish, Send, Send, Track]
    assert told(actions)[1][1]["message"] == "Subscribed to PostgreSQL"


def test_what_waits_can_end_the_channel():
    peer = session()
    (subscribe,) = join(peer, postgres_changes=TODOS)
    say(peer, "broadcast", [])
    say(peer, "broadcast", {})
    actions = peer.subscribed(subscribe.channel)
    assert [event for event, _ in told(actions)] == ["phx_reply", "system", "phx_error", "phx_reply"]
    assert subscribe.channel.state is State.CLOSED
    assert peer.subscribed(subscribe.channel) == []


def test_what_waits_is_bounded():
    peer = session()
    (subscribe,) = join(peer, postgres_changes=TODOS)
    for _ in range(1200):
        say(peer, "broadcast", {})
    assert kinds(peer.subscribed(subscribe.channel)).count(Publish) == 1000


def test_what_waits_is_bounded_on_all_channels_together():
    peer = session()
    large = {"x": "y" * 3_000_000}
    (first,) = join(peer, postgres_changes=TODOS)
    say(peer, "broadcast", large)
    (second,) = join(peer, topic="realtime:other", postgres_changes=TODOS)
    for _ in range(3):
        peer.receive(frame("broadcast", large, topic="realtime:other"), NOW)
    assert kinds(peer.subscribed(second.channel)).count(Publish) == 1
    say(peer, "broadcast", large)
    say(peer, "phx_leave", {})
    (again,) = join(peer, postgres_changes=TODOS)
    for _ in range(3):
        say(peer, "broadcast", large)
    assert kinds(peer.subscribed(again.channel)).count(Publish) == 2
    assert first.channel.state is State.CLOSED


# -- private rooms


def private(peer, access=Access(ALL, ALL), **config):  # noqa: B008  # a frozen value
    (authorize,) = join(peer, private=True, **config)
    assert type(authorize) is Authorize
    return authorize.channel, peer.authorized(authorize.channel, access)


def test_a_private_room_is_entered_when_the_policies_allow():
    channel, actions = private(session(), presence={"enabled": True})
    assert kinds(actions) == [Send, Enter, SendPresence]
    assert channel.room == Room("room", private=True)


def test_who_may_read_nothing_may_not_join():
    peer = session()
    channel, actions = private(peer, Access(NOTHING, ALL))
    assert told(actions)[-1][1]["response"] == {
        "reason": "Unauthorized: You do not have permissions to read from this Channel topic: room"
    }
    assert peer.channels == {}
    assert peer.authorized(channel, Access(ALL, ALL)) == []
    assert peer.denied(channel, "again") == []


def test_who_may_write_nothing_is_not_heard():
    peer = session()
    private(peer, Access(ALL, NOTHING), broadcast={"ack": True})
    assert say(peer, "broadcast", {}) == []
    for event in ("track", "untrack"):
        assert told(say(peer, "presence", {"event": event})) == [
            ("phx_reply", {"status": "error", "response": {}})
        ]


def test_presence_that_may_not_be_read_is_not_told():
    _, actions = private(
        session(), Access(Permissions(broadcast=True, presence=False), ALL), presence={"enabled": True}
    )
    assert kinds(actions) == [Send, Enter]


def test_a_new_token_is_asked_about_again():
    peer = session()
    channel, _ = private(peer, postgres_changes=TODOS)
    peer.subscribed(channel)
    (again,) = say(peer, "access_token", {"access_token": "new"})
    assert type(again) is Authorize
    assert kinds(peer.authorized(channel, Access(ALL, NOTHING))) == [Enter, Subscribe]
    peer.subscribed(channel)
    assert say(peer, "broadcast", {}) == []
    say(peer, "access_token", {"access_token": "newer"})
    actions = peer.denied(channel, "UnableToConnectToProject: No database")
    assert told(actions)[0][1]["message"] == "No database"
    assert [event for event, _ in told(actions)] == ["system", "phx_close"]


def test_leaving_before_the_policies_have_answered():
    peer = session()
    (authorize,) = join(peer, private=True)
    actions = say(peer, "phx_leave", {})
    assert [event for event, _ in told(actions)] == ["phx_reply", "phx_close"]
    assert Enter not in kinds(actions)
    assert peer.authorized(authorize.channel, Access(ALL, ALL)) == []


def test_a_token_that_does_not_count_ends_a_join_that_waits():
    def only_known(raw, now):
        if raw == "forged":
            raise TokenRefused(TokenFault.SIGNATURE, "Failed to validate JWT signature")
        return verify(raw, now)

    peer = Session(Vsn.V2, verify("anon", NOW), only_known)
    join(peer, private=True)
    actions = say(peer, "access_token", {"access_token": "forged"})
    assert [event for event, _ in told(actions)] == ["system", "phx_close"]
    assert peer.channels == {}


def test_a_second_join_before_the_policies_have_answered():
    peer = session()
    (first,) = join(peer, private=True)
    actions = join(peer, ref="2", private=True)
    assert kinds(actions) == [Unsubscribe, Authorize]
    assert first.channel.state is State.CLOSED
    assert [event for event, _ in told(peer.authorized(actions[1].channel, Access(ALL, ALL)))] == [
        "phx_reply",
        "phx_close",
    ]


def test_history_follows_the_reply():
    peer = session()
    (authorize,) = join(peer, private=True, broadcast={"replay": {"since": 1}})
    actions = peer.authorized(authorize.channel, Access(ALL, ALL), [b'{"event":"a"}', b'{"event":"b"}'])
    assert [event for event, _ in told(actions)] == ["phx_reply", "broadcast", "broadcast"]
    assert json.loads(actions[-1].text)[:3] == ["1", None, TOPIC]


@pytest.mark.parametrize(
    ("replay", "wanted"),
    [
        ({"since": 5}, (5, 25)),
        ({"since": 5, "limit": 3}, (5, 3)),
        ({"since": 5, "limit": 1000}, (5, 25)),
        ({"since": 5, "limit": 0}, (5, 1)),
        ({"since": "5"}, None),
        ({"limit": 5}, None),
        ([], None),
        ({"since": 5, "limit": "x"}, None),
    ],
)
def test_what_history_is_wanted(replay, wanted):
    if wanted is None:
        with pytest.raises(JoinRefused, match="Replay params are not valid"):
            replay_wanted(replay)
    else:
        assert replay_wanted(replay) == wanted


def test_replication_readiness_is_told():
    peer = session()
    actions = join(peer, broadcast={"replication_ready": True})
    assert kinds(actions) == [Send, Enter, AwaitReplication]
    channel = actions[2].channel
    ((_, payload),) = told(peer.replicating(channel))
    assert payload == {
        "message": "Replication connection established",
        "status": "ok",
        "extension": "system",
        "channel": "room",
    }
    assert [event for event, _ in told(peer.not_replicating(channel))] == ["system", "phx_close"]
    assert peer.replicating(channel) == peer.not_replicating(channel) == []


# -- what cannot be right


@pytest.mark.parametrize(
    ("data", "printed"), [(b"{}", '{:binary, "{}"}'), (b"\xff\x00", "{:binary, <<255, 0>>}")]
)
def test_bytes_are_no_map(data, printed):
    with pytest.raises(JoinRefused, match="expected params to be a :map") as refused:
        parse_join(TOPIC, data)
    assert str(refused.value).endswith(f"got: `{printed}`")


def test_configuration_that_is_no_map():
    with pytest.raises(JoinRefused, match="the Access module supports only keyword lists"):
        parse_join(TOPIC, {"config": []})


def test_topics_and_events_of_any_type_are_unmatched():
    for topic, event in ((None, "phx_join"), ({"a": 1}, "phx_leave"), ("phoenix", ["heartbeat"])):
        ((_, payload),) = told(session().receive(frame(event, {}, topic=topic), NOW))
        assert payload["response"] == {"reason": "unmatched topic"}


# -- limits


def test_who_gets_too_much_is_closed():
    peer = session()
    channel = join(peer)[1].channel
    actions = peer.overrun(channel)
    assert told(actions)[0][1]["message"] == "Too many messages per second"
    assert kinds(actions) == [Send, Unsubscribe, Send]
    assert peer.overrun(channel) == []


def test_too_many_joins_end_the_connection():
    joins = Rate(1)
    joins.add(100, NOW - 10)
    actions = join(session(joins=joins))
    assert told(actions)[0][1]["response"] == {
        "reason": "ClientJoinRateLimitReached: Too many joins per second"
    }
    assert actions[-1] == Disconnect(1001)
