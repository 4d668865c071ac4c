"""The session: recorded conversations, and what the recordings leave open."""

import json

import pytest

from embedded.phoenix.actions import Send, SendPresence, Subscribe, Unsubscribe
from embedded.phoenix.channel import Token
from embedded.phoenix.errors import TokenFault, TokenRefused
from embedded.phoenix.frames import Vsn
from embedded.phoenix.limits import Limits
from embedded.phoenix.session import Session

NOW = 1_800_000_000.0
ANON = Token("anon", "anon", "{}", NOW + 1000)
TODOS = [{"event": "*", "schema": "public", "table": "todos"}]


def verify(raw, now):
    known = {
        "anon": ANON,
        "user": Token("user", "authenticated", '{"sub":"1"}', NOW + 50),
        "user2": Token("user2", "authenticated", '{"sub":"2"}', NOW + 500),
    }
    if raw == "expired":
        raise TokenRefused(TokenFault.EXPIRED, "Token has expired", expired_seconds=55)
    if raw == "forged":
        raise TokenRefused(TokenFault.SIGNATURE, "Failed to validate JWT signature")
    if raw not in known:
        raise TokenRefused(TokenFault.MALFORMED, "The token provided is not a valid JWT")
    return known[raw]


def session(vsn=Vsn.V2):
    return Session(vsn, ANON, verify)


def texts(actions):
    return [action.text.decode() for action in actions if isinstance(action, Send)]


def with_presence(peer, actions):
    """Answer the questions for the state of presence: nobody is there."""
    return [
        answer
        for action in actions
        for answer in (
            peer.presence_state(action.channel, b"{}") if isinstance(action, SendPresence) else [action]
        )
    ]


def v2(*fields):
    return json.dumps(list(fields), separators=(",", ":"))


def v1(topic, event, payload, ref, **more):
    return json.dumps({"topic": topic, "event": event, "payload": payload, "ref": ref, **more})


def joined(peer, topic="realtime:t1", join_ref="1", config=None, **payload):
    actions = peer.receive(
        v2(join_ref, join_ref, topic, "phx_join", {"config": config or {}, **payload}), NOW
    )
    for action in list(actions):
        if isinstance(action, Subscribe):
            actions += peer.subscribed(action.channel)
    return actions


def test_the_recorded_join_and_leave_in_v1():
    peer = session(Vsn.V1)
    conversation = [
        (v1("realtime:t1", "phx_join", {"config": {}}, "1", join_ref="1"),
         ['{"ref":"1","event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[]}},"topic":"realtime:t1"}']),
        (v1("realtime:t3", "phx_join", {"config": {"broadcast": {}, "presence": {"enabled": True, "key": "k"},
                                                   "postgres_changes": None}}, "3", join_ref="3"),
         ['{"ref":"3","event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[]}},"topic":"realtime:t3"}',
          '{"ref":null,"event":"presence_state","payload":{},"topic":"realtime:t3"}']),
        (v1("realtime:t4", "phx_join", {"config": {"broadcast": "x", "presence": 5}}, "4", join_ref="4"),
         [('{"ref":"4","event":"phx_reply","payload":{"status":"error","response":{"reason":"UnknownErrorOnChannel: '
          'no function clause matching in Access.get/3"}},"topic":"realtime:t4"}')]),
        (v1("realtime:t1", "phx_leave", {}, "6", join_ref="1"),
         ['{"ref":"6","event":"phx_reply","payload":{"status":"ok","response":{}},"topic":"realtime:t1"}',
          '{"ref":"1","event":"phx_close","payload":{},"topic":"realtime:t1"}']),
        (v1("realtime:t1", "phx_leave", {}, "7", join_ref="1"),
         ['{"ref":"7","event":"phx_reply","payload":{"status":"ok","response":{}},"topic":"realtime:t1"}']),
        (v1(1, "phx_join", {}, "1", join_ref="1"),
         ['{"ref":"1","event":"phx_reply","payload":{"status":"error","response":{"reason":"unmatched topic"}},"topic":1}']),
    ]  # fmt: skip
    for sent, received in conversation:
        assert texts(with_presence(peer, peer.receive(sent, NOW))) == received


