"""`hf-free search` as a client of the loopback Hub."""

from __future__ import annotations

import json

from verbs_at_work import PROGRAM


def test_search(hub, run_client, teacher_folder):
    card = b"---\nlibrary_name: timm\nlicense: mit\ntags: [timm]\n---\n"
    hub.add_repo("seeker/needle-net", {"README.md": card, "config.json": b"{}"})
    done = run_client([*PROGRAM, "search", "needle", "--author", "seeker", "--json"])
    assert [row["repo_id"] for row in json.loads(done.stdout)] == ["seeker/needle-net"]
    table = run_client([*PROGRAM, "search", "needle"]).stdout
    assert "seeker/needle-net" in table
    assert run_client([*PROGRAM, "search", "needle", "-q"]).stdout == "seeker/needle-net\n"
    nothing = run_client([*PROGRAM, "search", "no-such-word"])
    assert (nothing.stdout, "No model found" in nothing.stderr) == ("", True)
