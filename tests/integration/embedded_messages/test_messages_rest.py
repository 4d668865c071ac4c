"""Broadcasting over HTTP, with the statuses, bodies and frames of the real server."""

import httpx
import pytest

from embedded.habits import habits
from tests.integration.embedded_messages.conftest import USER_1, database, kind_4, serving

A_MESSAGE = {"topic": "rest", "event": "ev", "payload": {"a": 1}}
PRIVATE = {"topic": "room-1", "event": "ev", "payload": {"a": 1}, "private": True}


@pytest.fixture(params=["/realtime/v1/api", "/api"])
def prefix(request):
    return request.param


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


async def post(project, path, **options):
    async with httpx.AsyncClient(base_url=project.url) as http:
        return await http.post(path, **options)


async def test_a_batch_is_text_for_both_versions(project, prefix):
    two, one = await project.client(), await project.client("1.0.0")
    await two.joined("rest", private=False)
    await one.joined("rest", private=False)
    other = {"topic": "realtime:rest", "event": "ev2", "payload": {}}
    named = {"topic": "rest", "event": "ev3", "payload": {"b": 1e5, "a": None}, "id": "mine"}
    answer = await post(
        project,
        f"{prefix}/broadcast",
        json={"messages": [A_MESSAGE, other, named]},
        headers=bearer(project.keys.anon_key),
    )
    assert (answer.status_code, answer.text) == (202, "")
    assert answer.headers["access-control-allow-origin"] == "*"
    expected = [
        '{"event":"ev","payload":{"a":1},"type":"broadcast"}',
        '{"event":"ev3","meta":{"id":"mine"},"payload":{"a":null,"b":1.0e5},"type":"broadcast"}',
    ]
    for payload in expected:
        assert await two.raw() == f'[null,null,"realtime:rest","broadcast",{payload}]'
        assert (
            await one.raw()
            == f'{{"ref":null,"event":"broadcast","payload":{payload},"topic":"realtime:rest"}}'
        )


async def test_private_messages_need_permission_and_are_dropped_without(project):
    client = await project.client()
    await client.joined("room-1", project.token(sub=USER_1))
    for key in (project.keys.anon_key, project.token(sub=USER_1), project.keys.service_role_key):
        answer = await post(project, "/api/broadcast", json={"messages": [PRIVATE]}, headers=bearer(key))
        assert (answer.status_code, answer.text) == (202, "")
    answer = await post(
        project,
        "/api/broadcast",
        json={"messages": [{**PRIVATE, "private": False, "event": "public"}]},
        headers=bearer(project.token(sub=USER_1)),
    )
    assert answer.status_code == 202
    assert [(await client.message())[1] for _ in range(2)] == ["ev", "ev"]
    await client.silent()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (lambda keys: {"apikey": keys.anon_key}, 202),
        (lambda keys: {"apikey": keys.publishable_key}, 202),
        (lambda keys: bearer(keys.secret_key), 202),
        (lambda _: {}, 401),
        (lambda _: {"Authorization": "Bearer bad"}, 401),
        (lambda keys: {"Authorization": "Bearer bad", "apikey": keys.anon_key}, 401),
    ],
)
async def test_who_may_send(project, headers, status):
    answer = await post(
        project, "/api/broadcast", json={"messages": [A_MESSAGE]}, headers=headers(project.keys)
    )
    assert answer.status_code == status
    assert answer.text == ("" if status == 202 else '{"message":"Unauthorized"}')


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, '{"errors":{"messages":["can\'t be blank"]}}'),
        ({"messages": []}, '{"errors":{"messages":["can\'t be blank"]}}'),
        (
            {"messages": [{}]},
            (
                '{"errors":{"messages":[{"event":["can\'t be blank"],"payload":["can\'t be blank"],'
                '"topic":["can\'t be blank"]}]}}'
            ),
        ),
        (
            {"messages": [{"topic": "rest", "event": "ev"}]},
            '{"errors":{"messages":[{"payload":["can\'t be blank"]}]}}',
        ),
        (
            {"messages": [{**A_MESSAGE, "payload": "str"}]},
            '{"errors":{"messages":[{"payload":["is invalid"]}]}}',
        ),
        (
            {"messages": [{**A_MESSAGE, "payload": {"x": "y" * 3_100_000}}]},
            '{"errors":{"messages":[{"payload":["Payload size exceeds tenant limit"]}]}}',
        ),
    ],
)
async def test_what_is_not_accepted(project, body, text):
    answer = await post(project, "/api/broadcast", json=body, headers=bearer(project.keys.anon_key))
    assert (answer.status_code, answer.text) == (422, text)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"


