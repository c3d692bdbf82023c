"""Bring public checkpoints into Hub layout, networks that timm does not know among them, and measure them.

    python examples/zoo/real_teachers.py --checkpoints ../shared/data/checkpoints --output zoo/real
    python examples/zoo/real_teachers.py --checkpoints ... --output zoo/real --data ../shared/data   # and measure them
    hf-free inspect zoo/real/*/ --import zoo/real/networks.py
    hf-free train --models zoo/real/cifar10-* --import zoo/real/networks.py --max-minutes 2 --output runs/real

The folder of checkpoints holds `models.py`, plain PyTorch definitions that know nothing of timm, and safetensors
files whose headers name one of them, its arguments, mean and std. This script copies the definitions and
`real_networks.py`, which registers them with timm, into the output folder, imports them from there as
`hf-free ... --import` will, and writes a folder per teacher: config.json, model.safetensors, and a card with source
and license. Read `real_networks.py` and docs/guides/own-networks.md to bring networks of your own.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from hf_free.backbones.custom import import_networks
from hf_free.data.images import to_float
from hf_free.errors import HfFreeError
from hf_free.evaluation.baselines import teacher_preprocessing
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.saving import save_teacher

LABELS = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
        "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
        "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
        "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
        "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
        "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
        "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    ),
    "mnist": "0 1 2 3 4 5 6 7 8 9",
    "fashion_mnist": "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle_boot",
    "svhn": "0 1 2 3 4 5 6 7 8 9",
}
"""Names of the classes in the order of the data sets' own indices."""
IMAGES = 2000
"""Pictures a teacher is measured on at most, unless --images says otherwise."""
MEASURED_ON = {"cifar100": ("cifar_fs", "validation"), "imagenet1k": ("mini_imagenet", "validation")}
"""Data folder and split where they are not those of the training set's name and `test`."""


@dataclass(frozen=True)
class Checkpoint:
    """One file of the folder: what its header and the README beside it say."""

    path: Path
    definition: str
    """Name in models.py's ARCHS, or `timm:NAME`."""
    args: dict[str, Any]
    mean: list[float]
    std: list[float]
    dataset: str
    published: str
    source: str
    license: str

    @property
    def architecture(self) -> str:
        """timm's name of the network."""
        if self.definition.startswith("timm:"):
            return self.definition.removeprefix("timm:")
        return f"{self.definition}{self.args.get('depth', self.args.get('size', ''))}"

    @property
    def name(self) -> str:
        """Name of the teacher's folder."""
        return f"{self.dataset}-{self.architecture}".replace("_", "-")


def main() -> None:
    """Write every teacher, then measure those whose data are there."""
    options = read_options()
    try:
        files = checkpoint_files(options.checkpoints)
        options.output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.checkpoints / "models.py", options.output / "models.py")
        shutil.copyfile(Path(__file__).with_name("real_networks.py"), options.output / "networks.py")
        import_networks([options.output / "networks.py"])
        for path in files:
            print(bring(path, options), flush=True)
    except (HfFreeError, OSError) as error:
        sys.exit(f"Error: {error}")


def checkpoint_files(folder: Path) -> list[Path]:
    """The weights files of a folder of checkpoints.

    Raises:
        HfFreeError: no definitions there, or no weights.
    """
    files = sorted(folder.glob("*/*.safetensors"))
    if not files or not (folder / "models.py").is_file():
        missing = "*/*.safetensors" if (folder / "models.py").is_file() else "models.py"
        raise HfFreeError(
            f"{folder} has no {missing}",
            allowed="a folder with models.py, and one or more folders of safetensors files with a README.md",
            action="check --checkpoints",
        )
    return files


