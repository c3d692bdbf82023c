"""What to cite: a method's paper as a BibTeX entry, from the facts of a record."""

from __future__ import annotations

import re

from hf_free.provenance.run_record import MethodFacts
from hf_free.runtime.text import one_line

FREE = MethodFacts(
    paper="Yongxian Wei, Zixuan Hu, Zhenyi Wang, Li Shen, Chun Yuan, Dacheng Tao: "
    "FREE: Faster and Better Data-Free Meta-Learning, CVPR 2024",
    url="https://arxiv.org/abs/2405.00984",
)
"""What hf-free implements: cited for a learner whose record names no paper, a pooled one for instance."""

_BOOKS = {
    "CVPR": "Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    "ICML": "Proceedings of the International Conference on Machine Learning (ICML)",
}
_PAPER = re.compile(r"(?P<authors>[^:]+): (?P<title>.+), (?P<venue>[^,]+) (?P<year>\d{4})")
_ARXIV = re.compile(r"https://arxiv\.org/abs/(\d{4}\.\d{4,5})")
_ADDRESS = re.compile(r"https://[\w.~/?=&%-]+")


def bibtex(method: MethodFacts) -> str:
    """The entry of a method's paper, which a stranger may have written: nothing breaks out of its value or a fence.

    Args:
        method: `paper` reads "Ann Lee, Bo Chu: Title, CVPR 2024"; a text of another form becomes the title.
    """
    method = method if method.paper else FREE
    found = _PAPER.fullmatch(_clean(method.paper))
    if found is None:
        return _entry("misc", "method", {"title": _clean(method.paper), **_place(method.url)})
    authors = [name.strip() for name in found["authors"].split(",")]
    fields = {
        "title": found["title"],
        "author": " and ".join(map(_last_name_first, authors)),
        "booktitle": _BOOKS.get(found["venue"], found["venue"]),
        "year": found["year"],
        **_place(method.url),
    }
    key = authors[0].rpartition(" ")[2] + found["year"] + found["title"].split()[0]
    return _entry("inproceedings", re.sub(r"[^a-z0-9]", "", key.lower()) or "method", fields)


def _last_name_first(name: str) -> str:
    given, _, last = name.rpartition(" ")
    return f"{last}, {given}" if given else last


def _place(url: str) -> dict[str, str]:
    if found := _ARXIV.fullmatch(url):
        return {"note": f"arXiv:{found[1]}"}
    return {"url": url} if _ADDRESS.fullmatch(url) else {}


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    width = max(map(len, fields))
    lines = ",\n".join(f"  {name:{width}} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"


def _clean(text: str) -> str:
    return " ".join(re.sub(r"[{}\\`~]", " ", one_line(text)).split())
