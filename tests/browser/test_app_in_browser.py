"""The app in a real browser, from upload to answer: Python's probabilities, to the last digit; people and programs at
once, each with their own classes; and nothing serious for axe to find."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import browsing
import pytest
from learners import as_pil, make, pictures

from hf_free.demo.app import build_app, launch
from hf_free.demo.class_sessions import ClassSessions

MISSING = [name for name in ("gradio", "mcp") if importlib.util.find_spec(name) is None]
WHY_NOT = browsing.why_not() or ("pip install -e '.[mcp]'" if MISSING else "")

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")]


@pytest.fixture(scope="module")
def learner():
    return make()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Pictures that Gradio's own components would change: a turned JPEG, see-through PNG, a palette."""
    folder = tmp_path_factory.mktemp("pictures")
    made = as_pil(pictures(7, size=48))
    for place, picture in enumerate(made[:5]):
        picture.save(folder / f"{place}.png")
    turned = made[5].getexif()
    turned[0x0112] = 6
    made[5].save(folder / "5.jpg", exif=turned)
    clear = made[6].convert("RGBA")
    clear.putalpha(90)
    clear.save(folder / "6.png")
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def address(learner):
    blocks = build_app(ClassSessions(learner))
    yield launch(blocks, mcp=True)
    blocks.close()


def _add(page, name, paths):
    page.locator("#class-name textarea, #class-name input").first.fill(name)
    page.locator("#class-pictures input[type=file]").set_input_files(paths)
    page.locator("#class-pictures").get_by_text(paths[-1].rpartition("/")[2].rpartition(".")[0]).first.wait_for()
    page.locator("#add").click()
    count = f"{len(paths)} picture" + ("" if len(paths) == 1 else "s")
    page.locator("#classes li", has_text=f"{name} ({count})").wait_for()


def _ask(page, path):
    page.locator("#query input[type=file]").set_input_files([path])
    page.locator("#query").get_by_text(path.rpartition("/")[2].rpartition(".")[0]).first.wait_for()
    page.locator("#ask").click()
    page.locator("#answer h3").wait_for()
    return page.locator("#answer h3").inner_text()


def test_a_picture_gets_the_probabilities_of_python_and_users_keep_their_classes(address, learner, paths, tmp_path):
    with browsing.browser(tmp_path / "profile") as chromium:
        users = [chromium.new_context(viewport={"width": 1280, "height": 1000}).new_page() for _ in range(2)]
        asked = []
        for page in users:
            page.on("request", lambda request: asked.append(request.url))
            page.goto(address)
            page.locator("#add").wait_for()
        _add(users[0], "cat", paths[:2])
        _add(users[1], "ant", paths[2:3])
        _add(users[0], "dog <b>", [paths[2], paths[5]])
        _add(users[1], "bee", paths[3:5])
        queries = [paths[6], paths[5]]
        answers = []
        for page, query in zip(users, queries, strict=True):
            said = _ask(page, query)
            page.get_by_text("Probabilities to the last digit").click()
            text = page.locator("#exact").inner_text()
            answers.append((said, text))
        adapted = [
            learner.adapt([*paths[:3], paths[5]], ["cat", "cat", "dog <b>", "dog <b>"]),
            learner.adapt(paths[2:5], ["ant", "bee", "bee"]),
        ]
        for (said, text), classifier, query in zip(answers, adapted, queries, strict=True):
            expected = classifier.predict_proba([query])[0].tolist()
            (label,) = classifier.predict([query])
            assert said.startswith(f"{label}, ")
            for name, value in zip(classifier.classes, expected, strict=True):
                assert json.dumps(value) in text, (name, value, text)
        assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
        pixels = (
            users[0]
            .locator("#answer img")
            .first.evaluate("image => [image.naturalWidth, image.naturalHeight, image.alt]")
        )
        assert pixels == [48, 48, "The picture as the learner reads it"]
        users[0].locator("#save").click()
        with users[0].expect_download() as download:
            users[0].locator("#file").click()
        assert zipfile.is_zipfile(download.value.path())


