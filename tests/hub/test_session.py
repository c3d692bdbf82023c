"""Tokens: where they go and where not."""

from __future__ import annotations

import gzip

import pytest
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
        assert answer["seconds"] < 10


def test_a_wait_that_the_hub_asks_for_is_bounded_and_said(hub, tokens, ask):
    asked = {"a day": ({"Retry-After": "86400"}, "1 day"), "used up": ({"ratelimit": '"api";r=0;t=5400'}, "2 hours")}
    for index, (headers, words) in enumerate(asked.values()):
        name = f"fault/wait-{index}"
        hub.add_repo(name, FILES)
        with hub.fault("status", f"/api/models/{name}/", status=429, headers=headers, times=None) as fault:
            answer = ask(f"fetch_snapshot, '{name}'")
        assert fault.hits == 1, "no second request before the time that was asked for"
        assert f"asks to wait {words} for {name} (429)" in answer["error"]
        assert answer["seconds"] < 30


def test_an_answer_that_trickles_or_never_ends_is_left(hub, run_client):
    hub.add_repo("fault/trickle", FILES)
    code = """
import json
from hf_free.hub import session
def failure(**options):
    try:
        session.patiently(lambda: session.api_for(None).model_info("fault/trickle"), **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
trickled = failure(patience=0.5)
session.MAX_ANSWER_BYTES = 100
print(json.dumps([trickled, failure()]))
"""
    with hub.fault("trickle", "/api/models/fault/trickle", seconds=0.1) as fault:
        trickled, endless = run_client(code).json
    assert fault.hits == 1
    assert trickled == "NoProgressError: an answer that is not whole after 0 s"
    assert endless.startswith("MalformedAnswerError: an answer of more than")


def test_a_session_after_a_refused_connection_is_watched_too(run_client):
    """huggingface_hub closes its session then and makes another, in the middle of a call."""
    code = """
import json
from huggingface_hub import close_session, get_session
from huggingface_hub.utils import hf_raise_for_status
from hf_free.hub import session
def call():
    get_session()
    close_session()
    return get_session().head("http://127.0.0.1:9")
try:
    session.patiently(call, patience=-1)
except Exception as error:
    print(json.dumps(type(error).__name__))
"""
    assert run_client(code).json == "NoProgressError"


def test_time_in_which_nobody_asks_is_no_silence_of_the_hub(hub, run_client):
    """Uploads to Xet go past the session, and may take hours between two requests."""
    hub.add_repo("fault/quiet", FILES)
    hub.add_repo("fault/busy", FILES)
    code = """
import json, time
from huggingface_hub import get_session
from hf_free.hub import session
models = session.api_for(None).endpoint + "/api/models/fault/"
def twice(name, pause):
    get_session().get(models + name)
    time.sleep(pause)
    return get_session().get(models + name).status_code
answers = [session.patiently(lambda: twice("quiet", 0.4), patience=0.2)]
for pause in (0, 0.4):
    try:
        answers.append(session.patiently(lambda: twice("busy", pause), patience=0.2, attempts=1))
    except session.NoProgressError:
        answers.append("left")
print(json.dumps(answers))
"""
    with hub.fault("status", "/api/models/fault/busy", status=503, times=None) as fault:
        assert run_client(code).json == [200, 503, "left"]
    assert fault.hits == 3


def test_a_refused_file_is_waited_for_no_longer(hub, run_client):
    """Else a later file of the same data set was refused, after work in between that took longer than the patience."""
    hub.add_repo("fetch/two", FILES)
    code = """
import time
from huggingface_hub import get_session
from hf_free.hub import session
session.PATIENCE = 0.3
address = f"{session.constants.ENDPOINT}/fetch/two/resolve/main/"
with session.bounded_listings():
    with get_session().stream("GET", address + "none.txt") as refused:
        print(refused.status_code)
    time.sleep(0.5)
    print(get_session().get(address + "config.json", follow_redirects=True).status_code)
"""
    assert run_client(code).stdout.split() == ["404", "200"]


