"""Which endpoint is this machine: a token goes over plain http to nothing else."""

from __future__ import annotations

import os
import socket

import pytest

from hf_free.errors import HubError
from hf_free.hub import endpoint as endpoint_module
from hf_free.hub.endpoint import is_this_machine, token_to_send, why_unsafe_for_tokens

HERE = [
    "http://127.0.0.1",
    "http://127.0.0.1:8080/",
    "HTTP://127.0.0.1",
    "http://127.255.1.2",
    "http://127.1",
    "http://2130706433",  # decimal
    "http://0x7f000001",  # hexadecimal
    "http://0x7f.0.0.1",
    "http://[::1]:8080",
    "http://[0:0:0:0:0:0:0:1]",
    "http://[::ffff:127.0.0.1]",  # IPv4, mapped
    "http://[::ffff:7f00:1]",
    "http://localhost:8080",
    "http://LOCALHOST",
    "http://user:password@127.0.0.1",
    "https://huggingface.co",
    "https://localhost",
]

ELSEWHERE = [
    "http://127.example.org",
    "http://127.0.0.1.example.org",
    "http://localhost.example.org",
    "http://127.0.0.1@example.org",
    "http://localhost@example.org:80",
    "http://localhost:80@example.org",
    "http://example.org#@localhost",
    "http://example.org/@localhost",
    "http://example.org?@localhost",
    "http://localhost\\@example.org",
    "http://0.0.0.0",
    "http://[::]",
    "http://128.0.0.1",
    "http://10.0.0.1",
    "http://[fe80::1]",
    "http://[::ffff:10.0.0.1]",
    "http://3232235777",  # 192.168.1.1
    "http://[::1",
    "ftp://127.0.0.1",
    "127.0.0.1:80",
    "http://",
    "",
]


@pytest.fixture(autouse=True)
def _resolver(monkeypatch):
    """No name server is asked and no proxy set; names below example.org lead to loopback, as a trap."""
    asked = socket.getaddrinfo

    def resolve(host, *arguments, flags=0, **options):
        if not flags and str(host).endswith("example.org"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
        return asked(host, *arguments, flags=flags, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("endpoint", HERE)
def test_a_token_may_go_to_this_machine_and_over_https(endpoint):
    assert why_unsafe_for_tokens(endpoint) is None


@pytest.mark.parametrize("endpoint", ELSEWHERE)
def test_a_token_goes_nowhere_else(endpoint, monkeypatch):
    assert why_unsafe_for_tokens(endpoint) is not None
    monkeypatch.setattr(endpoint_module.constants, "ENDPOINT", endpoint)
    with pytest.raises(HubError, match="unencrypted") as refused:
        token_to_send("hf_secret")
    assert "hf_secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["0177.0.0.1", "017700000001", "127.0.0.1.", "localhost.", "hub.localhost"])
def test_the_resolver_decides_over_spellings_that_systems_read_differently(host):
    """Whatever this system makes of them: loopback and nothing else, or not this machine."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        found = set()
    here = bool(found) and all(address == "::1" or address.startswith("127.") for address in found)
    assert is_this_machine(host) == here


def test_a_localhost_that_leads_away_is_not_this_machine(monkeypatch):
    addresses = [("127.0.0.1", 0), ("192.0.2.1", 0)]
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    assert not is_this_machine("localhost")
    del entries[1]
    assert is_this_machine("localhost")


def test_a_proxy_between_is_another_machine(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    assert "proxy" in (why_unsafe_for_tokens("http://127.0.0.1:80") or "")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert why_unsafe_for_tokens("http://127.0.0.1:80") is None


def test_without_a_token_any_endpoint_will_do(monkeypatch):
    monkeypatch.setattr(endpoint_module.constants, "ENDPOINT", "http://example.org")
    monkeypatch.setattr(endpoint_module, "get_token", lambda: None)
    assert token_to_send(None) is None


@pytest.mark.parametrize("token", ["hf_one two", "hf_one\n", "hf_ümlaut", "hf_\x00"])
def test_a_token_that_no_header_can_hold_is_said_and_not_shown(token):
    with pytest.raises(HubError, match="copy it again") as refused:
        token_to_send(token)
    assert token not in str(refused.value)
    assert "two" not in str(refused.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
def test_a_token_file_that_is_none_is_named(tmp_path, monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    os.mkfifo(tmp_path / "pipe")  # which would be waited for
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    for name, reason in (("pipe", "it is no file"), ("folder", "it is no file"), ("bytes", "it is no text")):
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / name))
        with pytest.raises(HubError, match=f"the token in .*{name} cannot be read: {reason}"):
            token_to_send(None)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "bytes" / "hub" / "token"))
    with pytest.raises(HubError, match=f"below {tmp_path / 'bytes'}, which is no folder\n.*HF_HOME"):
        token_to_send(None)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    assert token_to_send(None) is None
