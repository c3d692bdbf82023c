"""Data sets wherever they lie: Parquet, configurations, a Hub."""

from __future__ import annotations

import errno
import logging
import sys

import pytest
from drawn import picture
from hub_calls import paths

from hf_free.data.decoding import PictureError
from hf_free.errors import DatasetError, StorageError
from hf_free.evaluation.dataset_sources import read_or_explain
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.hub.session import NoProgressError, transport_error

datasets = pytest.importorskip("datasets")


def test_a_card_without_metadata_is_not_remarked_on(parquet, caplog):
    (parquet / "README.md").write_text("only words")
    logger = logging.getLogger("huggingface_hub.repocard")
    before = logger.level
    logger.addHandler(caplog.handler)  # huggingface_hub's loggers do not pass their records on
    try:
        load_labeled_images(parquet)
        logger.warning("seen")
    finally:
        logger.removeHandler(caplog.handler)
    assert {record.message for record in caplog.records} == {"seen"}
    assert logger.level == before


def test_paths_without_data_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetError, match="holds no data"):
        load_labeled_images(tmp_path)
    with pytest.raises(DatasetError, match="is not a Parquet file"):
        load_labeled_images(tmp_path / "notes.txt")
    with pytest.raises(DatasetError, match="there is no file or folder"):
        load_labeled_images(tmp_path / "gone" / "set")


def test_a_private_data_set_without_a_token_is_not_to_be_had(hub, run_client, parquet):
    hub.add_repo("lab/secret", parquet, repo_type="dataset", private=True)
    result = run_client(
        "from hf_free.evaluation.datasets import load_labeled_images as load; load('lab/secret')", check=False
    )
    assert result.returncode != 0
    assert "DatasetError: data set 'lab/secret' cannot be fetched" in result.stderr
    assert "hf auth login" in result.stderr


def parquet_set(folder, split, names, value):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"image": [picture(value + i) for i in range(4)], "label": [names[i % 2] for i in range(4)]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(content, features=features).to_parquet(folder / f"{split}.parquet")


CONFIGURATIONS = """---
configs:
- config_name: flying
  data_files: birds/*.parquet
- config_name: '1.10'
  data_files: [{split: train, path: cars/train.parquet}, {split: test, path: cars/test.parquet}]
---
# Two sets
"""


def test_configurations_are_folders_or_what_a_card_lists_and_can_be_named(tmp_path, hub, run_client):
    root = tmp_path / "two"
    parquet_set(root / "birds", "train", ("owl", "wren"), 10)
    parquet_set(root / "cars", "train", ("bus", "van"), 20)
    parquet_set(root / "cars", "test", ("bus", "van"), 30)
    with pytest.raises(DatasetError, match=r"2 data sets[\s\S]*one of birds, cars\n[\s\S]*two:birds"):
        load_labeled_images(root)
    assert load_labeled_images(f"{root}:birds").class_names == ["owl", "wren"]
    cars = load_labeled_images(f"{root}:cars")
    assert (cars.class_names, cars.split) == (["bus", "van"], "test")
    with pytest.raises(DatasetError, match=r"no configuration 'fish'\n  allowed: birds, cars\n"):
        load_labeled_images(f"{root}:fish")

    (root / "README.md").write_text(CONFIGURATIONS)
    with pytest.raises(DatasetError, match=r"one of flying, 1\.10\n[\s\S]*two:flying"):
        load_labeled_images(root)
    assert load_labeled_images(f"{root}:flying").class_names == ["owl", "wren"]
    assert load_labeled_images(f"{root}:1.10").class_names == ["bus", "van"]

    (root / "README.md").write_text(CONFIGURATIONS.replace("flying", "birds").replace("'1.10'", "cars"))
    hub.add_repo("lab/two-sets", root, repo_type="dataset")
    code = """
from hf_free.evaluation.datasets import load_labeled_images as load
from hf_free.errors import DatasetError, StorageError
for name in ("lab/two-sets", "lab/two-sets:fish", "lab/two-sets:birds"):
    try:
        print(load(name).class_names)
    except DatasetError as error:
        print(error.given, "|", error.allowed, "|", error.action)
"""
    several, unknown, birds = run_client(code).stdout.splitlines()[-3:]
    assert "2 data sets" in several
    assert "| one of birds, cars |" in several
    assert several.endswith("lab/two-sets:birds")
    assert "no configuration 'fish'" in unknown
    assert "| one of birds, cars |" in unknown
    assert birds == "['owl', 'wren']"


