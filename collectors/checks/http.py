"""HTTP checks: status, keyword, JSON, redirects, the certificate, and where the time goes.

A name is resolved here rather than by the client, so that its time is known, and each address is tried in turn. Every
check opens a connection of its own: it stands for a user who comes anew.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import httpx

from collectors.checks.config import HttpCheck, without_secrets
from collectors.checks.result import Result, milliseconds
from monitoring.device_status import Outcome

_MOST_REDIRECTS = 5
_MOST_BYTES = 1 << 20
"""Of an answer that is read: what is looked for has to be in its first MiB."""
_PORTS = {"http": 80, "https": 443}
_LOCATION_STATUSES = frozenset({301, 302, 303, 307, 308})
_PHASES = {
    "connection.connect_tcp": "connect",
    "connection.start_tls": "tls",
    "http11.receive_response_headers": "first_byte",
}
_AGENT = "crossfade-check"

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return a host's addresses, best first; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@cache
def _trust(ca_file: str | None) -> ssl.SSLContext:
    """Return whom to believe: this machine's and Mozilla's authorities, and those of a file. Made once: it costs 20 ms."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


class _Trace:
    """Notes how long each phase of a request takes, and what it connected."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._connected: Any = None
        self._began: dict[str, float] = {}

    async def __call__(self, name: str, info: Mapping[str, Any]) -> None:
        event, _, step = name.rpartition(".")
        if step == "started":
            self._began[event] = time.perf_counter()
        elif step == "complete" and event in _PHASES and event in self._began:
            self.seconds[_PHASES[event]] = time.perf_counter() - self._began[event]
            if event == "connection.connect_tcp":
                self._connected = info["return_value"]

    async def close(self) -> None:
        """Close the connection, which the client leaves open when it is cancelled in a TLS handshake."""
        if self._connected is not None:
            await self._connected.aclose()


class _Refused(Exception):  # noqa: N818 - carries a result, not a mishap
    def __init__(self, reason: str, outcome: Outcome = Outcome.REFUSED) -> None:
        super().__init__(reason)
        self.outcome = outcome


class HttpProbe:
    """Asks one URL."""

    def __init__(self, check: HttpCheck, *, find: Resolve = resolve) -> None:
        self._check = check
        self._resolve = find
        self._phases: dict[str, float] = {}
        self._details: dict[str, Any] = {}

    async def __call__(self) -> Result:
        """Ask once. Never raises for what the other side does."""
        check = self._check
        began = time.perf_counter()
        self._phases, self._details = {}, {"status_code": None, "redirects": [], "certificate_expires": None}
        try:
            async with asyncio.timeout(check.timeout_seconds):
                text = await self._follow(check.http)
            latency = time.perf_counter() - began
            self._expect(text)
            outcome, reason = self._graded(latency)
        except _Refused as refused:
            outcome, reason = refused.outcome, str(refused)
            latency = time.perf_counter() - began
        except TimeoutError:
            outcome, reason = Outcome.SILENT, f"no answer within {check.timeout_seconds:g} s"
            latency = None  # how long it would have taken nobody knows
        self._details["phases_ms"] = {
            phase: milliseconds(self._phases.get(phase)) for phase in ("dns", "connect", "tls", "first_byte")
        } | {"total": milliseconds(latency)}
        return Result(outcome, reason, latency, self._details)

    async def _follow(self, url: str) -> str:
        method: str = self._check.method
        for _ in range(_MOST_REDIRECTS + 1):
            status, location, text = await self._ask(method, httpx.URL(url))
            self._details["status_code"] = status
            if status not in _LOCATION_STATUSES or not location:
                return text
            if self._check.redirects == "refuse":
                if self._accepted(status):
                    return text
                raise _Refused(f"it redirects to {without_secrets(location)}")
            try:
                url = str(httpx.URL(url).join(location))
            except httpx.InvalidURL:
                raise _Refused("it redirects to what is no URL") from None
            if httpx.URL(url).scheme not in _PORTS:
                raise _Refused(f"it redirects to {without_secrets(url)}, which is not HTTP")
            if method == "POST" and status in {301, 302, 303}:  # as browsers do (RFC 9110, 15.4)
                method = "GET"
            self._details["redirects"].append(without_secrets(url))
        raise _Refused(f"it redirects more than {_MOST_REDIRECTS} times")

    async def _ask(self, method: str, url: httpx.URL) -> tuple[int, str | None, str]:
        began = time.perf_counter()
        try:
            addresses = await self._resolve(url.host, url.port or _PORTS[url.scheme])
        except OSError as error:
            raise _Refused(f"{url.host} has no address: {error.strerror or error}", Outcome.SILENT) from None
        self._phases["dns"] = self._phases.get("dns", 0.0) + time.perf_counter() - began
        failure: _Refused | None = None
        for address in addresses:
            try:
                return await self._ask_at(method, url, address)
            except httpx.ConnectError as error:
                failure = _unconnected(error)
            except httpx.TimeoutException:
                raise TimeoutError from None
            except httpx.HTTPError as error:
                raise _Refused(f"no whole answer: {error or type(error).__name__}", Outcome.SILENT) from None
        raise failure or _Refused(f"{url.host} has no address", Outcome.SILENT)

    async def _ask_at(self, method: str, url: httpx.URL, address: str) -> tuple[int, str | None, str]:
        check, trace = self._check, _Trace()
        trust: ssl.SSLContext | bool = _trust(check.ca_file) if url.scheme == "https" else False
        # What is meant for one host is not told to another that it redirects to.
        own = check.headers if url.host == httpx.URL(check.http).host else {}
        headers = {"User-Agent": _AGENT, "Accept": "*/*", **own, "Host": url.netloc.decode()}
        async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=check.timeout_seconds) as client:
            request = client.build_request(
                method,
                url.copy_with(host=address),
                headers=headers,
                content=check.body if method == check.method else None,
                extensions={"trace": trace, "sni_hostname": url.host},
            )
            try:
                response = await client.send(request, stream=True)
                try:
                    self._certificate(response)
                    body = await _beginning(response)
                finally:
                    await response.aclose()
            finally:
                await trace.close()
                for phase, seconds in trace.seconds.items():
                    self._phases[phase] = self._phases.get(phase, 0.0) + seconds
        text = body.decode(response.encoding or "utf-8", "replace")
        return response.status_code, response.headers.get("location"), text

    def _certificate(self, response: httpx.Response) -> None:
        stream = response.extensions.get("network_stream")
        session = stream.get_extra_info("ssl_object") if stream is not None else None
        if session is not None and (until := session.getpeercert().get("notAfter")):
            at = datetime.fromtimestamp(ssl.cert_time_to_seconds(until), UTC)
            self._details["certificate_expires"] = at.isoformat().replace("+00:00", "Z")

    def _accepted(self, status: int) -> bool:
        return any(low <= status <= high for low, high in self._check.status)

    def _expect(self, text: str) -> None:
        check, status = self._check, self._details["status_code"]
        if not self._accepted(status):
            raise _Refused(f"it answers {status}")
        if check.contains is not None and check.contains not in text:
            raise _Refused(f"the answer does not contain {check.contains!r}")
        if check.lacks is not None and check.lacks in text:
            raise _Refused(f"the answer contains {check.lacks!r}")
        if check.json_:
            try:
                document = json.loads(text)
            except ValueError:
                raise _Refused("the answer is not JSON") from None
            for path, expected in check.json_.items():
                found = value_at(document, path)
                if found != expected or isinstance(found, bool) != isinstance(expected, bool):
                    shown = "nothing" if found is MISSING else repr(found)[:100]
                    raise _Refused(f"{path} is {shown}, not {expected!r}")

    def _graded(self, latency: float) -> tuple[Outcome, str]:
        status, until = self._details["status_code"], self._details["certificate_expires"]
        if until is not None:
            left = (datetime.fromisoformat(until) - datetime.now(UTC)).total_seconds()
            if left < self._check.certificate:
                return Outcome.PARTIAL, f"the certificate ends in {left / 86400:.1f} days"
        if self._check.slow is not None and latency > self._check.slow:
            return (
                Outcome.PARTIAL,
                f"it answers {status} after {latency:.2f} s, slower than {self._check.slow:g} s",
            )
        return Outcome.WHOLE, f"it answers {status}"


def _unconnected(error: httpx.ConnectError) -> _Refused:
    """Say why there is no connection: what lies under the client's own error knows."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case ssl.SSLCertVerificationError():
                return _Refused(f"its certificate is not accepted: {cause.verify_message}")
            case ssl.SSLError():
                return _Refused(f"no TLS: {cause.reason or cause}")
            case ConnectionRefusedError():
                return _Refused("the connection is refused; nothing listens there")
        cause = cause.__cause__ or cause.__context__
    return _Refused(f"it cannot be reached: {error or type(error).__name__}", Outcome.SILENT)


async def _beginning(response: httpx.Response) -> bytes:
    """Read an answer, no further than what is looked at."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= _MOST_BYTES:
            break
    return bytes(body[:_MOST_BYTES])


MISSING = object()
"""What a path leads to that leads nowhere: null is something else."""


def value_at(document: Any, path: str) -> Any:
    """Return what a dotted path leads to, list indexes as numbers; MISSING when it leads nowhere."""
    for step in path.split("."):
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return MISSING
    return document
