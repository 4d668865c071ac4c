"""The aiohttp shell of the auth endpoint: reads the request, asks the service, answers in JSON.

The gateway's part is done here too: every request needs an API key of the project, as `apikey` or as Bearer token.
"""

from __future__ import annotations

import hmac
import logging
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from aiohttp import web

from embedded.auth import errors, requests
from embedded.auth.model import signed_in_json, user_json
from embedded.auth.service import AuthService, Client
from embedded.auth.store import Store
from embedded.errors import InvalidToken
from embedded.keys import verify
from embedded.rest.auth import SERVICE_ROLE, authenticate
from embedded.rest.errors import RestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from embedded.keys import Keys

_logger = logging.getLogger(__name__)

PREFIX: Final = "/auth/v1"
_BODY_LIMIT_BYTES: Final = 1 << 20
_RETRY_AFTER_SECONDS: Final = "1"
_ADMINISTRATORS: Final = frozenset({SERVICE_ROLE, "supabase_admin"})


class AuthHandlers:
    """Answers `/auth/v1/*`; `store` has to be entered before the first request."""

    def __init__(self, store: Store, keys: Keys, *, signup_enabled: bool = False) -> None:
        self.store = store
        self._keys = keys
        self._service = AuthService(store, keys.jwt_secret, signup_enabled=signup_enabled)

    def routes(self) -> list[web.RouteDef]:
        """Return what to add to the router; the last route answers for all that is not here."""
        table: list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]] = [
            ("GET", "/health", self._health),
            ("GET", "/settings", self._settings),
            ("GET", "/.well-known/jwks.json", self._jwks),
            ("POST", "/signup", self._sign_up),
            ("POST", "/token", self._token),
            ("POST", "/logout", self._sign_out),
            ("GET", "/user", self._own),
            ("PUT", "/user", self._change_own),
            ("GET", "/admin/users", self._list),
            ("POST", "/admin/users", self._create),
            ("GET", "/admin/users/{id}", self._show),
            ("PUT", "/admin/users/{id}", self._change),
            ("DELETE", "/admin/users/{id}", self._delete),
        ]
        made = [
            web.route(method, PREFIX + path, self._guarded(handler), allow_head=False)
            if method == "GET"
            else web.route(method, PREFIX + path, self._guarded(handler))
            for method, path, handler in table
        ]
        made.append(web.route("*", PREFIX + "{path:(/.*)?}", self._guarded(self._not_supported)))
        return made

    def _guarded(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Check the API key, and turn whatever goes wrong into an answer."""

        async def answer(request: web.Request) -> web.Response:
            try:
                self._check_key(request)
                return await handler(request)
            except RestError as error:  # the gateway's own words, for a missing or wrong key
                return web.json_response({"message": error.message, "hint": error.hint}, status=error.status)
            except errors.AuthError as error:
                return _error(request, error)
            except web.HTTPException:
                raise
            except Exception:
                _logger.exception("Auth could not answer %s %s", request.method, request.path)
                return _error(request, errors.failed())

        return answer

    # -- who is asking -------------------------------------------------------------------------------------

    def _check_key(self, request: web.Request) -> None:
        """Require the key of this project; a Bearer token alone does, as long as it is one of ours."""
        apikey = request.headers.get("apikey") or request.query.get("apikey")
        # a token that has expired is for the endpoint to refuse, in its own form
        authenticate(None if apikey else request.headers.get("Authorization"), apikey, self._keys)

    def _claims(self, request: web.Request) -> Mapping[str, Any]:
        """Return the claims of the Bearer token."""
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise errors.no_authorization()
        return self._verified(token)

    def _verified(self, token: str) -> Mapping[str, Any]:
        keys = self._keys
        for opaque, stands_for in (
            (keys.publishable_key, keys.anon_key),
            (keys.secret_key, keys.service_role_key),
        ):
            if hmac.compare_digest(token.encode(errors="replace"), opaque.encode()):
                token = stands_for
        try:
            return verify(token, keys.jwt_secret)
        except InvalidToken as error:
            raise errors.bad_jwt(error.reason) from error

    def _require_admin(self, request: web.Request) -> None:
        """Let only the service role pass, by Bearer token or, without one, by its key."""
        if request.headers.get("Authorization"):
            claims = self._claims(request)
        else:
            claims = self._verified(request.headers.get("apikey") or request.query.get("apikey") or "")
        if claims.get("role") not in _ADMINISTRATORS:
            raise errors.not_admin()

    # -- signing in and out ----------------------------------------------------------------------------------

    async def _sign_up(self, request: web.Request) -> web.Response:
        body = requests.parse_body(await _body(request))
        if not self._service.signup_enabled:
            raise errors.signup_disabled()
        signed_in = await self._service.sign_up(requests.parse_signup(body), _client(request))
        return _json(signed_in_json(signed_in))

    async def _token(self, request: web.Request) -> web.Response:
        body = requests.parse_body(await _body(request))
        grant = request.query.get("grant_type", "")
        match grant:
            case "password":
                signed_in = await self._service.sign_in(requests.parse_sign_in(body), _client(request))
            case "refresh_token":
                signed_in = await self._service.refresh(requests.parse_refresh(body), _client(request))
            case _:
                raise errors.unsupported_grant(grant)
        return _json(signed_in_json(signed_in))

    async def _sign_out(self, request: web.Request) -> web.Response:
        await self._service.sign_out(self._claims(request), request.query.get("scope") or "global")
        return web.Response(status=204)

    # -- oneself ---------------------------------------------------------------------------------------------

    async def _own(self, request: web.Request) -> web.Response:
        user, _ = await self._service.whoever(self._claims(request))
        return _json(user_json(user))

    async def _change_own(self, request: web.Request) -> web.Response:
        claims = self._claims(request)
        changes = requests.parse_own_changes(requests.parse_body(await _body(request)))
        return _json(user_json(await self._service.change_self(claims, changes)))

    # -- administration --------------------------------------------------------------------------------------

    async def _list(self, request: web.Request) -> web.Response:
        self._require_admin(request)
        page, per_page = requests.parse_page(request.query)
        users, total = await self._service.users(page, per_page)
        shown = {"users": [user_json(user) for user in users], "aud": "authenticated"}
        headers = {"X-Total-Count": str(total), "Link": _links(request, page, per_page, total)}
        return web.json_response(shown, headers=headers)

    async def _create(self, request: web.Request) -> web.Response:
        self._require_admin(request)
        changes = requests.parse_admin_changes(requests.parse_body(await _body(request)))
        return _json(user_json(await self._service.create(changes)))

    async def _show(self, request: web.Request) -> web.Response:
        self._require_admin(request)
        return _json(user_json(await self._service.user(_user_id(request))))

    async def _change(self, request: web.Request) -> web.Response:
        self._require_admin(request)
        user_id = _user_id(request)
        changes = requests.parse_admin_changes(requests.parse_body(await _body(request)))
        return _json(user_json(await self._service.change(user_id, changes)))

    async def _delete(self, request: web.Request) -> web.Response:
        self._require_admin(request)
        user_id = _user_id(request)
        softly = requests.parse_body(await _body(request)).get("should_soft_delete") is True
        await self._service.delete(user_id, softly=softly)
        return _json({})

    # -- about the server ------------------------------------------------------------------------------------

    async def _health(self, _: web.Request) -> web.Response:
        await self._service.healthy()
        return _json(
            {
                "version": "embedded",
                "name": "GoTrue",
                "description": "The embedded Supabase's auth endpoint, compatible with GoTrue's password sign-in",
            }
        )

    async def _settings(self, _: web.Request) -> web.Response:
        return _json(
            {
                "external": {"anonymous_users": False, "email": True, "phone": False},
                "disable_signup": not self._service.signup_enabled,
                "mailer_autoconfirm": True,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
            }
        )

    async def _jwks(self, _: web.Request) -> web.Response:
        return _json({"keys": []})  # HS256 has no public half; clients then ask /user

    async def _not_supported(self, request: web.Request) -> web.Response:
        raise errors.not_supported(request.method, request.path)


def _json(value: Mapping[str, Any]) -> web.Response:
    return web.json_response(value)


def _error(request: web.Request, error: errors.AuthError) -> web.Response:
    version = request.headers.get(errors.API_VERSION_HEADER)
    headers = {"X-Sb-Error-Code": error.code}
    if version is not None and version >= errors.CODED_ERRORS_SINCE:
        headers[errors.API_VERSION_HEADER] = errors.CODED_ERRORS_SINCE
    if error.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return web.json_response(error.body(version), status=error.status, headers=headers)


async def _body(request: web.Request) -> bytes:
    """Return the body; it is read no further than any client's request is long."""
    read = bytearray()
    async for chunk in request.content.iter_any():
        read += chunk
        if len(read) > _BODY_LIMIT_BYTES:
            raise errors.too_large(_BODY_LIMIT_BYTES)
    return bytes(read)


def _client(request: web.Request) -> Client:
    return Client(
        issuer=f"{request.url.origin()}{PREFIX}",
        user_agent=(request.headers.get("User-Agent") or "").encode("ascii", "replace").decode()[:512]
        or None,
        ip=request.remote,
    )


def _user_id(request: web.Request) -> uuid.UUID:
    try:
        return uuid.UUID(request.match_info["id"])
    except ValueError:
        raise errors.AuthError(404, "validation_failed", "user_id must be an UUID") from None


def _links(request: web.Request, page: int, per_page: int, total: int) -> str:
    """Return where the next and the last page are (RFC 8288)."""
    last = max(1, -(-total // per_page))
    pages = {"next": page + 1, "last": last} if page < last else {"last": last}
    path = request.path
    return ", ".join(
        f'<{path}?{urlencode({"page": number, "per_page": per_page})}>; rel="{name}"'
        for name, number in pages.items()
    )