def test_parquet_files_that_name_no_split_are_all_read_or_said(tmp_path, caplog):
    for name in ("north", "south"):
        parquet_set(tmp_path / "all", name, ("a", "b"), 10)
    (tmp_path / "all" / "notes.csv").write_text("a,b")
    (tmp_path / "all" / "._south.parquet").write_bytes(b"left by a Mac")
    assert len(load_labeled_images(tmp_path / "all")) == 8
    assert not caplog.messages
    parquet_set(tmp_path / "all", "birds-test", ("a", "b"), 10)
    assert (len(load_labeled_images(tmp_path / "all")), len(caplog.messages)) == (4, 1)
    assert "passed over 2 Parquet files that name no split (north.parquet, south.parquet)" in caplog.messages[0]


def test_a_table_beside_flat_pictures_gives_their_classes_and_no_picture_is_lost(tmp_path):
    names = ["train_1.png", "test_2.png", "dev_3.png", "4.png"]
    for index, name in enumerate(names):
        picture(10 * index).save(tmp_path / name)
    lines = "".join(f"{name},{'ape' if index % 2 else 'bee'}\n" for index, name in enumerate(names))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{lines}")
    data = load_labeled_images(tmp_path)
    assert (len(data), data.class_names, data.labels.bincount().tolist()) == (4, ["ape", "bee"], [2, 2])


