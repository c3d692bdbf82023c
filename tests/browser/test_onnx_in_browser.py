"""An exported file in a real browser: the page that the guide shows, with onnxruntime-web, gives Python's answers."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import browsing
import pytest
from learners import LABELS, make, pictures
from PIL import Image
from sklearn.datasets import load_sample_images

from hf_free.learner.export import export_classifier
from hf_free.learner.rejection import Rejection

RUNTIME = "onnxruntime-web@1.30.0"
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "export.md"
MISSING = [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]
WHY_NOT = (
    browsing.why_not()
    or ("pip install -e '.[onnx]'" if MISSING else "")
    or ("" if shutil.which("npm") else "no npm: apt-get install npm")
)

pytestmark = [pytest.mark.browser, pytest.mark.long, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")]


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder that the guide describes, with onnxruntime-web from the npm registry."""
    folder = tmp_path_factory.mktemp("site")
    (page,) = re.findall(r"```html\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "index.html").write_text(page, encoding="utf-8")
    (folder / "favicon.ico").touch()  # browsers ask for it
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), RUNTIME]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    """Pictures of several shapes: turned by EXIF, transparent, of one pixel."""
    folder = tmp_path_factory.mktemp("queries")
    temple, flower = map(Image.fromarray, load_sample_images().images)
    temple.resize((90, 60)).save(folder / "landscape.png")
    flower.resize((40, 130)).convert("L").save(folder / "gray.png")
    turned = temple.getexif()
    turned[0x0112] = 6
    temple.resize((640, 320)).save(folder / "turned.jpg", exif=turned, quality=95)
    clear = flower.resize((50, 50)).convert("RGBA")
    clear.putalpha(100)
    clear.save(folder / "clear.png")
    flower.resize((1, 1)).save(folder / "one.png")
    flower.save(folder / "photo.png")
    return sorted(folder.iterdir())


def _ask(chromium, address, queries):
    """What the page says of each picture, and what it wrote to the console."""
    page = chromium.new_page()
    said, asked, answers = [], [], {}
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address, wait_until="networkidle")
    for path in queries:
        page.evaluate("document.querySelector('output').textContent = ''")
        page.locator("input").set_input_files([str(path)])
        page.wait_for_function("document.querySelector('output').textContent")
        answers[path.name] = json.loads(page.locator("output").inner_text())
    page.close()
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
    assert said == []
    return answers


@pytest.mark.parametrize("int8", [False, True])
def test_the_page_of_the_guide_gives_the_classifier_s_probabilities(folder, address, queries, tmp_path, int8):
    classifier = make("conv4_32", model_args={"width": 8}, head="ridge").adapt(pictures(), LABELS)
    done = export_classifier(classifier, folder / "pets.onnx", int8=int8)
    with browsing.browser(tmp_path / "profile") as chromium:
        answers = _ask(chromium, address, queries)
        classifier.rejection = Rejection(1e9)
        export_classifier(classifier, folder / "pets.onnx")
        assert _ask(chromium, address, queries[:1]) == {queries[0].name: "none of these"}
        classifier.rejection = None
    largest = 0.0
    for path in queries:
        expected = dict(zip(classifier.classes, classifier.predict_proba([path])[0].tolist(), strict=True))
        found = dict(answers[path.name])
        assert found.keys() == expected.keys()
        assert [value for _, value in answers[path.name]] == sorted(found.values(), reverse=True)
        largest = max(largest, *(abs(found[name] - expected[name]) for name in expected))
    assert largest < (0.01 if not int8 else max(0.05, 2 * done.difference)), largest
