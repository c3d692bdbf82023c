"""What a Space holds."""

from __future__ import annotations

CODE = """
import json
from hf_free.errors import HubError
from hf_free.hub.space_files import files_of_space
try:
    found = files_of_space("{}", ["app.py", "README.md"])
    print(json.dumps([found.names, {{name: text.decode() for name, text in found.read.items()}}]))
except HubError as error:
    print(json.dumps(str(error)))
"""


def test_all_names_and_the_files_that_are_asked_for(hub, run_client):
    hub.add_repo("lab/space", {"app.py": b"1", "picture.png": b"2"}, repo_type="space")
    names, read = run_client(CODE.format("lab/space")).json
    assert {"app.py", "picture.png"} <= set(names)
    assert read == {"app.py": "1"}
    assert run_client(CODE.format("lab/none")).json == [[], {}]
    with hub.fault("status", "/api/spaces/lab/space", status=403, times=None):
        assert "lab/space" in run_client(CODE.format("lab/space")).json