def test_a_second_join_is_answered_then_the_first_one_closed():
    peer = session()
    joined(peer, join_ref="2")
    assert texts(joined(peer, join_ref="8")) == [
        '["8","8","realtime:t1","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]',
        '["2","2","realtime:t1","phx_close",{}]',
    ]
    assert peer.receive(v2("1", "9", "realtime:t1", "phx_leave", {}), NOW) == []


@pytest.mark.parametrize("ref", ["1", "abc", 5, None])
def test_heartbeats_echo_their_ref(ref):
    (answer,) = texts(session().receive(v2("7", ref, "phoenix", "heartbeat", {}), NOW))
    assert json.loads(answer) == [None, ref, "phoenix", "phx_reply", {"status": "ok", "response": {}}]


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (v2(None, "1", "realtime:nope", "broadcast", {}), [None, "1", "realtime:nope", "error"]),
        (v2("90", "90", "nosuch:topic", "phx_join", {}), [None, "90", "nosuch:topic", "error"]),
        (v2("91", "91", "phoenix", "phx_join", {}), [None, "91", "phoenix", "error"]),
        (v2(None, "2", "phoenix", "other", {}), [None, "2", "phoenix", "error"]),
        (v2("1", "7", "realtime:nope", "phx_leave", {}), ["1", "7", "realtime:nope", "ok"]),
    ],
)
def test_topics_that_are_not_joined(sent, answer):
    (text,) = texts(session().receive(sent, NOW))
    join_ref, ref, topic, event, payload = json.loads(text)
    assert [join_ref, ref, topic, payload["status"]] == answer
    assert event == "phx_reply"
    assert payload["response"] == ({} if answer[3] == "ok" else {"reason": "unmatched topic"})


def test_unknown_events_have_no_answer():
    peer = session()
    joined(peer)
    for event in ("bogus_event", "heartbeat", "postgres_changes", "system"):
        assert peer.receive(v2("1", "5", "realtime:t1", event, {}), NOW) == []


@pytest.mark.parametrize(("payload", "printed"), [(None, "nil"), ([], "[]"), ("str", '"str"'), (5, "5")])
def test_a_join_needs_an_object(payload, printed):
    (text,) = texts(session().receive(v2("1", "1", "realtime:x", "phx_join", payload), NOW))
    assert json.loads(text)[4] == {
        "status": "error",
        "response": {"reason": f"UnknownErrorOnChannel: expected params to be a :map, got: `{printed}`"},
    }


def test_the_reply_waits_for_the_subscription():
    peer = session()
    actions = peer.receive(
        v2("1", "1", "realtime:t", "phx_join", {"config": {"postgres_changes": TODOS}}), NOW
    )
    (subscribe,) = actions
    assert isinstance(subscribe, Subscribe)
    assert texts(peer.receive(v2(None, "2", "phoenix", "heartbeat", {}), NOW))  # others are not kept waiting
    reply, told = map(json.loads, texts(peer.subscribed(subscribe.channel)))
    assert reply[3:] == [
        "phx_reply",
        {"status": "ok", "response": {"postgres_changes": subscribe.channel.config.changes.echo}},
    ]
    assert told == [
        "1",
        None,
        "realtime:t",
        "system",
        {
            "message": "Subscribed to PostgreSQL",
            "status": "ok",
            "extension": "postgres_changes",
            "channel": "t",
        },
    ]


def test_a_refused_subscription_is_a_joined_channel():
    peer = session()
    (subscribe,) = peer.receive(
        v2("1", "1", "realtime:t", "phx_join", {"config": {"postgres_changes": TODOS}}), NOW
    )
    reply, told = map(json.loads, texts(peer.refused(subscribe.channel, "Unable")))
    assert reply[4]["status"] == "ok"
    assert told[4] == {
        "message": "Unable",
        "status": "error",
        "extension": "postgres_changes",
        "channel": "t",
    }
    assert peer.receive(v2("1", "2", "realtime:t", "whatever", {}), NOW) == []


def test_nonsense_parameters_are_told_at_once():
    reply, told = map(json.loads, texts(joined(session(), config={"postgres_changes": [{"event": "*"}]})))
    assert reply[4]["status"] == "ok"
    assert told[4]["status"] == "error"