def test_image_folders_on_a_hub_are_read_as_local_ones_are(hub, run_client, tmp_path):
    for label in ("train", "bus", "test-tube"):
        for name in ("1.png", "photo_test_2.png"):
            (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
            picture(len(label)).save(tmp_path / "set" / label / name)
    (tmp_path / "set" / "README.md").write_text("# Pictures")
    hub.add_repo("lab/image-folder", tmp_path / "set", repo_type="dataset")
    code = (
        "import json; from hf_free.evaluation.datasets import load_labeled_images as load;"
        "data = load('lab/image-folder');"
        "print(json.dumps([data.split, data.class_names, data.labels.tolist(), list(data.at_size(4).shape)]))"
    )
    expected = ["train", ["bus", "test-tube", "train"], [0, 0, 1, 1, 2, 2], [6, 3, 4, 4]]
    assert run_client(code).json == expected
    start = len(hub.requests)
    assert run_client(code, env={"HF_HUB_OFFLINE": "1"}).json == expected
    assert paths(hub, start, about="lab/image-folder") == []


@pytest.mark.parametrize("elsewhere", ["{root}/private", "../private"])
def test_a_card_names_no_folder_outside_its_data_set(tmp_path, elsewhere):
    parquet_set(tmp_path / "private", "train", ("anna", "ben"), 10)
    parquet_set(tmp_path / "set" / "inside", "train", ("owl", "wren"), 10)
    card = "---\nconfigs:\n- config_name: default\n  data_dir: {folder}\n---\n"
    (tmp_path / "set" / "README.md").write_text(card.format(folder=elsewhere.format(root=tmp_path)))
    with pytest.raises(DatasetError, match="none of its own"):
        load_labeled_images(tmp_path / "set")
    (tmp_path / "set" / "README.md").write_text(card.format(folder="inside"))
    assert load_labeled_images(tmp_path / "set").class_names == ["owl", "wren"]


@pytest.mark.parametrize("error", [transport_error(), NoProgressError])
def test_a_download_that_stalls_is_a_data_set_that_cannot_be_read(error):
    def stalled():
        raise error("timed out")

    with pytest.raises(DatasetError, match="cannot be read: it does not arrive from the Hub: timed out"):
        read_or_explain(stalled, "org/slow")


def test_what_never_arrives_whole_of_a_data_set_is_left(hub, run_client, parquet):
    """A listing that breaks off was asked for for 48 s, and one that says nothing for minutes, as was a table."""
    code = """
import json, time
from huggingface_hub import constants
from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.hub import session
session.PATIENCE, session.READ_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT = 0.5, 0.3, 0.3
begun = time.monotonic()
try:
    load_labeled_images("lab/never-{}")
except DatasetError as error:
    print(json.dumps([time.monotonic() - begun, str(error)]))
"""
    faults = {"cut": ("close", 20, "tree"), "silent": ("stall", None, "tree"), "table": ("stall", 20, ".*parquet")}
    for name, (kind, after, path) in faults.items():
        hub.add_repo(f"lab/never-{name}", parquet, repo_type="dataset")
        with hub.fault(kind, f"/lab/never-{name}/{path}", after=after, times=None, method="GET") as fault:
            seconds, said = run_client(code.format(name)).json
        assert seconds < 10
        assert "it does not arrive from the Hub: " in said
        assert ("next to nothing of a file" if name == "table" else "has had no good answer") in said
        assert fault.hits in (1, 2), name


def test_what_a_hub_refuses_of_a_data_set_is_told_as_for_models(hub, run_client, parquet):
    """`datasets` said "FileNotFoundError: 403 Client Error." of a gated table."""
    hub.add_repo("lab/refused", parquet, repo_type="dataset")
    code = """
from hf_free.errors import DatasetError
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.hub import session
session.PATIENCE = 0.5
try:
    load_labeled_images("lab/refused")
except DatasetError as error:
    print(str(error).replace("\\n", " "))
"""
    said = {403: "refuses lab/refused to this token (403)", 429: "no good answer for 0 s, the last one was 429"}
    for status, words in said.items():
        with hub.fault("status", "/datasets/lab/refused/resolve/.*parquet", status=status, times=None):
            assert words in run_client(code).stdout
    with hub.fault("status", "/api/datasets/lab/refused/tree", status=500, times=None) as fault:
        assert "the last one was 500" in run_client(code).stdout
    assert fault.hits < 5


def test_a_table_whose_connection_ends_is_asked_for_again(hub, run_client, parquet):
    hub.add_repo("lab/dropped", parquet, repo_type="dataset")
    code = """
from hf_free.evaluation.datasets import load_labeled_images
print(load_labeled_images("lab/dropped").class_names)
"""
    with hub.fault("close", "/lab/dropped/resolve/.*validation.*parquet", after=20, method="GET") as fault:
        assert run_client(code).stdout.strip() == "['ape', 'bee']"
    assert fault.hits == 1


@pytest.mark.parametrize("card", ["a: [1", "b: : :", "c: !!python/object:os.path {}", "d:\n\t- e"])
def test_a_card_that_is_no_yaml_is_one_message(tmp_path, card):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    content = {"image": [picture(1), picture(2)], "label": ["a", "b"]}
    datasets.Dataset.from_dict(content, features=features).to_parquet(tmp_path / "train.parquet")
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\n")
    with pytest.raises(DatasetError, match=r"card README\.md of .* cannot be read: it is no YAML"):
        load_labeled_images(tmp_path)


def test_a_data_sets_listing_whose_next_page_is_itself_is_left(hub, run_client, tmp_path):
    picture(1).save(tmp_path / "1.png")
    hub.add_repo("lab/endless", {"train/a/1.png": (tmp_path / "1.png").read_bytes()}, repo_type="dataset")
    link = {"Link": f'<{hub.endpoint}/api/datasets/lab/endless/tree/main?again=1>; rel="next"'}
    code = """
from hf_free.errors import DatasetError, HubError
from hf_free.evaluation.datasets import load_labeled_images
try:
    load_labeled_images("lab/endless")
except (DatasetError, HubError) as error:
    print(error)
"""
    with hub.fault("status", "/lab/endless/tree", status=200, headers=link, body=b"[]", times=50) as fault:
        said = run_client(code).stdout
    assert "next page is the page itself" in said
    assert fault.hits < 10


def rows_naming(folder, names):
    """A Parquet file whose rows have no bytes, only the names of files."""
    import pyarrow
    import pyarrow.parquet

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = pyarrow.array([{"bytes": None, "path": name} for name in names], type=kind)
    table = pyarrow.table({"image": rows, "text": names, "label": ["a", "b"] * (len(names) // 2)})
    folder.mkdir()
    pyarrow.parquet.write_table(table, folder / "train.parquet")
    return folder / "train.parquet"


@pytest.mark.parametrize("column", ["image", "text"])
@pytest.mark.parametrize("name", ["{root}/private.png", "../private.png", "{root}/set/../private.png"])
def test_rows_name_no_file_outside_their_data_set(tmp_path, monkeypatch, column, name):
    """They were read: any picture of this computer."""
    picture(1).save(tmp_path / "private.png")
    file = rows_naming(tmp_path / "set", [name.format(root=tmp_path)] * 2)
    monkeypatch.chdir(file.parent)
    data = load_labeled_images(file, image_column=column, label_column="label")
    with pytest.raises(PictureError, match="lies outside of the data set"):
        data.images[0]
    with pytest.raises(DatasetError, match="none of the 2 pictures"):
        data.readable()


def test_rows_may_name_files_of_their_own_folder(tmp_path):
    file = rows_naming(tmp_path / "set", [str(tmp_path / "set" / "1.png")] * 2)
    picture(1).save(file.parent / "1.png")
    assert load_labeled_images(file, image_column="image", label_column="label").images[1].size == picture(1).size


def test_a_card_on_the_hub_names_nothing_elsewhere(hub, run_client, tmp_path):
    parquet_set(tmp_path / "private", "train", ("anna", "ben"), 10)
    parquet_set(tmp_path / "set", "train", ("owl", "wren"), 10)
    file, address = tmp_path / "private" / "train.parquet", f"{hub.endpoint}/reached.parquet"
    for number, elsewhere in enumerate((file, address, address, address)):
        mark = "\ufeff" if number == 2 else ""  # a byte order mark
        card = f"{mark}---\nconfigs:\n- config_name: default\n  data_files: {elsewhere}\n---\n"
        files = {"README.md": card.encode(), "train.parquet": (tmp_path / "set" / "train.parquet").read_bytes()}
        hub.add_repo(f"lab/reaches-{number}", files, repo_type="dataset")
    code = """
from hf_free.errors import DatasetError, StorageError
from hf_free.evaluation.datasets import load_labeled_images
for number in range(4):
    try:
        print(load_labeled_images(f"lab/reaches-{number}").class_names)
    except DatasetError as error:
        print("refused" if "none of its own files" in str(error) else error)
"""
    start = len(hub.requests)
    listing = b'{"id": "lab/reaches-3", "siblings": [{"rfilename": "train.parquet"}]}'  # which lacks the card
    with hub.fault("status", "/api/datasets/lab/reaches-3", status=200, body=listing):
        assert run_client(code).stdout.split() == ["refused"] * 4
    assert not paths(hub, start, about="reached")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"hello" * 40, "damaged or no Parquet"),
        (b"PAR1" + bytes(99), "damaged"),
        (b"PAR1", "is cut off"),
    ],
)
def test_damaged_tables_are_named_in_words_of_ours(tmp_path, data, said, caplog):
    (tmp_path / "train.parquet").write_bytes(data)
    with pytest.raises(DatasetError, match=f"cannot be read: a Parquet file of it .*{said}"):
        load_labeled_images(tmp_path / "train.parquet")
    assert not caplog.records


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (
            '{"image": {"_type": "Audio"}, "label": {"dtype": "string", "_type": "Value"}}',
            "takes a package that is not installed",
        ),
        ('{"image": {"_type": "Nothing"}}', "of a type that `datasets` does not know"),
        ("{", "the JSON in one of its files is none"),
    ],
)
def test_what_a_table_says_of_its_columns_is_no_raw_error(tmp_path, monkeypatch, features, said):
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setitem(sys.modules, "torchcodec", None)  # not installed
    table = pyarrow.table({"image": [{"bytes": b"x", "path": "x"}] * 2, "label": ["a", "b"]})
    meta = {"huggingface": f'{{"info": {{"features": {features}}}}}' if features != "{" else features}
    pyarrow.parquet.write_table(table.replace_schema_metadata(meta), tmp_path / "train.parquet")
    with pytest.raises(DatasetError, match=said):
        load_labeled_images(tmp_path / "train.parquet", image_column="image", label_column="label")


