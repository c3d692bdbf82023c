"""The app in a real browser, from upload to answer: Python's probabilities, to the last digit; two users at once."""

from __future__ import annotations

import importlib.util
import json

import browsing
import pytest
from learners import as_pil, make, pictures

from hf_free.demo.app import build_app
from hf_free.demo.class_sessions import ClassSessions

WHY_NOT = browsing.why_not() or ("" if importlib.util.find_spec("gradio") else "pip install -e '.[app]'")

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
    _, url, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, share=False)
    yield url
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
            page.get_by_role("button", name="Probabilities to the last digit").click()
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
        users[0].screenshot(path=str(tmp_path / "app.png"), full_page=True)
