"""A classifier for use outside Python: an ONNX file, a `torch.export` program, an OpenVINO model, or a file for phones
(LiteRT, ExecuTorch), compared with the classifier before it is kept.

uint8 pictures (B, 3, H, W), any number of any size, go in; probabilities and confidence come out. Resize,
normalization, network and head are all in the file. Whatever the export assumed about its example input is silently
built into an ONNX file, so every file is run, in its own runtime, on pictures of other shapes than the example's.
Files for phones take one picture of one size (`hf_free.learner.one_picture`).
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from hf_free.data.images import VIEWS, match_channels
from hf_free.errors import LearnerError
from hf_free.learner.batchnorm import batchnorm_layers
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.classifier_check import check_classifier
from hf_free.learner.export_executorch import write_executorch
from hf_free.learner.export_litert import write_litert
from hf_free.learner.export_openvino import write_openvino
from hf_free.learner.heads import normalize_features
from hf_free.learner.labels import plain_labels
from hf_free.learner.one_picture import check_input_size, fixed_resize, varied_pictures
from hf_free.learner.pooled_backbone import PooledBackbone
from hf_free.learner.quantize import COMPARED as INT8_COMPARED
from hf_free.learner.quantize import SAME_LABELS, drawn_pictures, quantize_convolutions
from hf_free.runtime.files import write_together
from hf_free.runtime.given import check_kind, given_path
from hf_free.runtime.storage import storage_explained
from hf_free.runtime.text import others_words
from hf_free.version import __version__

OPSET, IR_VERSION = 20, 10
"""The first opset with an antialiased Resize, and the IR that goes with it; onnxruntime-web takes both."""

MAX_DIFFERENCE = 0.01
"""Largest difference of a probability between the file and Python. Pictures are rounded to whole gray levels after the
resize, and rounding may go either way: 5e-4 was measured on noise."""

COMPARED = ((2, 48, 36), (1, 36, 48), (3, 40, 40), (2, 5, 3), (1, 700, 500))
"""Number, height and width of the pictures that are compared: portrait, landscape, square, tiny, large; the learner's
own size too. None is the example's."""

_EXAMPLE = (2, 3, 24, 20)

_CLASSIFIER_WAY = "a FewShotClassifier: learner.adapt(...) makes one, FewShotClassifier.from_pretrained(...) opens one"

REFUSED = {
    ".so": "an AOTInductor library reads pictures of another type or memory layout wrongly, without an error",
}
"""Endings of files that other runtimes read, each with the reason why hf-free writes none."""

Run = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pictures (B, 3, H, W) -> probabilities (B, N) and confidence (B,), by the file's own runtime."""


@dataclass(frozen=True)
class Exported:
    """A file that was kept.

    Attributes:
        path: The file.
        labels: The file beside it, with labels, sizes, threshold and license.
        bytes: Size of the file.
        difference: Largest difference of a probability between the file and Python, of all pictures compared.
        milliseconds: For one picture of the learner's size, in the file's runtime on this machine.
        same_labels: Of an int8 file, the share of drawn pictures that get the classifier's label; None of others.
        float_bytes: Of an int8 file, the size that the float one has.
        float_milliseconds: Likewise its time.
        input_size: Height and width of the one picture that a file for phones takes; None of files that take any.
        resizes: Whether the file brings pictures to the learner's size; if not, who asks it has to.
    """

    path: Path
    labels: Path
    bytes: int
    difference: float
    milliseconds: float
    same_labels: float | None = None
    float_bytes: int | None = None
    float_milliseconds: float | None = None
    input_size: tuple[int, int] | None = None
    resizes: bool = True


