"""`hf-free cost`: operations of a pass."""

from __future__ import annotations

from pico import pico_teacher
from program import refused

from hf_free.cli.main import main
from hf_free.serving.served_model import ServedTeacher
from hf_free.serving.server import ModelServer


def test_cost_without_a_model_prints_the_papers_table(capsys):
    assert main(["cost"]) == 0
    out = capsys.readouterr().out
    for row in ("0.03 / 0.03", "7.87 / 7.8", "128.34 / 127."):
        assert row in out


def test_flags_about_a_model_are_refused_without_one(capsys):
    assert "--revision without an ID" in refused(capsys, "cost", "--revision", "v1")


def test_a_black_box_has_no_operations_to_count(capsys):
    assert main(["cost", "endpoint:http://127.0.0.1:9/x"]) == 1
    assert "is a black box" in capsys.readouterr().err


def test_a_black_box_of_a_list_has_none_either(capsys, tmp_path):
    with ModelServer(ServedTeacher(pico_teacher("conv4", size=16))) as server:
        (tmp_path / "list.yaml").write_text(
            f"teachers:\n  - endpoint: {server.address}\n    input_size: [3, 16, 16]\n"
        )
        assert main(["cost", str(tmp_path / "list.yaml")]) == 1
    out, err = capsys.readouterr()
    assert "is a black box: what it computes is not known" in err
    assert "0 kFLOP" not in out