def bring(path: Path, options: argparse.Namespace) -> str:
    """Write one teacher, measure it where its data are there, and say so in a line.

    Raises:
        HfFreeError: a file that is no such checkpoint, or weights that do not fit their network.
    """
    try:
        checkpoint = read_checkpoint(path)
        write_teacher(checkpoint, options.output / checkpoint.name)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise HfFreeError(
            f"{path} cannot be brought into Hub layout: {type(error).__name__}: {error}",
            allowed="weights of a network of models.py, with its name and arguments in the file's header",
        ) from error
    measured = "" if options.data is None else measure(checkpoint, options.output, options.data, options.images)
    return f"{checkpoint.name}: {checkpoint.license}{measured}"


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder with models.py and */*.safetensors")
    parser.add_argument("--output", type=Path, required=True, help="folder of the teachers' folders")
    parser.add_argument("--data", type=Path, help="folder of data sets by name, to measure the teachers on")
    parser.add_argument("--images", type=int, default=IMAGES, help="most pictures that a teacher is measured on")
    options = parser.parse_args()
    if options.images != IMAGES and options.data is None:
        parser.error("--images says how many pictures of --data a teacher is measured on; give --data too")
    return options


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file's header, and source and license out of the README of its folder."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    readme = path.with_name("README.md").read_text(encoding="utf-8")
    found = re.search(r"^Source: (.+?)\. License: ([\w.-]+?)[\s.]*(?:\(|$)", readme, re.MULTILINE)
    return Checkpoint(
        path=path,
        definition=header["arch"],
        args=json.loads(header["args"]),
        mean=json.loads(header["mean"]),
        std=json.loads(header["std"]),
        dataset=header["dataset"],
        published=header["published"],
        source=found[1].replace("`", "") if found else "not stated",
        license=found[2].lower() if found else "",
    )


def write_teacher(checkpoint: Checkpoint, folder: Path) -> None:
    """Build the network as timm does, load the weights strictly, write the repository; float16 weights stay so."""
    network = timm.create_model(checkpoint.architecture, num_classes=checkpoint.args["num_classes"])
    with safe_open(checkpoint.path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if all(tensor.dtype == torch.float16 for tensor in weights.values() if tensor.is_floating_point()):
        network.half()
    network.load_state_dict(weights)
    cfg = {"mean": checkpoint.mean, "std": checkpoint.std, "input_size": network.pretrained_cfg["input_size"]}
    if checkpoint.dataset == "imagenet1k":  # its names are WordNet's numbers
        cfg["label_descriptions"] = timm.data.ImageNetInfo("imagenet-1k").label_descriptions(as_dict=True)
    save_teacher(network, folder, label_names=label_names(checkpoint), extra_cfg=cfg)
    (folder / "README.md").write_text(card(checkpoint, network), encoding="utf-8")


def label_names(checkpoint: Checkpoint) -> list[str]:
    """The classes' names; timm knows ImageNet's."""
    if checkpoint.dataset == "imagenet1k":
        return timm.data.ImageNetInfo("imagenet-1k").label_names()
    return [name.replace("_boot", " boot") for name in LABELS[checkpoint.dataset].split()]


def card(checkpoint: Checkpoint, network: nn.Module) -> str:
    """A card that claims nothing but what the source says."""
    license_line = [f"license: {checkpoint.license}"] if checkpoint.license else []
    lines = [
        "---",
        "library_name: timm",
        "pipeline_tag: image-classification",
        "tags: [image-classification, timm]",
        *license_line,
        "---",
        "",
        f"# {checkpoint.architecture}, trained on {checkpoint.dataset}",
        "",
        "A public checkpoint, brought into timm's Hub layout; the weights are unchanged and not ours.",
        "",
        f"- Source: {checkpoint.source}",
        f"- License of the weights, as the source states it: {checkpoint.license or 'not stated'}",
        f"- Accuracy, as the source states it: {checkpoint.published}",
        f"- Classes: {checkpoint.args['num_classes']}; parameters: {sum(p.numel() for p in network.parameters()):,}",
        "",
    ]
    if not timm.models.is_model(checkpoint.architecture) or not checkpoint.definition.startswith("timm:"):
        lines += ["timm does not know this network: `hf-free ... --import networks.py` registers it.", ""]
    return "\n".join(lines)


@torch.no_grad()
def measure(checkpoint: Checkpoint, output: Path, data: Path, images: int) -> str:
    """The teacher's accuracy on real pictures, as it is loaded from its folder; says so where the data are not there.

    Data sets with a part of the classes (the 16 of CIFAR-FS's and of miniImageNet's validation splits) are matched by
    the classes' names; the teacher still answers with all of its classes, and may have seen some of those pictures.
    """
    folder, split = MEASURED_ON.get(checkpoint.dataset, (checkpoint.dataset, "test"))
    if not (data / folder).is_dir():
        return f", not measured: {data} has no {folder}"
    teacher = load_teacher(TeacherReference.parse(str(output / checkpoint.name)))
    pictures = load_labeled_images(str(data / folder), split=split)
    known = [canonical(name) for name in teacher.record.label_names or ()]
    places = torch.tensor([known.index(canonical(name)) for name in pictures.class_names])
    step = -(-len(pictures) // images)  # spread over all classes
    shown = pictures.read(teacher_preprocessing(teacher.record)).images[::step]
    wanted = places[pictures.labels[::step]]
    right = sum(
        int((teacher.logits(to_float(part)).argmax(1) == answer).sum())
        for part, answer in zip(shown.split(256), wanted.split(256), strict=True)
    )
    return f", {100 * right / len(wanted):.2f} % of {len(wanted)} pictures of {folder} ({split})"


def canonical(name: str) -> str:
    """A class's name without what data sets write differently."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


if __name__ == "__main__":
    main()
