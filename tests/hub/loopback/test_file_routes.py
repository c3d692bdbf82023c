"""Bytes of files: ranges, signed addresses."""

from __future__ import annotations

import hashlib
import http.client
import json


def test_ranges(hub):
    hub.add_repo("lab/ranges", {"x.bin": b"0123456789"})
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_address[1])

    def ask(value):
        connection.request("GET", "/lab/ranges/resolve/main/x.bin", headers={"Range": value})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers["Content-Range"]

    assert ask("bytes=4-") == (206, b"456789", "bytes 4-9/10")
    assert ask("bytes=2-3") == (206, b"23", "bytes 2-3/10")
    assert ask("bytes=-3") == (206, b"789", "bytes 7-9/10")
    assert ask("bytes=8-99") == (206, b"89", "bytes 8-9/10")
    assert ask("bytes=10-") == (416, b"", "bytes */10")
    assert ask("lines=1-") == (200, b"0123456789", None)
    connection.close()


def test_large_files_need_the_signed_address_and_the_right_bytes(hub, tokens):
    connection = http.client.HTTPConnection("127.0.0.1", hub.server.server_address[1])

    def ask(method, path, body, headers=None):
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()

    hub.add_repo("alice/lfs", {"a.txt": b"a"})
    oid = hashlib.sha256(b"never uploaded").hexdigest()
    wish = json.dumps({"operation": "upload", "objects": [{"oid": oid, "size": 14}]})
    owner = {"Authorization": f"Bearer {tokens['alice']}"}
    status, text = ask("POST", "/alice/lfs.git/info/lfs/objects/batch", wish, owner)
    address = json.loads(text)["objects"][0]["actions"]["upload"]["href"].removeprefix(hub.endpoint)
    assert status == 200
    assert ask("POST", "/alice/lfs.git/info/lfs/objects/batch", wish)[0] == 401
    assert ask("PUT", f"/lfs/{oid}", b"never uploaded")[0] == 403
    assert ask("PUT", address, b"other bytes")[0] == 400
    line = json.dumps({"key": "lfsFile", "value": {"path": "x.bin", "oid": oid, "algo": "sha256"}})
    assert ask("POST", "/api/models/alice/lfs/commit/main", line, owner)[0] == 400
    assert ask("PUT", address, b"never uploaded")[0] == 200
    assert ask("POST", "/api/models/alice/lfs/commit/main", line, owner)[0] == 200
    assert hub.read_repo("alice/lfs")["x.bin"] == b"never uploaded"
    connection.close()
