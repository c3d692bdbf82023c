"""`hf-free export`: a kept classifier as an ONNX file, a torch.export program, for OpenVINO or for phones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hf_free.cli import options
from hf_free.cli.console import output_console, print_made, say, write_json
from hf_free.runtime.text import decimal_size_text

EXAMPLES = options.examples(
    "hf-free export pets --output pets.onnx",
    "hf-free export pets --output pets-int8.onnx --int8",
    "hf-free export me/pets --output pets.pt2 --json",
    "hf-free export pets --output pets.xml",
    "hf-free export pets --output pets.tflite",
    "hf-free export pets --output pets.pte --input-size 480x640",
)


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A classifier of `hf-free adapt`: a Hub id or folder.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            rich_help_panel=options.OUTPUT,
            help="A .onnx file (extra `onnx`), a .pt2 of torch.export, an .xml of OpenVINO (extra `openvino`), "
            "which brings a .bin beside it, or for phones a .tflite (extra `litert`) or .pte (extra `executorch`), "
            "which takes one picture of one size; labels and sizes go into FILE.json.",
        ),
    ],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            rich_help_panel=options.OUTPUT,
            help="Compute convolutions in 8 bits, in a .onnx file; refused if labels change.",
        ),
    ] = False,
    input_size: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            rich_help_panel=options.OUTPUT,
            help="Size of the pictures that a .tflite or .pte file takes and resizes, e.g. 480x640; default: the "
            "learner's own size, to which the app has to resize.",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    own_networks: options.Import = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
) -> None:
    """Write a classifier that runs without hf-free: uint8 images in, probabilities out.

    The file is run and compared with the classifier before it is kept.
    """
    from hf_free.backbones.custom import import_networks
    from hf_free.learner.classifier import FewShotClassifier
    from hf_free.learner.export import check_request, export_classifier

    given = None if input_size is None else options.height_and_width(input_size, "--input-size")
    check_request(output, int8=int8, input_size=given)
    options.check_output_file(output, (output.suffix.lower(),))

    import_networks([own_networks] if own_networks else [])
    classifier = FewShotClassifier.from_pretrained(model, revision=revision, token=token, cache_dir=cache_dir)
    say("Exporting and comparing")
    done = export_classifier(classifier, output, int8=int8, input_size=given)
    if as_json:
        write_json({key: str(value) if isinstance(value, Path) else value for key, value in asdict(done).items()})
        return
    if quiet:
        print_made(done.path)
        return
    print_line = output_console().print
    print_line(f"Exported: {done.path}, {decimal_size_text(done.bytes)}; labels: {done.labels}", soft_wrap=True)
    print_line(f"Largest difference to Python: {done.difference:.1e} of a probability", soft_wrap=True)
    if done.input_size is not None:
        print_line(_what_it_takes(done.input_size, done.resizes), soft_wrap=True)
    if done.same_labels is not None and done.float_bytes is not None:
        print_line(f"Same label as in Python: {done.same_labels:.1%} of drawn pictures", soft_wrap=True)
        before = f"{decimal_size_text(done.float_bytes)}, {done.float_milliseconds:.1f} ms per picture"
        print_line(f"In float it would be {before}", soft_wrap=True)
    print_line(f"{done.milliseconds:.1f} ms per picture on this machine", soft_wrap=True)


def _what_it_takes(input_size: tuple[int, int], resizes: bool) -> str:
    takes = "It takes one picture of {}x{} (height x width)".format(*input_size)
    if resizes:
        return f"{takes} and resizes it itself"
    return f"{takes}: resize to that before, with antialiasing, or export with --input-size of the pictures you have"