class PixelsToProbabilities(nn.Module):
    """A whole classifier as one module of tensor operations that exporters know.

    Args:
        classifier: Answers each picture alone, or by the BatchNorm statistics of the batch.
        given: Height and width of all pictures; None for pictures of any size.

    Raises:
        LearnerError: a transductive head, which is no layer.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, classifier: FewShotClassifier, given: tuple[int, int] | None = None) -> None:
        super().__init__()
        if classifier.transductive is not None:
            raise LearnerError(
                f"a classifier with the transductive head {classifier.transductive}",
                allowed="classifiers that answer each picture alone",
                action="set classifier.transductive = None, or adapt without --transductive",
            )
        embedder = copy.deepcopy(classifier.embedder).eval().cpu()
        if embedder.batchnorm == "transductive":
            _use_batch_statistics(embedder.backbone)
        self.backbone, self.embedding = embedder.backbone, embedder.embedding
        size = embedder.config.image_size
        self.resize = _Resize(size) if given is None else fixed_resize(given, size)
        self.channels, self.views = embedder.config.channels, embedder.views
        self.register_buffer("mean", embedder.mean)
        self.register_buffer("std", embedder.std)
        self.register_buffer("weight", classifier.weight.detach().cpu().float())
        self.register_buffer("bias", classifier.bias.detach().cpu().float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (B, 3, H, W) -> probabilities (B, N) and confidence (B,)."""
        pixels = match_channels(images.float(), self.channels)
        pixels = self.resize(pixels)
        pixels = pixels.round().clamp(0, 255) / 255  # to gray levels, as pictures are in Python
        stacked = torch.cat([VIEWS[name](pixels) for name in self.views])
        features = self.backbone((stacked - self.mean) / self.std)
        embedded = self.embedding(features.unflatten(0, (len(self.views), -1)).float().mean(0))
        prepared = normalize_features(self.embedding.prepare(embedded))
        logits = prepared @ self.weight.T + self.bias
        return logits.softmax(-1), logits.amax(-1)


class _Resize(nn.Module):
    """Pictures of any size to a square, antialiased."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = (size, size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, size, size)."""
        return F.interpolate(images, size=self.size, mode="bilinear", align_corners=False, antialias=True)


class BatchStatistics(nn.Module):
    """BatchNorm by the batch's own statistics, in operations that exporters do not turn into eval mode."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        norm: Any = layer
        zero = torch.zeros(norm.num_features)
        self.eps, self.after = norm.eps, nn.Sequential()
        self.register_buffer("weight", zero + 1 if norm.weight is None else norm.weight.detach())
        self.register_buffer("bias", zero if norm.bias is None else norm.bias.detach())
        if isinstance(layer, BatchNormAct2d):
            self.after = nn.Sequential(norm.drop, norm.act)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of the same shape, or (B, C)."""
        over = [0, *range(2, images.dim())]
        mean = images.mean(over, keepdim=True)
        variance = ((images - mean) ** 2).mean(over, keepdim=True)
        shape = (1, -1, *[1] * (images.dim() - 2))
        scaled = (images - mean) / (variance + self.eps).sqrt() * self.weight.view(shape) + self.bias.view(shape)
        return self.after(scaled)


