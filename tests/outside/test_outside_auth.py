"""Signing up, in and out with the official Python client (suites B, C and E sign in before most of what they do)."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from embedded.postgres import Postgres
from tests.outside.conftest import PASSWORD, Project, new_email, python_client, served

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from supabase import AsyncClient

# supabase itself passes its HTTP options to postgrest in the form that postgrest has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")


async def signed_up(client: AsyncClient, **options: Any) -> tuple[str, Any]:
    email = new_email()
    answer = await client.auth.sign_up({"email": email, "password": PASSWORD, "options": options})
    assert answer.session is not None
    return email, answer.session


async def test_sign_up_gives_a_session(
    project: Project, client: AsyncClient, sql: asyncpg.Connection
) -> None:
    email, session = await signed_up(client, data={"nickname": "Ada"})
    assert (session.token_type, session.expires_in) == ("bearer", 3600)
    assert abs(session.expires_at - time.time() - 3600) < 30
    claims = jwt.decode(session.access_token, project.keys.jwt_secret, ["HS256"], audience="authenticated")
    assert claims["sub"] == session.user.id
    assert (claims["role"], claims["email"], claims["aal"]) == ("authenticated", email, "aal1")
    assert claims["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert claims["user_metadata"]["nickname"] == "Ada"
    assert claims["iss"] == f"{project.url}/auth/v1"
    assert await sql.fetchval(
        "select user_id from auth.sessions where id = $1", uuid.UUID(claims["session_id"])
    ) == uuid.UUID(session.user.id)
    assert session.user.identities[0].identity_data["email"] == email
    assert (
        await sql.fetchval("select email from profiles where id = $1", uuid.UUID(session.user.id)) == email
    ), "triggers on auth.users run"


async def test_sign_in_user_and_sign_out(project: Project, client: AsyncClient) -> None:
    email, _ = await signed_up(client)
    await client.auth.sign_out()
    answer = await client.auth.sign_in_with_password({"email": email.upper(), "password": PASSWORD})
    assert answer.session is not None
    token = answer.session.access_token
    found = await client.auth.get_user()
    assert found is not None
    assert found.user.email == email
    assert found.user.last_sign_in_at is not None
    await client.auth.sign_out()
    with pytest.raises(AuthApiError) as caught:
        await client.auth.get_user(token)
    assert (caught.value.code, caught.value.status) == ("session_not_found", 403)


async def test_scopes_of_signing_out(project: Project, client: AsyncClient) -> None:
    email, first = await signed_up(client)
    async with python_client(project) as other:
        second = (await other.auth.sign_in_with_password({"email": email, "password": PASSWORD})).session
        assert second is not None
        await client.auth.sign_out({"scope": "others"})
        with pytest.raises(AuthApiError):
            await client.auth.get_user(second.access_token)
        assert await client.auth.get_user(first.access_token)
        third = (await other.auth.sign_in_with_password({"email": email, "password": PASSWORD})).session
        assert third is not None
        await client.auth.sign_out({"scope": "local"})
        assert await other.auth.get_user(third.access_token)


@pytest.mark.parametrize(
    ("credentials", "code", "status"),
    [
        ({"email": "nobody@example.com", "password": PASSWORD}, "invalid_credentials", 400),
        ({"phone": "+491234", "password": PASSWORD}, "phone_provider_disabled", 422),
    ],
)
async def test_refused_sign_ins(
    client: AsyncClient, credentials: dict[str, str], code: str, status: int
) -> None:
    with pytest.raises(AuthApiError) as caught:
        await client.auth.sign_in_with_password(credentials)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.status) == (code, status)


async def test_a_wrong_password_is_refused_like_an_unknown_address(client: AsyncClient) -> None:
    email, _ = await signed_up(client)
    with pytest.raises(AuthApiError, match="Invalid login credentials"):
        await client.auth.sign_in_with_password({"email": email, "password": "wrong"})


async def test_refused_sign_ups(client: AsyncClient) -> None:
    email, _ = await signed_up(client)
    for wrong, code in (
        ({"email": email, "password": PASSWORD}, "user_already_exists"),
        ({"email": "no address", "password": PASSWORD}, "validation_failed"),
    ):
        with pytest.raises(AuthApiError) as caught:
            await client.auth.sign_up(wrong)  # type: ignore[arg-type]
        assert caught.value.code == code
    with pytest.raises(AuthWeakPasswordError) as weak:
        await client.auth.sign_up({"email": new_email(), "password": "short"})
    assert weak.value.reasons == ["length"]
    with pytest.raises(AuthApiError) as anonymous:
        await client.auth.sign_in_anonymously()
    assert anonymous.value.code == "anonymous_provider_disabled"


async def test_refresh_tokens_rotate(client: AsyncClient) -> None:
    _, first = await signed_up(client)
    second = (await client.auth.refresh_session(first.refresh_token)).session
    assert second is not None
    assert second.refresh_token != first.refresh_token
    again = (await client.auth.refresh_session(first.refresh_token)).session
    assert again is not None
    assert again.refresh_token == second.refresh_token, (
        "an answer that was lost on the way is given once more"
    )
    third = (await client.auth.refresh_session(second.refresh_token)).session
    assert third is not None
    assert (
        jwt.decode(third.access_token, options={"verify_signature": False})["session_id"]
        == (jwt.decode(first.access_token, options={"verify_signature": False})["session_id"])
    )


async def test_an_old_refresh_token_ends_the_session(client: AsyncClient, sql: asyncpg.Connection) -> None:
    _, first = await signed_up(client)
    second = (await client.auth.refresh_session(first.refresh_token)).session
    assert second is not None
    await client.auth.refresh_session(second.refresh_token)
    await sql.execute(
        "update auth.sessions set refreshed_at = now() - interval '11 s' where user_id = $1",
        uuid.UUID(first.user.id),
    )
    for token, code in (
        (first.refresh_token, "refresh_token_already_used"),
        (second.refresh_token, "refresh_token_not_found"),
        ("nonsense", "refresh_token_not_found"),
    ):
        with pytest.raises(AuthApiError) as caught:
            await client.auth.refresh_session(token)
        assert caught.value.code == code


async def test_many_renewals_at_once_agree(project: Project, client: AsyncClient) -> None:
    """As tabs of one browser do it."""
    _, session = await signed_up(client)
    url, headers = f"{project.url}/auth/v1/token", {"apikey": project.keys.publishable_key}
    async with httpx.AsyncClient(headers=headers) as http:
        answers = await asyncio.gather(
            *(
                http.post(
                    url,
                    params={"grant_type": "refresh_token"},
                    json={"refresh_token": session.refresh_token},
                )
                for _ in range(8)
            )
        )
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_users_change_themselves(project: Project, client: AsyncClient) -> None:
    email, session = await signed_up(client, data={"a": 1, "b": 2})
    changed = await client.auth.update_user({"data": {"a": 3, "b": None}})
    assert changed.user.user_metadata["a"] == 3
    assert "b" not in changed.user.user_metadata
    with pytest.raises(AuthApiError) as caught:
        await client.auth.update_user({"password": PASSWORD})
    assert caught.value.code == "same_password"
    async with python_client(project) as other:
        elsewhere = (await other.auth.sign_in_with_password({"email": email, "password": PASSWORD})).session
        assert elsewhere is not None
        await client.auth.update_user({"password": "another password"})
        with pytest.raises(AuthApiError):
            await other.auth.get_user(elsewhere.access_token)
        assert await client.auth.get_user(session.access_token), "the session that changed it goes on"
        address = new_email()
        await client.auth.update_user({"email": address})
        assert await other.auth.sign_in_with_password({"email": address, "password": "another password"})


async def test_administration(project: Project, client: AsyncClient, service: AsyncClient) -> None:
    email = new_email()
    wanted = {
        "email": email,
        "password": PASSWORD,
        "email_confirm": True,
        "user_metadata": {"name": "Bob"},
        "app_metadata": {"crossfade_role": "viewer"},
    }
    made = (await service.auth.admin.create_user(wanted)).user  # type: ignore[arg-type]
    assert made.app_metadata == {"provider": "email", "providers": ["email"], "crossfade_role": "viewer"}
    assert made.id in [user.id for user in await service.auth.admin.list_users(per_page=1000)]
    assert (await service.auth.admin.get_user_by_id(made.id)).user.email == email
    session = (await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})).session
    assert session is not None
    claims = jwt.decode(session.access_token, options={"verify_signature": False})
    assert claims["app_metadata"]["crossfade_role"] == "viewer"
    await service.auth.admin.update_user_by_id(made.id, {"ban_duration": "1h"})
    with pytest.raises(AuthApiError) as caught:
        await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert caught.value.code == "user_banned"
    await service.auth.admin.update_user_by_id(
        made.id, {"ban_duration": "none", "password": "a new password"}
    )
    await client.auth.sign_in_with_password({"email": email, "password": "a new password"})
    with pytest.raises(AuthApiError) as caught:
        await service.auth.admin.create_user(wanted)  # type: ignore[arg-type]
    assert caught.value.code == "email_exists"
    await service.auth.admin.delete_user(made.id)
    with pytest.raises(AuthApiError) as caught:
        await service.auth.admin.get_user_by_id(made.id)
    assert (caught.value.code, caught.value.status) == ("user_not_found", 404)


async def test_an_unconfirmed_address_cannot_sign_in(client: AsyncClient, service: AsyncClient) -> None:
    email = new_email()
    made = (await service.auth.admin.create_user({"email": email, "password": PASSWORD})).user
    with pytest.raises(AuthApiError) as caught:
        await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
    assert caught.value.code == "email_not_confirmed"
    await service.auth.admin.update_user_by_id(made.id, {"email_confirm": True})
    await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})


async def test_only_the_service_role_administers(client: AsyncClient) -> None:
    await signed_up(client)
    for call in (
        client.auth.admin.list_users(),
        client.auth.admin.delete_user(str(uuid.uuid4())),
        client.auth.admin.create_user({"email": new_email(), "password": PASSWORD}),
    ):
        with pytest.raises(AuthApiError) as caught:
            await call
        assert (caught.value.code, caught.value.status) == ("not_admin", 403)


async def test_a_deleted_user_is_nobody(client: AsyncClient, service: AsyncClient) -> None:
    _, session = await signed_up(client)
    await service.auth.admin.delete_user(session.user.id, should_soft_delete=True)
    with pytest.raises(AuthApiError):
        await client.auth.get_user(session.access_token)
    with pytest.raises(AuthApiError) as caught:
        await client.auth.refresh_session(session.refresh_token)
    assert caught.value.code == "refresh_token_not_found"


async def test_sign_up_is_off_unless_enabled(database: Postgres) -> None:
    with served(database) as closed:
        async with python_client(closed) as client, python_client(closed, closed.keys.secret_key) as service:
            with pytest.raises(AuthApiError) as caught:
                await client.auth.sign_up({"email": new_email(), "password": PASSWORD})
            assert (caught.value.code, caught.value.status) == ("signup_disabled", 422)
            email = new_email()
            await service.auth.admin.create_user(
                {"email": email, "password": PASSWORD, "email_confirm": True}
            )
            assert await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})


async def test_an_outage_is_said_and_survived(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path, port=0, durable=False)
    postgres.start()
    try:
        with served(postgres, "--enable-signup") as project:
            who = {"email": new_email(), "password": PASSWORD}
            headers = {"apikey": project.keys.anon_key}
            async with httpx.AsyncClient(base_url=f"{project.url}/auth/v1", headers=headers) as http:
                first = (await http.post("/signup", json=who)).json()
                postgres.stop()
                away = await http.post("/token?grant_type=password", json=who)
                assert (away.status_code, away.json()["error_code"]) == (503, "unexpected_failure")
                assert away.headers["retry-after"] == "1"
                assert (await http.get("/health")).status_code == 503
                postgres.start()
                renewal = {"refresh_token": first["refresh_token"]}
                renewed = await http.post("/token?grant_type=refresh_token", json=renewal)
                assert renewed.status_code == 200, "sessions live in the database"
                assert renewed.json()["user"]["id"] == first["user"]["id"]
    finally:
        postgres.stop()
        postgres.remove()


# -- the wire ---------------------------------------------------------------------------------------------------


async def test_errors_in_both_forms(project: Project) -> None:
    headers = {"apikey": project.keys.anon_key}
    wrong = {"email": "nobody@example.com", "password": "x"}
    async with httpx.AsyncClient(base_url=f"{project.url}/auth/v1", headers=headers) as http:
        old = await http.post("/token?grant_type=password", json=wrong)
        assert old.json() == {
            "code": 400,
            "error_code": "invalid_credentials",
            "msg": "Invalid login credentials",
        }
        coded = {"X-Supabase-Api-Version": "2024-01-01"}
        new = await http.post("/token?grant_type=password", json=wrong, headers=coded)
        assert new.json() == {"code": "invalid_credentials", "message": "Invalid login credentials"}
        assert new.headers["x-supabase-api-version"] == "2024-01-01"
        for method, path, status, code in (
            ("GET", "/user", 401, "no_authorization"),
            ("POST", "/token?grant_type=id_token", 400, "unsupported_grant_type"),
            ("POST", "/otp", 422, "not_supported"),
            ("GET", "/nowhere", 422, "not_supported"),
            ("GET", "/admin/users", 403, "not_admin"),
        ):
            got = await http.request(method, path)
            assert (got.status_code, got.json()["error_code"]) == (status, code), path
        assert (await http.post("/signup", content=b"{")).json()["error_code"] == "bad_json"
        assert (await http.post("/signup", content=b" " * (1 << 21))).status_code == 413
        garbage = await http.get("/user", headers={"Authorization": "Bearer a.b.c"})
        assert (garbage.status_code, garbage.json()["error_code"]) == (403, "bad_jwt")
        key = await http.get("/user", headers={"Authorization": f"Bearer {project.keys.anon_key}"})
        assert (key.status_code, key.json()["msg"]) == (403, "invalid claim: missing sub claim")


async def test_the_gateway_asks_for_a_key(project: Project) -> None:
    async with httpx.AsyncClient(base_url=f"{project.url}/auth/v1") as http:
        assert (await http.get("/settings")).json()["message"] == "No API key found in request"
        wrong = await http.get("/settings", headers={"apikey": "sb_publishable_wrong"})
        assert (wrong.status_code, wrong.json()["message"]) == (401, "Invalid API key")
        for key in (project.keys.anon_key, project.keys.publishable_key):
            settings = await http.get("/settings", headers={"apikey": key})
            assert settings.json()["disable_signup"] is False
            assert (await http.get("/health", headers={"apikey": key})).status_code == 200
        listing = await http.get("/admin/users?per_page=1", headers={"apikey": project.keys.secret_key})
        assert listing.status_code == 200
        assert int(listing.headers["x-total-count"]) >= len(listing.json()["users"])


@pytest.mark.parametrize(
    "path", ["/auth/v1/signup", "/auth/v1/token", "/rest/v1/todos", "/rest/v1/rpc/f", "/nowhere", "/health"]
)
async def test_browsers_of_any_origin_may_ask(project: Project, path: str) -> None:
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "apikey,authorization,x-supabase-api-version,content-profile",
    }
    async with httpx.AsyncClient(base_url=project.url) as http:
        preflight = await http.options(path, headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert preflight.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        answer = await http.get(path, headers={"Origin": "https://app.example"})
        assert answer.headers["access-control-allow-origin"] == "*", "errors can be read by the page too"
        assert "Content-Range" in answer.headers["access-control-expose-headers"]


async def test_a_new_table_is_served_at_once(service: AsyncClient, sql: asyncpg.Connection) -> None:
    """No NOTIFY by hand: the event triggers tell the REST endpoint."""
    await sql.execute("create table fresh (id int, plain int)")
    await service.table("fresh").insert({"id": 1, "plain": 2}).execute()
    await sql.execute("alter table fresh add column more int default 7")
    assert (await service.table("fresh").select("*").execute()).data == [{"id": 1, "plain": 2, "more": 7}]
    await sql.execute("drop table fresh")