def test_a_script_is_not_run(tmp_path):
    (tmp_path / "set").mkdir()
    parquet_set(tmp_path / "set", "train", ("owl", "wren"), 10)
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(DatasetError, match="it is a script, which is not run"):
        load_labeled_images(tmp_path / "set")
    assert not (tmp_path / "ran").exists()


def test_errors_of_memory_and_of_ours_pass():
    def fail(error):
        raise error

    for error in (MemoryError(), StorageError("full")):
        with pytest.raises(type(error)):
            read_or_explain(lambda error=error: fail(error), "org/x")
    with pytest.raises(StorageError, match="no space"):
        read_or_explain(lambda: fail(OSError(errno.ENOSPC, "no space", "/x/y")), "org/x")


@pytest.mark.parametrize("named", ["data/train.parquet", "."])
def test_a_git_lfs_pointer_in_the_place_of_a_parquet_file_is_named(tmp_path, named):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n")
    with pytest.raises(DatasetError, match=r"train\.parquet is a git-lfs pointer"):
        load_labeled_images(tmp_path / named)


def test_what_generating_says_is_its_cause():
    error = datasets.exceptions.DatasetGenerationError("An error occurred while generating the dataset")
    error.__cause__ = OSError("a pipe is broken")

    def fail():
        raise error

    with pytest.raises(DatasetError, match="cannot be read: OSError: a pipe is broken"):
        read_or_explain(fail, "org/x")