def export_classifier(
    classifier: FewShotClassifier, path: str | Path, *, int8: bool = False, input_size: tuple[int, int] | None = None
) -> Exported:
    """Write a classifier as ONNX (`.onnx`), as a program of `torch.export` (`.pt2`), for OpenVINO (`.xml`), LiteRT
    (`.tflite`) or ExecuTorch (`.pte`), with its labels beside it.

    The file is run on pictures of several shapes and compared with the classifier; one that differs is not kept.

    Args:
        classifier: The classifier.
        path: Ends in `.onnx`, which takes the extra `onnx`, `.pt2`, `.xml`, which takes the extra `openvino` and
            brings a `.bin` beside it, `.tflite` (extra `litert`) or `.pte` (extra `executorch`). The labels go into
            `NAME.onnx.json` and so on.
        int8: Whether convolutions are computed in eight bits, which takes an ONNX file. A file that gives too many
            pictures another label is not kept.
        input_size: Height and width of the one picture that a `.tflite` or `.pte` file takes, and resizes; None for
            the learner's own size. Files of the other kinds take pictures of any size.

    Raises:
        LearnerError: another ending, missing packages, a network that cannot be exported, a file that answers
            otherwise than the classifier.
    """
    check_kind(
        classifier, "classifier", FewShotClassifier, allowed=_CLASSIFIER_WAY, optional=False, error=LearnerError
    )
    path = given_path(path, "path", error=LearnerError)
    check_request(path, int8=int8, input_size=input_size)
    size = classifier.embedder.config.image_size
    given = (input_size or (size, size)) if path.suffix.lower() in ONE_PICTURE else None
    if given is not None:
        _check_one_picture(classifier, path)
    check_classifier(classifier)
    module, about = PixelsToProbabilities(classifier, given).eval(), _about(classifier, given)
    module.to(memory_format=torch.contiguous_format)  # ExecuTorch fails on weights in another layout
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / path.with_suffix(path.suffix.lower()).name  # torch takes no other case
        run = _write(module, made, about, given)
        difference = _largest_difference(classifier, run, given)
        if not difference <= MAX_DIFFERENCE:
            raise LearnerError(
                f"the exported file differs from the classifier by {difference:.3g} in a probability",
                allowed=f"differences up to {MAX_DIFFERENCE}",
                action="use the classifier in Python; the file was not kept",
            )
        milliseconds, same, before = _milliseconds(run, size, given), None, None
        if int8:
            before = (made.stat().st_size, milliseconds)
            run = _in_int8(made, about, size)
            difference, same = _int8_differences(classifier, run)
            milliseconds = _milliseconds(run, size)
            about |= {"convolutions": "int8", "same_labels": f"{same:.3f}"}
        about["largest_difference"] = f"{difference:.2g}"
        contents = {file.suffix: file.read_bytes() for file in Path(scratch).iterdir()}
    labels = path.with_name(f"{path.name}.json")
    # of OpenVINO's two the weights come first, and only then what names them
    places = {suffix: path.with_suffix(suffix) for suffix in sorted(contents)} | {path.suffix.lower(): path}
    files = {places[suffix]: contents[suffix] for suffix in sorted(contents)}
    write_together({**files, labels: (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode()})
    float_bytes, float_milliseconds = before or (None, None)
    total, resizes = sum(map(len, contents.values())), given != (size, size)
    return Exported(
        path, labels, total, difference, milliseconds, same, float_bytes, float_milliseconds, given, resizes
    )


def check_request(path: Path, *, int8: bool = False, input_size: tuple[int, int] | None = None) -> None:
    """Refuse a file that nothing is written as, and what files of its kind do not have.

    Raises:
        LearnerError: it says why, where the ending is that of another runtime.
    """
    ending = path.suffix.lower()
    if ending not in {*_WRITERS, *ONE_PICTURE}:
        raise LearnerError(
            f"{path} ends in {path.suffix!r}" + (f": {REFUSED[ending]}" if ending in REFUSED else ""),
            allowed=f"a file that ends in {' or '.join((*_WRITERS, *ONE_PICTURE))}",
        )
    if int8 and ending != ".onnx":
        raise LearnerError(f"int8 in {path.name}", allowed="a file that ends in .onnx")
    if input_size is not None and ending not in ONE_PICTURE:
        raise LearnerError(
            f"an input size for {path.name}, which takes pictures of any size",
            allowed=f"a file that ends in {' or '.join(ONE_PICTURE)}",
            action="leave the input size out",
        )
    if input_size is not None:
        check_input_size(input_size)


def _check_one_picture(classifier: FewShotClassifier, path: Path) -> None:
    """Refuse a learner that cannot answer about one picture alone, and one of many networks.

    Raises:
        LearnerError: BatchNorm statistics are those of the batch, or the backbone is a pool of teachers.
    """
    embedder = classifier.embedder
    if isinstance(embedder.backbone, PooledBackbone):
        raise LearnerError(
            f"a pooled learner in {path.name}: the converters for phones fail on its teachers",
            allowed="learners of one network",
            action="make one of it with hf-free distill, or export a .onnx, .pt2 or .xml file",
        )
    if embedder.batchnorm == "transductive" and batchnorm_layers(embedder.backbone):
        raise LearnerError(
            f"transductive BatchNorm in {path.name}, which takes one picture: it has nothing in common with others",
            allowed="learners that answer each picture alone",
            action="export a .onnx, .pt2 or .xml file",
        )


def _write(module: nn.Module, path: Path, about: dict[str, object], given: tuple[int, int] | None) -> Run:
    ending = path.suffix.lower()
    return _WRITERS[ending](module, path, about) if given is None else ONE_PICTURE[ending](module, path, about, given)


def _in_int8(path: Path, about: dict[str, object], size: int) -> Run:
    """Put a file with int8 convolutions in the place of a float one."""
    import onnx

    quantized = path.with_name(f"int8-{path.name}")
    quantize_convolutions(path, quantized, size)
    proto = onnx.load(quantized)
    _forget_the_machine(proto)
    proto.ir_version, proto.producer_name = IR_VERSION, "hf-free"
    onnx.helper.set_model_props(proto, {key: _as_text(value) for key, value in about.items()})
    path.write_bytes(proto.SerializeToString())
    quantized.unlink()
    return _onnx_runner(path)


def _int8_differences(classifier: FewShotClassifier, run: Run) -> tuple[float, float]:
    """Largest difference of a probability, and share of equal labels, over drawn pictures.

    Raises:
        LearnerError: too few are equal, or a row does not sum to 1.
    """
    images = drawn_pictures(INT8_COMPARED, classifier.embedder.config.image_size, seed=2)
    found, expected = run(images)[0], classifier.predict_proba(images)
    same = (found.argmax(1) == expected.argmax(1)).float().mean().item()
    sums = (found.sum(1) - 1).abs().max().item()
    if same < SAME_LABELS or not sums < 1e-3:
        raise LearnerError(
            f"in int8 {same:.1%} of drawn pictures keep their label",
            allowed=f"{SAME_LABELS:.0%} or more",
            action="export without --int8; the file was not kept",
        )
    return (found - expected).abs().max().item(), same


def _about(classifier: FewShotClassifier, given: tuple[int, int] | None) -> dict[str, object]:
    """What a user of the file has to know: labels in the order of the probabilities, sizes, threshold, license."""
    from hf_free.publishing.metadata import choose_license
    from hf_free.publishing.redaction import redacted

    record = redacted(classifier.record)
    config = classifier.embedder.config
    number, takes = "batch", "(batch, 3, height, width), RGB, any number and size from 1x1"
    if given is not None:
        resizing = "the file resizes"
        if given == (config.image_size, config.image_size):
            resizing = "resize to this size with antialiasing before"
        number, takes = "1", f"(1, 3, {given[0]}, {given[1]}), RGB, one picture of this size; {resizing}"
    return {
        "made_with": f"hf-free {__version__}",
        "labels": plain_labels(classifier.classes, len(classifier.weight)),
        "input": f"images: uint8, {takes}",
        "output": f"probabilities: ({number}, labels), rows sum to 1; confidence: ({number},)",
        **({} if given is None else {"input_size": list(given)}),
        "image_size": config.image_size,
        "batchnorm": classifier.embedder.batchnorm,
        "rejection": None if classifier.rejection is None else asdict(classifier.rejection),
        "license": choose_license(record)[0],
    }


def _program(module: nn.Module) -> torch.export.ExportedProgram:
    """The module's program, for any number of pictures of any size; its example is zeros of its own."""
    free = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad():
            return torch.export.export(
                module,
                (torch.zeros(_EXAMPLE, dtype=torch.uint8),),
                dynamic_shapes={"images": {0: free, 2: free, 3: free}},
            )
    except Exception as error:  # whatever a network of any kind makes the exporter raise
        raise LearnerError(
            f"the network cannot be exported: {others_words(error)}",
            allowed="networks of tensor operations whose shapes do not depend on the pictures",
            action="use another backbone, or the classifier in Python",
        ) from None


def _write_onnx(module: nn.Module, path: Path, about: dict[str, object]) -> Run:
    try:
        import onnx
        import onnxruntime  # noqa: F401  what the file is run in
        import onnxscript  # noqa: F401  what torch writes ONNX with
    except ImportError as error:
        raise LearnerError(
            f"ONNX takes a package that is not installed: {error.name}",
            allowed="onnx, onnxscript and onnxruntime",
            action="pip install 'hf-free[onnx]'",
        ) from None
    program = _program(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["probabilities", "confidence"],
            verbose=False,
        )
    proto = made.model_proto
    _name_dimensions(proto.graph)
    _forget_the_machine(proto)
    proto.ir_version, proto.producer_name, proto.doc_string = IR_VERSION, "hf-free", ""
    onnx.helper.set_model_props(proto, {key: _as_text(value) for key, value in about.items()})
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())
    return _onnx_runner(path)


