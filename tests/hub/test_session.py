"""Tokens: where they go and where not."""

from __future__ import annotations

from hub_calls import FILES


def test_a_token_is_neither_logged_nor_sent_unencrypted(hub, tokens, ask):
    hub.add_repo("alice/logged", FILES, private=True)
    answer = ask("fetch_snapshot, 'alice/logged'", token=tokens["alice"], env={"HF_DEBUG": "1"})
    assert answer["error"] is None
    assert "LOG DEBUG" in answer["log"]
    assert tokens["alice"] not in answer["log"]
    for call in ("fetch_snapshot, 'alice/logged'", "check_can_push, 'alice/logged', None", "search_models"):
        answer = ask(call, token=tokens["alice"], env={"HF_ENDPOINT": "http://hub.example"})
        assert "would be sent unencrypted to http://hub.example" in answer["error"]
        assert tokens["alice"] not in answer["error"] + answer["log"]
        assert answer["seconds"] < 1
