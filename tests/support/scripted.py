"""A server on this machine that gives the answers it is told to, one after the other, and notes what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = [{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}]


@dataclass
class Scripted:
    """What it was asked, and where."""

    address: str = ""
    requests: list[tuple[dict[str, str], object]] = field(default_factory=list)
    """(headers in small letters, JSON) of each request."""


@contextmanager
def scripted(answers: Sequence[object]) -> Iterator[Scripted]:
    """Each answer is JSON with status 200, or (status, headers, JSON); the last one stays."""
    noted, left, lock = Scripted(), list(answers), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format, *args):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                noted.requests.append(
                    ({name.lower(): value for name, value in self.headers.items()}, json.loads(body))
                )
                answer = left.pop(0) if len(left) > 1 else left[0]
            status, headers, content = answer if isinstance(answer, tuple) else (200, {}, answer)
            if status == 0:
                self.close_connection = True
                return
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    noted.address = f"http://127.0.0.1:{server.server_address[1]}/model"
    try:
        yield noted
    finally:
        server.shutdown()
        server.server_close()