async def test_what_is_not_json_or_not_post(project, prefix):
    headers = {**bearer(project.keys.anon_key), "Content-Type": "application/json"}
    for path in ("broadcast", "broadcast/rest/events/ev"):
        answer = await post(project, f"{prefix}/{path}", content=b"not json", headers=headers)
        assert (answer.status_code, answer.text) == (400, "Bad Request")
    async with httpx.AsyncClient(base_url=project.url) as http:
        answer = await http.get(f"{prefix}/broadcast", headers=headers)
        assert (answer.status_code, answer.text) == (404, "Not Found")
        answer = await http.get(f"{prefix}/ping")
        assert (answer.status_code, answer.text) == (200, '{"message":"Success"}')
        answer = await http.options(f"{prefix}/broadcast", headers={"Origin": "http://a.example"})
        assert answer.status_code == 200
        assert "POST" in answer.headers["access-control-allow-methods"]


async def test_a_single_message_is_binary_for_the_new_version(project, prefix):
    two, one = await project.client(), await project.client("1.0.0")
    await two.joined("rest/a b", private=False)
    await one.joined("rest/a b", private=False)
    headers = bearer(project.keys.anon_key)
    path = f"{prefix}/broadcast/rest%2Fa%20b/events"
    answer = await post(project, f"{path}/single", json={"b": 2, "a": 1}, headers=headers)
    assert (answer.status_code, answer.text) == (202, "")
    frame = await two.raw()
    assert kind_4(frame) == ("realtime:rest/a b", "single", None, {"a": 1, "b": 2})
    assert frame.endswith(b'{"a":1,"b":2}')
    assert (await one.message())[1:] == ("single", None, {"a": 1, "b": 2})
    answer = await post(
        project,
        f"{path}/bin",
        content=b"\x00\x01\xff",
        headers={**headers, "Content-Type": "application/octet-stream"},
    )
    assert answer.status_code == 202
    assert kind_4(await two.raw())[1:] == ("bin", None, b"\x00\x01\xff")
    answer = await post(project, f"{path}/arr", json=[1, 2], headers=headers)
    assert answer.status_code == 202
    assert kind_4(await two.raw())[3] == {"_json": [1, 2]}
    assert (await one.message())[3] == {"_json": [1, 2]}


async def test_a_single_message_that_is_refused(project):
    path = "/api/broadcast/room-1/events/single?private=true"
    refused = [
        (
            path,
            {"json": {"a": 1}, "headers": bearer(project.keys.anon_key)},
            403,
            '{"message":"Unauthorized"}',
        ),
        (path, {"json": {"a": 1}}, 401, '{"message":"Unauthorized"}'),
        (
            path,
            {"content": b"x", "headers": {"Content-Type": "text/plain"}},
            415,
            '{"error":"Unsupported Media Type. Use application/json or application/octet-stream"}',
        ),
    ]
    for url, options, status, text in refused:
        answer = await post(project, url, **options)
        assert (answer.status_code, answer.text) == (status, text)
    client = await project.client()
    token = project.token(sub=USER_1)
    await client.joined("room-1", token)
    answer = await post(project, path, json={"a": 1}, headers=bearer(token))
    assert answer.status_code == 202
    assert kind_4(await client.raw()) == ("realtime:room-1", "single", None, {"a": 1})


async def test_hosted_limits_bound_a_batch(messages_cluster):
    async with (
        database(messages_cluster) as name,
        serving(messages_cluster, name, habits=habits(["hosted-limits"])) as project,
    ):
        for count, status in ((100, 202), (101, 429)):
            answer = await post(
                project,
                "/api/broadcast",
                json={"messages": [A_MESSAGE] * count},
                headers=bearer(project.keys.anon_key),
            )
            assert answer.status_code == status
        assert answer.text == '{"message":"Too many messages to broadcast, please reduce the batch size"}'
