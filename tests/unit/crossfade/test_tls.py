"""Settings of TLS: all of them or none, and what cannot be used is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.errors import UsageError
from crossfade.settings import Settings
from crossfade.tls import parse_ports, tls_of
from tests.certificates import make_certificate


def test_ports_are_read_by_part() -> None:
    assert parse_ports(" query=8443, control=8444 ") == {"query": 8443, "control": 8444}
    assert parse_ports("") == {}


@pytest.mark.parametrize("text", ["query", "query=", "query=0", "query=65536", "query=1,query=2", "query=x"])
def test_what_is_no_port_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"PART=PORT|twice"):
        parse_ports(text)


def test_certificate_key_and_ports_belong_together(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    plain = Settings(_env_file=None)
    assert tls_of(plain) is None
    found = tls_of(
        plain.model_copy(update={"tls_cert": certificate, "tls_key": key, "tls_ports": "query=8443"})
    )
    assert found is not None
    assert (found.host, found.ports) == ("127.0.0.1", {"query": 8443})
    for missing in (
        {"tls_cert": certificate},
        {"tls_ports": "query=1"},
        {"tls_cert": certificate, "tls_key": key},
    ):
        with pytest.raises(UsageError, match="TLS needs all three"):
            tls_of(plain.model_copy(update=missing))
    wrong = {"tls_cert": key, "tls_key": certificate, "tls_ports": "query=8443"}
    with pytest.raises(UsageError, match="cannot be used"):
        tls_of(plain.model_copy(update=wrong))