def _tools(address, calls):
    """What the tools of the MCP server at an address answer, and what they are."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def call():
        async with (
            streamablehttp_client(f"{address}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            key = (await session.call_tool("new_session", {})).content[0].text
            return tools, [await session.call_tool(name, {"session": key, **given}) for name, given in calls]

    with ThreadPoolExecutor(1) as thread:  # a browser's thread has a loop of its own
        return thread.submit(asyncio.run, call()).result()


def _inline(path):
    return f"data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def test_an_mcp_client_and_a_python_client_keep_their_own_classes_beside_two_browsers(
    address, learner, paths, tmp_path
):
    from gradio_client import Client, handle_file

    with browsing.browser(tmp_path / "profile") as chromium:
        users = [chromium.new_context(viewport={"width": 1280, "height": 1000}).new_page() for _ in range(2)]
        for page, name, taken in zip(users, ("cat", "ant"), (paths[:2], paths[2:3]), strict=True):
            page.goto(address)
            page.locator("#add").wait_for()
            _add(page, name, taken)
        calls = [("add_picture", {"name": name, "picture": _inline(paths[place])}) for place, name in enumerate("xxy")]
        calls += [("classify", {"picture": _inline(paths[6])}), ("list_classes", {})]
        calls += [("add_picture", {"name": "x", "picture": "/etc/passwd"}), ("remove_class", {"name": "cat"})]
        tools, said = _tools(address, calls)
        client = Client(address, verbose=False)
        key = client.predict(api_name="/new_session")
        for name, path in (("x", paths[3]), ("z", paths[4])):
            client.predict(key, name, handle_file(path), api_name="/add_picture")
        asked = json.loads(client.predict(key, handle_file(paths[6]), api_name="/classify"))
        for page, name in zip(users, ("dog", "bee"), strict=True):
            _add(page, name, paths[3:5])
        listed = [page.locator("#classes li").all_inner_texts() for page in users]

    for found, support, labels in (
        (json.loads(said[3].content[0].text), paths[:3], ["x", "x", "y"]),
        (asked, paths[3:5], ["x", "z"]),
    ):
        expected = learner.adapt(support, labels).predict_proba([paths[6]])[0].tolist()
        assert list(found["probabilities"].values()) == expected
    assert json.loads(said[4].content[0].text) == {"x": 2, "y": 1}
    assert json.loads(client.predict(key, api_name="/list_classes")) == {"x": 1, "z": 1}
    assert listed == [["cat (2 pictures)", "dog (2 pictures)"], ["ant (1 picture)", "bee (2 pictures)"]]
    assert said[5].isError, "a file of the server's computer"
    assert "there is no class 'cat'" in said[6].content[0].text
    assert set(tools) == {
        *("new_session", "add_picture", "list_classes", "rename_class", "remove_class", "classify", "export"),
    }
    for tool in tools.values():
        assert tool.description
        assert all(value["description"] for value in tool.inputSchema["properties"].values()), tool.name


def test_axe_finds_nothing_serious_in_the_app(address, paths, tmp_path):
    with browsing.browser(tmp_path / "profile") as chromium:
        for width, height, scheme in browsing.VIEWS:
            window = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True
            )
            page = window.new_page()
            page.goto(address)
            page.locator("#add").wait_for()
            view = f"{width} {scheme}"
            assert browsing.violations(page) == [], f"{view}, before anything is asked"
            _add(page, "cat", paths[:2])
            _add(page, "dog <b>", paths[2:3])
            assert _ask(page, paths[5])
            page.locator("#answer summary").click()
            page.locator("#save").click()
            page.locator("#file").wait_for()
            for name in ("Rename or remove a class", "Session"):
                page.get_by_role("button", name=name).first.click()
            page.get_by_label("New name").wait_for()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{view}: too wide"
            assert page.locator("h1").count() == 1
            assert browsing.violations(page) == [], view
            window.close()
