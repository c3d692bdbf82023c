"""How figures name teachers and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hf_free.provenance.teacher_record import TeacherRecord


def teacher_names(records: Sequence[TeacherRecord]) -> list[str]:
    """How a picture names each teacher: by the shortest end of its reference that is unique among the teachers. Where
    no end is unique, the whole reference stands, with a number in front if two are the same. A private or gated
    teacher is named by its architecture and the number of its line in the card.
    """
    ends = {index: _ends(record) for index, record in enumerate(records) if not record.is_hidden}
    often = Counter(end for listed in ends.values() for end in listed)
    whole = Counter(listed[-1] for listed in ends.values())
    names = [f"{line}: {record.architecture}" for line, record in enumerate(records, 1)]
    for index, listed in ends.items():
        otherwise = listed[-1] if whole[listed[-1]] == 1 else f"{index + 1}: {listed[0]}"
        names[index] = next((end for end in listed if often[end] == 1), otherwise)
    return names


def _ends(record: TeacherRecord) -> list[str]:
    """Ends of a reference at its slashes, shortest first; revision and classes stay with its name (`net@v1:0-4`).

    A folder's path has no revision: an `@` in it is part of a name.
    """
    path, mark, choice = record.reference.partition("@") if record.repo_id else (record.reference, "", "")
    parts = path.rstrip("/").split("/")
    return ["/".join(parts[start:]) + mark + choice for start in range(len(parts) - 1, -1, -1)]


def class_name(record: TeacherRecord, teacher: int, index: int) -> str:
    """How a picture names a teacher's class."""
    if record.label_names is None or record.is_hidden:
        return f"{teacher + 1}:{index}"
    return record.label_names[index]


def whose_class(record: TeacherRecord, teacher: int, index: int) -> str:
    """A class with its teacher's name, without the path of a folder: the picture of recovered classes is published."""
    if record.is_hidden:
        return class_name(record, teacher, index)
    label = f"class {index}" if record.label_names is None else record.label_names[index]
    return f"{_ends(record)[0]}: {label}"


def class_names(classes: Sequence[tuple[TeacherRecord, int, int]], teachers: Sequence[str]) -> list[str]:
    """Names of classes (record, teacher, index); with their teacher's where several have one name."""
    names = [class_name(*entry) for entry in classes]
    return [
        f"{name} ({teachers[teacher]})" if names.count(name) > 1 else name
        for name, (_, teacher, _) in zip(names, classes, strict=True)
    ]
