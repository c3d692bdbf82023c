"""A server that answers with bytes as they are, in parts and with pauses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def served(row: Callable[[threading.Event], Iterable[bytes]]) -> Iterator[str]:
    """The address of a server that answers each connection with what `row` yields, as long as somebody reads.

    Args:
        row: The parts of an answer; it is given an event that is set when the server closes, to wait with.
    """
    closing = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                for part in row(closing):
                    connection.sendall(part)
                connection.recv(65536)
            except OSError:
                pass

    def accept() -> None:
        while not closing.is_set():
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            closing.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
