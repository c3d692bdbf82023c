"""The server: standard-library HTTP, bounded in every direction, and no traceback to whoever asks.

Bodies, pictures per request, connections and waiting times are bounded. A server on loopback answers only requests
that address it by a name of this machine, so that no web page reaches it through a name of its own.
"""

from __future__ import annotations

import hmac
import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TYPE_CHECKING

from hf_free.errors import ConfigError, HfFreeError
from hf_free.hub.endpoint import is_this_machine
from hf_free.serving.protocol import MOST_PICTURES, Refusal, answer_of, read_request
from hf_free.serving.served_model import ServedModel

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 2**20
"""Largest body of a request: a photo of 20 megapixels in base64."""

MAX_HELD_BYTES = 256 * 2**20
"""Most bytes of bodies that are held at once, whoever sent them; reading them takes up to three times as much."""

MAX_CONNECTIONS = 64
"""Most connections at once; one more is told to come back later."""

_ONCE = ("Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Authorization")
"""Headers that a request has at most one of: with two, somebody else may go by the other one."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, 5.6.2)."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s/?#@\[\]\\:]*)(:\d*)?")
"""A Host header: a name or an address, and a port."""

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b'Content-Length: 41\r\nConnection: close\r\n\r\n{"error": "too many connections at once"}'
)

IDLE_SECONDS = 30.0
"""How long a connection may be silent, between two requests and within one."""

REQUEST_SECONDS = 120.0
"""How long a request may take to arrive: who sends a byte now and then would keep its place for days."""

_PART = 2**16
"""Bytes of a body that are read at once."""

Connection = socket.socket | tuple[bytes, socket.socket]
"""What `socketserver` hands on; the second form is UDP's."""


def check_token(token: str | None) -> None:
    """Refuse a token that no request can carry, or that everybody guesses.

    Raises:
        ConfigError: an empty one, or one with blanks, line breaks or letters beyond ASCII. It is not shown.
    """
    if token is not None and re.fullmatch(r"[!-~]+", token) is None:
        raise ConfigError(
            "the token of the server is empty, or holds a blank, a line break or a letter beyond ASCII",
            allowed="one word of ASCII letters, digits and signs",
            action="correct HF_FREE_SERVE_TOKEN, or unset it",
        )


class ModelServer:
    """A server of one model, answering from a thread of its own; a context manager.

    Args:
        model: The model that answers.
        host: Address to listen at; loopback unless others are to reach it.
        port: 0 takes any free one.
        token: What requests have to carry as `Authorization: Bearer`; None asks for nothing.

    Raises:
        ConfigError: an address or a token that cannot be used.
    """

    def __init__(
        self, model: ServedModel, *, host: str = "127.0.0.1", port: int = 0, token: str | None = None
    ) -> None:
        check_token(token)
        try:
            self._server = _HTTPServer(model, host, port, token)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen at {host}:{port}: {getattr(error, 'strerror', None) or error}",
                allowed="an address of this machine with a free port",
                action="--host 127.0.0.1 is always there, and --port 0 takes any free one",
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    @property
    def address(self) -> str:
        """Where it answers, as `http://127.0.0.1:8000`."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{shown}:{port}"

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach it."""
        return self._server.is_local

    @property
    def answered(self) -> int:
        """Pictures that were answered so far."""
        return self._server.answered

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _HTTPServer(ThreadingHTTPServer):
    """Threads per connection, as many as `MAX_CONNECTIONS` at work."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, model: ServedModel, host: str, port: int, token: str | None) -> None:
        self.model, self.token, self.is_local = model, token, is_this_machine(host)
        self.places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.answered, self.held, self.counting = 0, 0, threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def process_request(self, request: Connection, client_address: object) -> None:
        """Take a connection, where there is room for one."""
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            (request if isinstance(request, socket.socket) else request[1]).sendall(_FULL)
        self.shutdown_request(request)

    def process_request_thread(self, request: Connection, client_address: object) -> None:
        """All requests of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def hold(self, size: int) -> bool:
        """Count so many bytes of a body as held; less than none gives them back. Whether there was room."""
        with self.counting:
            if size > 0 and self.held + size > MAX_HELD_BYTES:
                return False
            self.held += size
            return True

    def handle_error(self, request: Connection, client_address: object) -> None:
        """A client that hangs up is none of our business; nothing is shown on the terminal."""
        logger.debug("a connection ended early", exc_info=True)