def test_leaving_while_joining_completes_the_join_first():
    peer = session()
    peer.receive(v2("1", "1", "realtime:t", "phx_join", {"config": {"postgres_changes": TODOS}}), NOW)
    actions = peer.receive(v2("1", "2", "realtime:t", "phx_leave", {}), NOW)
    assert [json.loads(text)[3] for text in texts(actions)] == ["phx_reply", "phx_reply", "phx_close"]
    (stopped,) = [a for a in actions if isinstance(a, Unsubscribe)]
    assert peer.subscribed(stopped.channel) == []  # the shell may have been on its way


def test_a_new_token_subscribes_anew():
    peer = session()
    joined(peer, config={"postgres_changes": TODOS}, access_token="user")
    (again,) = peer.receive(v2("1", "2", "realtime:t1", "access_token", {"access_token": "user2"}), NOW)
    assert isinstance(again, Subscribe)
    assert again.channel.token.raw == "user2"
    (told,) = texts(peer.subscribed(again.channel))
    assert json.loads(told)[4]["message"] == "Subscribed to PostgreSQL"


@pytest.mark.parametrize("token", ["anon", None, "sb_publishable_x", 5])
def test_tokens_that_change_nothing(token):
    peer = session()
    joined(peer, config={"postgres_changes": TODOS})
    assert peer.receive(v2("1", "2", "realtime:t1", "access_token", {"access_token": token}), NOW) == []
    assert peer.receive(v2("1", "2", "realtime:t1", "access_token", {}), NOW) == []


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("garbage", "The token provided is not a valid JWT"),
        ("expired", "Token has expired 55 seconds ago"),
        ("forged", ":signature_error"),
    ],
)
def test_a_bad_token_closes_its_channel_only(token, message):
    peer = session()
    joined(peer)
    joined(peer, topic="realtime:other", join_ref="2")
    told, closed = texts(
        peer.receive(v2("1", "9", "realtime:t1", "access_token", {"access_token": token}), NOW)
    )
    assert json.loads(told) == [
        "1",
        None,
        "realtime:t1",
        "system",
        {"message": message, "status": "error", "extension": "system", "channel": "t1"},
    ]
    assert closed == '["1","1","realtime:t1","phx_close",{}]'
    assert list(peer.channels) == ["realtime:other"]


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("garbage", "MalformedJWT: The token provided is not a valid JWT"),
        ("expired", "InvalidJWTToken: Token has expired 55 seconds ago"),
        ("forged", "JwtSignatureError: Failed to validate JWT signature"),
    ],
)
def test_a_bad_token_refuses_the_join(token, reason):
    (text,) = texts(joined(session(), access_token=token))
    assert json.loads(text)[4] == {"status": "error", "response": {"reason": reason}}


def test_channels_end_with_their_token():
    peer = session()
    joined(peer, access_token="user")
    joined(peer, topic="realtime:stay", join_ref="2")
    assert peer.next_expiry == NOW + 50
    assert peer.expire(NOW + 49) == []
    told, closed = texts(peer.expire(NOW + 50.2))
    assert json.loads(told)[4]["message"] == "Token has expired 0 seconds ago"
    assert closed == '["1","1","realtime:t1","phx_close",{}]'
    assert peer.next_expiry == ANON.expires_at


def test_an_empty_topic_needs_a_name():
    (text,) = texts(joined(session(), topic="realtime:"))
    assert json.loads(text)[4]["response"] == {"reason": "TopicNameRequired: You must provide a topic name"}


def test_joining_without_config_means_the_topic():
    (subscribe,) = session().receive(v2("1", "1", "realtime:public:todos:id=eq.1", "phx_join", {}), NOW)
    (binding,) = subscribe.channel.config.changes.bindings
    assert (binding.schema, binding.table, binding.filters[0].values) == ("public", "todos", ("1",))
    assert subscribe.channel.config.legacy


def test_channels_are_limited_if_so_wanted():
    peer = Session(Vsn.V2, ANON, verify, limits=Limits(channels_per_client=3))
    for number in range(3):
        joined(peer, topic=f"realtime:{number}")
    (text,) = texts(joined(peer, topic="realtime:more"))
    assert json.loads(text)[4]["response"] == {"reason": "ChannelRateLimitReached: Too many channels"}


def test_the_end_unsubscribes_everything():
    peer = session()
    joined(peer, config={"postgres_changes": TODOS})
    joined(peer, topic="realtime:b")
    assert len(peer.end()) == 2
    assert peer.channels == {}
