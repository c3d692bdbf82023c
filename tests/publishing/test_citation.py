"""BibTeX entries, against what the papers' own pages give."""

from __future__ import annotations

import re

import pytest

from hf_free.methods.registry import METHODS
from hf_free.provenance.run_record import MethodFacts
from hf_free.publishing.citation import FREE, bibtex

FREE_ENTRY = """@inproceedings{wei2024free,
  title     = {FREE: Faster and Better Data-Free Meta-Learning},
  author    = {Wei, Yongxian and Hu, Zixuan and Wang, Zhenyi and Shen, Li and Yuan, Chun and Tao, Dacheng},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2024},
  note      = {arXiv:2405.00984}
}"""


@pytest.mark.parametrize(
    ("name", "key", "title"),
    [
        ("default", "wei2024free", "FREE: Faster and Better Data-Free Meta-Learning"),
        ("released", "wei2024free", "FREE: Faster and Better Data-Free Meta-Learning"),
        ("purer", "hu2023architecture", "Architecture, Dataset and Model-Scale Agnostic Data-free Meta-Learning"),
        ("bidf-mkd", "hu2023learning", "Learning to Learn from APIs: Black-Box Data-Free Meta-Learning"),
        (
            "tgr",
            "wei2024task",
            "Task Groupings Regularization: Data-Free Meta-Learning with Heterogeneous Pre-trained Models",
        ),
    ],
)
def test_every_method_has_its_own_paper(name, key, title):
    entry = bibtex(METHODS[name].facts)
    assert entry.startswith(f"@inproceedings{{{key},\n")
    assert re.search(r"  title     = \{(.*)\},", entry)[1] == title
    authors = re.search(r"  author    = \{(.*)\},", entry)[1].split(" and ")
    assert len(authors) >= 6
    assert all(", " in author for author in authors)


def test_every_registered_paper_can_be_cited():
    assert all(bibtex(method.facts).startswith("@inproceedings") for method in METHODS.values())


def test_a_learner_without_a_method_cites_what_hf_free_implements():
    assert bibtex(MethodFacts()) == bibtex(FREE) == FREE_ENTRY


@pytest.mark.parametrize("nasty", ["```\n# out", "}\n@misc{x,", "a: b, c\\input{x} 2024", "\x1b[2J", "~~~", "ü 数字"])
def test_a_strangers_facts_stay_inside(nasty):
    for facts in (MethodFacts(paper=nasty, url=nasty), MethodFacts(paper=f"{nasty}: {nasty}, {nasty} 2024")):
        entry = bibtex(facts)
        assert entry.count("{") == entry.count("}") == 2 + entry.count(" = {") - 1
        assert not re.search(r"[`\\\x1b]|~~~", entry)
        assert all(re.fullmatch(r"@\w+\{\w+,|  \w+ += \{[^{}]*\},?|\}", line) for line in entry.split("\n"))
