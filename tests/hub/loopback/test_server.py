"""The server as a program."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys


def test_serves_folders_from_the_command_line(tmp_path):
    (tmp_path / "org" / "net").mkdir(parents=True)
    (tmp_path / "org" / "net" / "config.json").write_text('{"architecture": "x"}')
    (tmp_path / "datasets" / "org" / "data").mkdir(parents=True)
    (tmp_path / "datasets" / "org" / "data" / "train.csv").write_text("a\n1\n")
    command = [sys.executable, "-m", "hf_free.hub.loopback.hub", "--root", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r"HF_ENDPOINT=http://127\.0\.0\.1:(\d+) ", process.stdout.readline()).group(1))
        connection = http.client.HTTPConnection("127.0.0.1", port)
        bodies = []
        for path in ("/org/net/resolve/main/config.json", "/datasets/org/data/resolve/main/train.csv"):
            connection.request("GET", path)
            bodies.append(connection.getresponse().read())
        connection.close()
        assert bodies == [b'{"architecture": "x"}', b"a\n1\n"]
    finally:
        process.terminate()
        process.wait(10)


def test_the_server_needs_only_the_standard_library(tmp_path):
    code = """
import sys
import hf_free.hub.loopback.hub
roots = {name.partition(".")[0] for name in sys.modules}
print(sorted(roots & {"huggingface_hub", "yaml", "torch", "timm", "numpy", "pydantic", "httpx2", "requests"}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