def test_a_revision_of_blanks_is_none():
    with pytest.raises(DatasetError, match="the revision ' ' of the data set org/x"):
        load_labeled_images("org/x", revision=" ")


def test_a_revision_of_a_data_set_that_is_not_there_is_named(hub, run_client, parquet):
    hub.add_repo("lab/versions", parquet, repo_type="dataset")
    code = """
from hf_free.errors import DatasetError, HubError
from hf_free.evaluation.datasets import load_labeled_images
page = "https://huggingface.co/datasets/lab/versions"
given = [("lab/versions", "v9"), ("lab/versions@main", None), ("lab/versions@v2:small", None)]
for name, revision in (*given, (page, None), (page + "/tree/v2", None)):
    try:
        load_labeled_images(name, revision=revision)
    except (DatasetError, HubError) as error:
        print(str(error).replace("\\n", " "))
"""
    missing, behind, configured, page, older_page = run_client(code).stdout.splitlines()
    assert "lab/versions has no revision 'v9'" in missing
    assert f"{hub.endpoint}/datasets/lab/versions/tree/main" in missing
    assert "'lab/versions@main' has an @" in behind
    assert "write lab/versions; evaluate takes --dataset-revision main" in behind
    assert "write lab/versions:small; evaluate takes --dataset-revision v2" in configured
    assert "is the address of a page" in page
    assert page.endswith("write lab/versions")
    assert "write lab/versions; evaluate takes --dataset-revision v2" in older_page


def test_a_table_that_arrives_damaged_is_fetched_again_and_never_kept(hub, run_client, parquet):
    """Its pictures were shown, or every later call failed too."""
    code = """
import json
from hf_free.errors import HubError
from hf_free.evaluation.datasets import load_labeled_images
try:
    print(json.dumps(load_labeled_images("lab/{}").class_names))
except HubError as error:
    print(json.dumps(str(error)))
"""
    for name in ("once", "twice"):
        hub.add_repo(f"lab/{name}", parquet, repo_type="dataset")
    with hub.fault("corrupt", "/lab/once/resolve/.*validation.*parquet", method="GET") as fault:
        assert run_client(code.format("once")).json == ["ape", "bee"]
    assert fault.hits == 1
    with hub.fault("corrupt", "/lab/twice/resolve/.*validation.*parquet", method="GET", times=2):
        said = run_client(code.format("twice")).json
    assert "validation-00000-of-00001.parquet of the data set lab/twice arrived twice with other bytes" in said
    assert run_client(code.format("twice")).json == ["ape", "bee"]


def test_pictures_that_arrive_damaged_are_fetched_again(hub, run_client, tmp_path):
    for index, name in enumerate(("ant", "bee")):
        (tmp_path / "set" / name).mkdir(parents=True)
        picture(90 * index + 40).save(tmp_path / "set" / name / "1.png")
    hub.add_repo("lab/loose", tmp_path / "set", repo_type="dataset")
    code = """
import json
from hf_free.evaluation.datasets import load_labeled_images
print(json.dumps(load_labeled_images("lab/loose").at_size(4)[:, 0, 0, 0].tolist()))
"""
    with hub.fault("corrupt", "/lab/loose/resolve/.*bee", method="GET") as fault:
        assert run_client(code).json == [40, 130]
    assert fault.hits == 1


@pytest.mark.parametrize("name", ["nope/", "no/such/"])
def test_a_text_that_ends_as_a_folders_is_a_missing_folder(name):
    with pytest.raises(DatasetError, match=f"there is no file or folder {name}"):
        load_labeled_images(name)


def test_a_name_that_no_data_set_can_have_is_told_in_our_words():
    with pytest.raises(DatasetError, match="no data set on the Hub can have that name, and there is no such file"):
        load_labeled_images("no such name")