def _onnx_runner(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        probabilities, confidence = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(probabilities), torch.from_numpy(confidence)

    return run


def _name_dimensions(graph: Any) -> None:
    """Call the free dimensions what they are."""
    names = {0: "batch", 2: "height", 3: "width"}
    for place, dimension in enumerate(graph.input[0].type.tensor_type.shape.dim):
        if place in names:
            dimension.dim_param = names[place]
    for output in graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "batch"


def _forget_the_machine(proto: Any) -> None:
    """Take out paths and source lines of this machine, which the exporter leaves node by node."""
    del proto.metadata_props[:]
    for holder in (proto.graph, *proto.functions):
        del holder.metadata_props[:]
        holder.doc_string = ""
        for part in (*holder.node, *getattr(holder, "initializer", ()), *holder.value_info):
            del part.metadata_props[:]
            part.doc_string = ""
    del proto.graph.value_info[:]
    for part in (*proto.graph.input, *proto.graph.output):
        del part.metadata_props[:]


def _write_program(module: nn.Module, path: Path, about: dict[str, object]) -> Run:
    program = _program(module)
    graphs = [part.graph for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    for node in (node for graph in graphs for node in graph.nodes):
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):  # paths of this machine
            node.meta.pop(key, None)
    content = BytesIO()  # torch ends the process, without an error, where it cannot write to a disk
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No complete tensor found")  # of weights on other devices, of which none is
        torch.export.save(program, content, extra_files={"about.json": json.dumps(about, ensure_ascii=False)})
    with storage_explained(path, needed=content.tell(), safe="TMPDIR says where it is compared before it is kept"):
        path.write_bytes(content.getbuffer())
    loaded = torch.export.load(path).module()

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return loaded(images)

    return run


_WRITERS = {".onnx": _write_onnx, ".pt2": _write_program, ".xml": write_openvino}
ONE_PICTURE = {".tflite": write_litert, ".pte": write_executorch}
"""What writes files that take one picture of one size, by their endings."""


def _largest_difference(classifier: FewShotClassifier, run: Run, given: tuple[int, int] | None) -> float:
    """Between the file's probabilities and the classifier's, over pictures of all shapes compared, or of the one shape
    that the file takes.
    """
    if given is not None:
        images = varied_pictures(*given, _smooth_pictures(4, *given, 0))
        found = torch.cat([run(image[None])[0] for image in images])
        difference = (found - classifier.predict_proba(images)).abs().max().item()
        return difference if difference == difference else float("inf")
    size = classifier.embedder.config.image_size
    transductive = classifier.embedder.batchnorm == "transductive"
    largest = 0.0
    for seed, (count, height, width) in enumerate((*COMPARED, (2, size, size))):
        count = max(count, 2) if transductive else count
        images = _smooth_pictures(count, height, width, seed)
        found, expected = run(images)[0], classifier.predict_proba(images)
        difference = (found - expected).abs().max().item()
        largest = max(largest, difference) if difference == difference else float("inf")
    return largest


def _smooth_pictures(count: int, height: int, width: int, seed: int) -> Tensor:
    """Coarse noise made large, with a little fine noise: more like photographs than noise alone."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    pictures = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    pictures = 0.9 * pictures + 0.1 * torch.rand(count, 3, height, width, generator=generator)
    return (255 * pictures).round().to(torch.uint8)


def _milliseconds(run: Run, size: int, given: tuple[int, int] | None = None) -> float:
    """Time per picture of the fastest of some runs, with two pictures where the file takes any number: a transductive
    network needs two.
    """
    images = _smooth_pictures(2, size, size, 0) if given is None else _smooth_pictures(1, *given, 0)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds) / len(images)


def _use_batch_statistics(backbone: nn.Module) -> None:
    """Put `BatchStatistics` in the place of each BatchNorm layer."""
    layers = set(batchnorm_layers(backbone))
    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if child in layers:
                setattr(parent, name, BatchStatistics(child))


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