class _Arriving(io.RawIOBase):
    """What a connection receives, each request within `REQUEST_SECONDS` and no part of it after `IDLE_SECONDS`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._until = connection, 0.0

    def begin(self) -> None:
        """A request is awaited from now on."""
        self._until = time.monotonic() + REQUEST_SECONDS

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Some bytes.

        Raises:
            TimeoutError: none in time.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request has not arrived in time")
        self._connection.settimeout(min(IDLE_SECONDS, left))
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(IDLE_SECONDS)


class _Lines(io.BufferedReader):
    """Reads a request's head, and notes what other readers may take for another one."""

    is_odd = False
    """Whether a line of this request ended in other than CR LF, or had a CR, a NUL or a fold in it."""

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line of the head."""
        line = super().readline(size)
        body = line.removesuffix(b"\r\n")
        self.is_odd |= body.strip(b"\r\n\0") != body or b"\r" in body or b"\0" in body or body[:1] in (b" ", b"\t")
        return line


class _Handler(BaseHTTPRequestHandler):
    server: _HTTPServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "hf-free", ""
    disable_nagle_algorithm = True  # header and body are two writes; without it each answer costs 40 ms
    timeout = IDLE_SECONDS

    def setup(self) -> None:
        """Read within `REQUEST_SECONDS`."""
        super().setup()
        self._arriving = _Arriving(self.connection)
        self.rfile.close()
        self.rfile = self._lines = _Lines(self._arriving)

    def handle_one_request(self) -> None:
        """One request, from its first byte on."""
        self._arriving.begin()
        self._lines.is_odd = False
        super().handle_one_request()

    def log_message(self, format: str, *args: object) -> None:
        """Requests go to the log, at debug level."""
        logger.debug(format, *args)

    def do_GET(self) -> None:
        """What is served."""
        if any(name in self.headers for name in ("Content-Length", "Transfer-Encoding")):
            self.close_connection = True  # what it holds is not read, and would be taken for the next request
        self._answer(self._about)

    def do_POST(self) -> None:
        """Classify."""
        self._answer(self._classify)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses, as JSON too."""
        self.close_connection = True
        self.request_version = self.protocol_version  # of an unreadable line it is 0.9, which has no status
        self._send(code, {"error": message or "a request that cannot be read"})

    def _answer(self, make: Callable[[], object]) -> None:
        try:
            self._check_head()
            self._check_caller()
            self._send(200, make())
        except Refusal as refusal:
            self.close_connection = True  # unread parts of the body would be taken for the next request
            self._send(refusal.status, {"error": refusal.message})
        except OSError:
            raise  # the connection is gone: there is nobody to tell
        except Exception as error:
            said = error.given if isinstance(error, HfFreeError) else f"{type(error).__name__}: {error}"
            logger.warning("a request failed: %s", said)
            self.close_connection = True
            self._send(500, {"error": "the model failed on this request"})

    def _check_head(self) -> None:
        """Refuse a head that somebody else, such as a proxy, may read as another request (RFC 9112, 11.2)."""
        named = all(map(_NAME.fullmatch, self.headers.keys()))
        if self.headers.get_content_maintype() == "multipart" and not self._lines.is_odd:
            raise Refusal(415, "a form; allowed: the picture's bytes as the whole body (curl --data-binary), or JSON")
        # the parser takes what follows a line that is no header for a body of its own
        if self._lines.is_odd or not named or self.headers.defects or self.headers.get_payload():
            raise Refusal(400, "headers that are none")
        for name in _ONCE:
            if len(self.headers.get_all(name, ())) > 1:
                raise Refusal(400, f"more than one {name}")

    def _check_caller(self) -> None:
        found = _HOST.fullmatch(self.headers.get("Host", ""))
        if found is None:
            raise Refusal(400, "a Host header that is no host")
        host = found[1].strip("[]")
        if self.server.is_local and not is_this_machine(host):
            raise Refusal(403, "this server answers only under a name of its own machine, such as localhost")
        token = self.server.token
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            raise Refusal(401, "a token is needed: Authorization: Bearer TOKEN")

    def _about(self) -> object:
        model = self.server.model
        return {
            "model": model.name,
            "task": "image-classification",
            "labels": list(model.labels),
            "size": list(model.size),
            "max_pictures": MOST_PICTURES,
        }

    def _classify(self) -> object:
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers:  # RFC 9112, 6.3: with both, somebody else may see another request
            raise Refusal(411, "a body with a Transfer-Encoding; allowed: one with its Content-Length")
        if not (length.isascii() and length.isdigit()):
            raise Refusal(411, "a body without its Content-Length")
        if len(length) > 12 or int(length) > MAX_BODY_BYTES:
            raise Refusal(413, f"a body of more than {MAX_BODY_BYTES} bytes")
        if self.path.partition("?")[0] != "/":
            raise Refusal(404, "pictures are taken at /")
        held = bytearray()
        try:
            self._receive(held, int(length))
            request = read_request(bytes(held), self.headers.get("Content-Type", ""))
            scores = self.server.model.scores(request.pictures, request.function)
        finally:
            self.server.hold(-len(held))
        with self.server.counting:
            self.server.answered += len(request.pictures)
        return answer_of(scores, self.server.model.labels, request)

    def _receive(self, held: bytearray, length: int) -> None:
        """Append a body to `held` as it comes, as far as there is room for it beside those of others."""
        while len(held) < length:
            part = self.rfile.read1(min(length - len(held), _PART))
            if not part:
                raise Refusal(400, "a body that ends early")
            if not self.server.hold(len(part)):
                raise Refusal(503, "too many bodies at once")
            held += part

    def _send(self, status: int, content: object) -> None:
        data = json.dumps(content, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
