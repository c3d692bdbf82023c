"""The wire of the loopback Hub: one HTTP request handler, and the faults it can be told to show.

The handler finds the route (`routes.py`), sends the answer whole or in ranges, and turns a `StoreError`
into the status and the `X-Error-Code` header that huggingface_hub reads.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from hf_free.hub.loopback.messages import Answer, Fault, LoggedRequest, Request
from hf_free.hub.loopback.store import Store, StoreError

if TYPE_CHECKING:
    from hf_free.hub.loopback.routes import Routes


class HubServer(ThreadingHTTPServer):
    """A threading server on 127.0.0.1 that knows the store, the routes and the faults."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, store: Store, routes: Routes) -> None:
        self.store, self.routes = store, routes
        self.faults: list[Fault] = []
        self.requests: list[LoggedRequest] = []
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", port), HubHandler)
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The first fault that hits this request, counted."""
        with self.store.lock:
            for fault in self.faults:
                if fault.matches(method, path):
                    fault.hits += 1
                    return fault
        return None

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Clients that hang up are expected; anything else is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class HubHandler(BaseHTTPRequestHandler):
    """Reads one request, asks the routes, writes one answer."""

    server: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes; without it each answer costs 40 ms
    server_version = "hf-free-loopback-hub"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: `LoopbackHub.requests` keeps the log."""

    def _handle(self) -> None:
        body = self._read_body()  # drained before any answer, or a kept-alive connection breaks
        fault = self.server.take_fault(self.command, self.path)
        if fault is not None and self._show_before_answer(fault):
            return
        answer = self._answer(body)
        if fault is not None and fault.kind == "lose":
            self._cut(reset=False)
        else:
            self._send(answer, fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, body: bytes) -> Answer:
        parts = urlsplit(self.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        user = self.server.store.users.get(token)
        name = user.name if user else "?" if token else None
        self.server.requests.append(LoggedRequest(self.command, self.path, name))
        try:
            if token and user is None:
                raise StoreError(401, "Invalid credentials in Authorization header")
            query = parse_qs(parts.query, keep_blank_values=True)
            request = Request(self.command, parts.path, query, self.headers, body, user, self.server.endpoint)
            return self.server.routes.answer(request)
        except StoreError as error:
            headers = {"X-Error-Message": error.message.encode("ascii", "replace").decode()}
            if error.code:
                headers["X-Error-Code"] = error.code
            return Answer({"error": error.message}, error.status, {**headers, **error.headers})

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        data = answer.body
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
            answer.headers.setdefault("Content-Type", "application/json; charset=utf-8")
        status, data = self._ranged(answer, data)
        if fault is not None and fault.kind == "corrupt":
            data = bytes(byte ^ 0x55 for byte in data)
        if fault is not None and fault.kind == "truncate":
            data = data[: fault.after or len(data) // 2]
        self.send_response(status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.kind == "trickle":
            for byte in data:
                if self.server.closing.wait(fault.seconds):
                    break
                self.wfile.write(bytes([byte]))
            return
        if fault is None or fault.after is None or fault.kind not in ("close", "reset", "stall"):
            self.wfile.write(data)
            return
        self.wfile.write(data[: fault.after])
        self.wfile.flush()
        if fault.kind == "stall":
            self._stall(fault)
            self.wfile.write(data[fault.after :])
        else:
            self.server.closing.wait(0.05)  # let the client read what got through before the connection ends
            self._cut(reset=fault.kind == "reset")

    def _ranged(self, answer: Answer, data: bytes) -> tuple[int, bytes]:
        """Cut the asked range out of a file's bytes (RFC 9110, section 14)."""
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "").strip())
        if answer.status != 200 or "Accept-Ranges" not in answer.headers or asked is None or not any(asked.groups()):
            return answer.status, data
        first, last = asked.groups()
        start = int(first) if first else max(len(data) - int(last), 0)
        end = min(int(last) + 1 if first and last else len(data), len(data))
        if start >= len(data) or end <= start:
            answer.headers["Content-Range"] = f"bytes */{len(data)}"
            return 416, b""
        answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return 206, data[start:end]

    def _show_before_answer(self, fault: Fault) -> bool:
        """Show a fault that comes before the answer; True if there is to be no answer any more."""
        if fault.kind == "status":
            headers = {"X-Error-Message": f"injected {fault.status}", **fault.headers}
            if fault.body is not None:
                headers = {"Content-Type": "application/json; charset=utf-8", **fault.headers}
            body = {"error": f"injected {fault.status}"} if fault.body is None else fault.body
            self._send(Answer(body, fault.status, headers), None)
            return True
        if fault.kind in ("close", "reset") and fault.after is None:
            self._cut(reset=fault.kind == "reset")
            return True
        if fault.kind == "stall" and fault.after is None:
            return self._stall(fault)
        return False

    def _stall(self, fault: Fault) -> bool:
        """Wait as long as the fault says; True if the server is closing."""
        first, end = len(self.server.requests), time.monotonic() + fault.seconds
        while not self.server.closing.wait(min(0.02, fault.seconds)) and time.monotonic() < end:
            if fault.until is not None and any(
                re.search(fault.until, request.path) for request in self.server.requests[first:]
            ):
                break
        return self.server.closing.is_set()

    def _cut(self, *, reset: bool) -> None:
        """End the connection: FIN, or RST through a lingering time of zero seconds."""
        self.close_connection = True
        if not reset:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for handle in (self.rfile, self.wfile, self.connection):
            handle.close()
        raise ConnectionAbortedError("cut on purpose")  # the base class would flush the closed file