@pytest.mark.parametrize(
    ("after", "said"), [(2, "last answer: 200, which broke off"), (None, "no answer")], ids=["cut", "closed"]
)
def test_answers_that_break_off_are_no_sign_of_life(hub, run_client, after, said):
    """A status of 200 was one, so that repetitions of a cut answer had no end; and an older answer was called the
    last."""
    hub.add_repo("fault/cut", FILES)
    code = """
import json, time
from huggingface_hub import get_session
from hf_free.hub import session
endpoint, asked = session.api_for(None).endpoint, []
def call():
    get_session().head(endpoint)  # answered with 404
    for _ in range(40):
        try:
            asked.append(get_session().get(endpoint + "/api/models/fault/cut"))
        except session.transport_error():
            time.sleep(0.05)
try:
    session.patiently(call, attempts=1, patience=0.3)
    failure = "none"
except session.NoProgressError as error:
    failure = str(error)
print(json.dumps([failure, len(asked)]))
"""
    with hub.fault("close", "/api/models/fault/cut", after=after, times=None) as fault:
        assert run_client(code).json == [said, 0]
    assert fault.hits < 10


def test_a_listing_whose_next_page_is_itself_is_left(hub, run_client):
    link = {"Link": f'<{hub.endpoint}/api/models?cursor=again>; rel="next"'}
    code = """
from hf_free.errors import HubError
from hf_free.hub.search import search_models
try:
    search_models(query="endless")
except HubError as error:
    print(error)
"""
    with hub.fault("status", "^/api/models", method="GET", status=200, headers=link, body=b"[]", times=50) as fault:
        said = run_client(code).stdout
    assert "a listing whose next page is the page itself" in said
    assert fault.hits == 2


def test_a_listing_of_ever_new_pages_is_left(hub, run_client):
    code = """
import json
from hf_free.hub import session
def watch_pages(seconds):
    library = session.http_library()
    request = library.Request("GET", "http://127.0.0.1/api/models")
    with session._watched(1.0, 1.0, every_thread=False) as watch:
        watch.listing.began -= seconds
        for number in range(1000):
            link = {"Link": f'<http://127.0.0.1/api/models?cursor={number}>; rel="next"'}
            session._after_response(library.Response(200, headers=link, request=request))
def failure(seconds):
    try:
        watch_pages(seconds)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
print(json.dumps([failure(0), failure(60)]))
"""
    assert run_client(code).json == [
        "MalformedAnswerError: a listing of more than 200 pages",
        "NoProgressError: a listing that is not whole after 45 s",
    ]


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        ({"Content-Encoding": "gzip"}, gzip.compress(b'{"id": "fault/packed"}', mtime=0), "fault/packed"),
        ({"Content-Encoding": "gzip"}, gzip.compress(bytes(2**20), mtime=0), "an answer of more than 0 MiB"),
        ({"Content-Encoding": "gzip"}, b"no gzip", "an answer that is called gzip and is none"),
        ({"Content-Encoding": "br"}, b"{}", "an answer packed as 'br', which was not asked for"),
    ],
)
def test_a_packed_answer_is_bounded_by_what_is_in_it(hub, run_client, headers, body, said):
    code = """
import json
from hf_free.hub import session
session.MAX_ANSWER_BYTES = 2**16
try:
    print(json.dumps(session.patiently(lambda: session.api_for(None).model_info("fault/packed").id)))
except session.MalformedAnswerError as error:
    print(json.dumps(str(error)))
"""
    with hub.fault("status", "/api/models/fault/packed", status=200, headers=headers, body=body):
        assert run_client(code).json == said


@pytest.mark.parametrize("proxy", ["gopher://127.0.0.1:1", "http://127.0.0.1:port"])
def test_a_proxy_that_cannot_be_used_is_named(ask, proxy):
    answer = ask("fetch_snapshot, 'org/net'", env={"HTTP_PROXY": proxy})
    assert "no connection can be made through the proxy in HTTP_PROXY" in answer["error"]
    assert "unset HTTP_PROXY" in answer["error"]


def test_whatever_the_http_library_raises_is_one_message():
    from hf_free.errors import HubError
    from hf_free.hub import session
    from hf_free.hub.failures import explain

    library = session.http_library()
    for error in (library.DecodingError("Error -3"), library.TooManyRedirects("x"), library.InvalidURL("x")):
        assert isinstance(explain(error, "org/x"), HubError)
    assert session.is_transient(library.DecodingError("Error -3"))
    assert "no more threads" in explain(RuntimeError("can't start new thread"), "org/x").given
    assert explain(library.ConnectError("[Errno 24] Too many open files"), "org/x").given.endswith(
        ": Too many open files"
    )


