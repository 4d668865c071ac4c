"""A service over TLS, beside its plain port."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from embedded.ports import free_port
from tests.certificates import make_certificate
from tests.conftest import EmbeddedSupabase
from tests.control_process import ControlProcess
from tests.integration.control.conftest import TokenOf


def test_a_service_answers_over_tls_and_on_its_plain_port(
    tmp_path: Path, embedded_supabase: EmbeddedSupabase, token_of: TokenOf
) -> None:
    certificate, key = make_certificate(tmp_path)
    port, postgres = free_port("127.0.0.1"), embedded_supabase.postgres
    options = ("--tls-port", str(port), "--tls-cert", str(certificate), "--tls-key", str(key))
    service = ControlProcess(postgres.data_dir, postgres.dsn("authenticator"), "--no-docker", *options)
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))
        headers = {"Authorization": f"Bearer {token_of('viewer')}"}
        answer = httpx.get(
            f"https://127.0.0.1:{port}/api/commands", headers=headers, verify=trusted, timeout=30
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert "strict-transport-security" not in httpx.get(f"{service.url}/health").headers
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"https://127.0.0.1:{port}/health", timeout=30)  # nobody trusts it by itself
    finally:
        assert service.stop() == 0
