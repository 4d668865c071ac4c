"""Errors in the form that Supabase's auth server gives them: a status, a stable code and a sentence.

Clients that send `X-Supabase-Api-Version: 2024-01-01` get `{"code": <code>, "message"}`, older ones
`{"code": <status>, "error_code": <code>, "msg"}`. The codes are listed at
https://supabase.com/docs/guides/auth/debugging/error-codes
"""

from __future__ import annotations

from typing import Any, Final

from embedded.errors import EmbeddedError

API_VERSION_HEADER: Final = "X-Supabase-Api-Version"
CODED_ERRORS_SINCE: Final = "2024-01-01"


class AuthError(EmbeddedError):
    """An answer other than success; `reasons` says what is wrong with a weak password."""

    def __init__(self, status: int, code: str, message: str, *, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.reasons = reasons

    def body(self, api_version: str | None) -> dict[str, Any]:
        """Return the JSON object in the form of the version the client asked for; versions are dates."""
        body: dict[str, Any]
        if api_version is not None and api_version >= CODED_ERRORS_SINCE:
            body = {"code": self.code, "message": self.message}
        else:
            body = {"code": self.status, "error_code": self.code, "msg": self.message}
        if self.reasons:
            body["weak_password"] = {"reasons": list(self.reasons)}
        return body


def invalid(message: str) -> AuthError:
    """A field of the request does not hold."""
    return AuthError(400, "validation_failed", message)


def bad_json(message: str) -> AuthError:
    """The body is not the JSON object it has to be."""
    return AuthError(400, "bad_json", message)


def too_large(limit_bytes: int) -> AuthError:
    """The body is longer than any request of a client."""
    return AuthError(413, "request_too_large", f"The request body is longer than {limit_bytes} bytes")


def signup_disabled() -> AuthError:
    """Nobody may sign up by themselves; an administrator still creates users."""
    return AuthError(422, "signup_disabled", "Signups not allowed for this instance")


def anonymous_disabled() -> AuthError:
    """A sign-up without e-mail address is an anonymous one."""
    return AuthError(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")


def phone_disabled() -> AuthError:
    """There is nothing here to send a text message with."""
    return AuthError(422, "phone_provider_disabled", "Phone sign-ins are disabled; use an e-mail address")


def already_registered() -> AuthError:
    """Somebody signs up with an address that has a user."""
    return AuthError(422, "user_already_exists", "User already registered")


def email_exists() -> AuthError:
    """A user is to get an address that another one has."""
    return AuthError(422, "email_exists", "A user with this email address has already been registered")


def weak_password(minimum: int) -> AuthError:
    """The password is shorter than allowed."""
    return AuthError(
        422, "weak_password", f"Password should be at least {minimum} characters.", reasons=("length",)
    )


def same_password() -> AuthError:
    """The new password is the old one."""
    return AuthError(422, "same_password", "New password should be different from the old password.")


def invalid_credentials() -> AuthError:
    """No such user or not that password: which of the two is nobody's business."""
    return AuthError(400, "invalid_credentials", "Invalid login credentials")


def email_not_confirmed() -> AuthError:
    """An administrator created the user without confirming the address."""
    return AuthError(400, "email_not_confirmed", "Email not confirmed")


def banned() -> AuthError:
    """An administrator has banned the user."""
    return AuthError(400, "user_banned", "User is banned")


def refresh_token_not_found() -> AuthError:
    """Not a refresh token of ours, or its session has ended."""
    return AuthError(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")


def refresh_token_already_used() -> AuthError:
    """A refresh token came back long after its successor was used: the session has been ended."""
    return AuthError(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")


def session_expired() -> AuthError:
    """The session had an end, and it has passed."""
    return AuthError(400, "session_expired", "Invalid Refresh Token: Session Expired")


def no_authorization() -> AuthError:
    """The endpoint is for somebody signed in."""
    return AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token")


def bad_jwt(reason: str) -> AuthError:
    """The Bearer token cannot be trusted."""
    return AuthError(403, "bad_jwt", f"invalid JWT: unable to parse or verify signature, {reason}")


def no_subject() -> AuthError:
    """The token is a key of the project and not a user's."""
    return AuthError(403, "bad_jwt", "invalid claim: missing sub claim")


def session_not_found() -> AuthError:
    """The token is good, but its session was ended."""
    return AuthError(403, "session_not_found", "Session from session_id claim in JWT does not exist")


def subject_not_found() -> AuthError:
    """The token is good, but its user was deleted."""
    return AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")


def user_not_found() -> AuthError:
    """No user has that id."""
    return AuthError(404, "user_not_found", "User not found")


def not_admin() -> AuthError:
    """Only the service role administers users."""
    return AuthError(403, "not_admin", "User not allowed")


def unsupported_grant(grant: str) -> AuthError:
    """A way to sign in that is not here."""
    return AuthError(
        400,
        "unsupported_grant_type",
        f"unsupported_grant_type: {grant!r}; the embedded server takes password and refresh_token",
    )


def not_supported(method: str, path: str) -> AuthError:
    """The hosted server has it, the embedded one has not; 422, since clients retry on any 5xx."""
    return AuthError(
        422,
        "not_supported",
        f"The embedded auth server has no {method} {path}: it has signup, token (password, refresh_token), user, logout,"
        " admin/users, settings and health. There is no e-mail, no phone, no OAuth and no second factor.",
    )


def database_away(reason: str) -> AuthError:
    """PostgreSQL cannot be reached; clients try again."""
    return AuthError(503, "unexpected_failure", f"The database cannot be reached: {reason}. Try again.")


def failed() -> AuthError:
    """Something we did not foresee; the log has it."""
    return AuthError(500, "unexpected_failure", "The embedded server failed to answer; its log says why")


def database_refused(reason: str) -> AuthError:
    """A trigger or constraint of the application refused the change; what it said helps whoever wrote it."""
    return AuthError(500, "unexpected_failure", f"Database error saving the user: {reason}")