@pytest.mark.parametrize(
    ("status", "said", "way"),
    [
        (413, "Payload too large", "push fewer or smaller files"),
        (403, "Private repository storage limit reached", "a plan with more space"),
        (507, "x", "a plan with more space"),
        (409, "A commit has happened since", "somebody else has changed it"),
        (511, "x", "log in to this network"),
        (418, "x", "try again later"),
    ],
)
def test_an_answer_that_waiting_does_not_help_has_another_way_out(status, said, way):
    from huggingface_hub.errors import HfHubHTTPError

    from hf_free.hub import session
    from hf_free.hub.failures import explain

    library = session.http_library()
    response = library.Response(status, request=library.Request("GET", "http://127.0.0.1/"))
    error = HfHubHTTPError(said, response=response)
    error.server_message = said
    assert way in explain(error, "org/x", token="hf_x").action


def test_what_is_no_http_is_called_so_in_our_words():
    from hf_free.hub import session
    from hf_free.hub.failures import explain

    library = session.http_library()
    for error, said in (
        (library.RemoteProtocolError("illegal status line: bytearray(b'x')"), "its answer is no valid HTTP"),
        (library.RemoteProtocolError("peer closed connection without sending"), "ended before its answer did"),
        (library.UnsupportedProtocol("Request URL has an unsupported protocol"), "none of http"),
        (library.DecodingError("Error -3 while decompressing"), "damaged on the way"),
    ):
        assert explain(error, "org/x").given.endswith(said)


@pytest.mark.parametrize(
    ("endpoint", "url", "is_own"),
    [
        ("https://huggingface.co", "https://huggingface.co/api", True),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/x", True),
        ("http://hub.example", "https://hub.example/x", True),
        ("https://huggingface.co", "http://huggingface.co/x", False),
        ("https://huggingface.co", "https://huggingface.co:8443/x", False),
        ("https://huggingface.co", "https://huggingface.co.evil.example/x", False),
        ("https://huggingface.co", "https://evil.example/huggingface.co", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8001/x", False),
    ],
)
def test_a_token_stays_with_the_hub_that_was_asked(monkeypatch, endpoint, url, is_own):
    from hf_free.hub import session

    monkeypatch.setattr(session.constants, "ENDPOINT", endpoint)
    request = session.http_library().Request("POST", url, headers={"Authorization": "Bearer hf_x"})
    watch = session._Watch(10, None, 10)
    if is_own:
        watch.before_request(request)
    else:
        with pytest.raises(session.MalformedAnswerError, match="sends the token on to"):
            watch.before_request(request)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "x", "ftp://host/x", "//host/x"])
def test_an_address_that_is_none_is_not_tried_again(url):
    from hf_free.hub import session

    watch = session._Watch(10, None, 10)
    with pytest.raises(session.MalformedAnswerError, match="of neither http nor https"):
        watch.before_request(session.http_library().Request("PUT", url))


@pytest.mark.parametrize(
    ("endpoint", "url", "is_taken"),
    [
        ("https://hub.example", "https://storage.example/bucket", True),
        ("https://hub.example", "http://storage.example/bucket", False),
        ("https://hub.example", "http://127.0.0.1:9000/bucket", True),
        ("http://127.0.0.1:8000", "http://storage.example/bucket", False),
        ("http://hub.example", "http://storage.example/bucket", True),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_what_is_pushed_goes_nowhere_unencrypted_from_a_hub_that_is_not(monkeypatch, endpoint, url, is_taken, method):
    """Storage may lie anywhere; redirects come here, too."""
    from hf_free.hub import session

    monkeypatch.setattr(session.constants, "ENDPOINT", endpoint)
    watch, request = session._Watch(10, None, 10), session.http_library().Request(method, url, content=b"weights")
    if is_taken:
        watch.before_request(request)
    else:
        with pytest.raises(session.MalformedAnswerError, match=r"pushed on to storage\.example, unencrypted"):
            watch.before_request(request)
    watch.before_request(session.http_library().Request("GET", url))  # what is read is compared with its hash


def test_a_rate_that_stays_limited_is_not_called_a_lack_of_network():
    from hf_free.hub import failures, session

    watch = session._Watch(10, None, -1)
    watch.last_status = 429
    with pytest.raises(session.RateLimitedError) as limited:
        watch.before_request(session.http_library().Request("GET", "http://127.0.0.1/x"))
    said = failures.explain(limited.value, "org/a")
    assert said.given == "the Hub limits the rate of requests (429) for org/a"


def test_what_the_client_stumbles_over_is_a_misreading():
    """It names a variable before it has a value where the Hub answers about a file that nobody asked about."""
    from hf_free.hub import session

    def stumbles() -> None:
        raise UnboundLocalError("cannot access local variable 'operation'")

    with pytest.raises(session.MalformedAnswerError, match="a field of it is missing or of another type"):
        session.patiently(stumbles)
