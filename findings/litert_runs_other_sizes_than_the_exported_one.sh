#!/usr/bin/env bash
# A LiteRT file that was converted for pictures of one size answers about pictures of another, without an error.
#
# Packages: litert-torch 0.10.0, which brings ai-edge-litert 2.3.0, with PyTorch 2.14 (CPU).
# Valid input: a small network that pools, converted for pictures (1, 3, 16, 16) with no free dimension, and a picture
# (1, 3, 32, 32) that somebody forgot to resize.
# Expected: an error. The file's input says shape (1, 3, 16, 16) and shape_signature (1, 3, 16, 16), which means that no
# dimension is free; torch.export's own program refuses such a picture, and so does LiteRT's Interpreter.set_tensor
# ("Dimension mismatch").
# Seen: Interpreter.get_signature_runner, LiteRT's other way to ask, fits the whole network to the picture and answers,
# otherwise than about the resized one. (For us it meant that a file has to hold something that other sizes do not fit:
# limits per row and column that no pixel reaches. Equal ones do not do, since the converter makes them one number.)
#
# Ends with 0 while this is so, with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check litert-torch==0.10.0 torch==2.14.1 \
    ai-edge-litert==2.3.0
cat > "$folder/check.py" <<'PY'
import sys
from importlib.metadata import version

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter

torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 4)
).eval()
example = torch.zeros(1, 3, 16, 16)
litert_torch.convert(network, (example,)).export(sys.argv[1])
large = torch.rand(1, 3, 32, 32)
resized = torch.nn.functional.interpolate(large, (16, 16), mode="bilinear", antialias=True)


def refused(ask):
    try:
        return False, ask()
    except (RuntimeError, ValueError, AssertionError) as error:
        return True, str(error).splitlines()[0][:90]


interpreter = Interpreter(sys.argv[1])
interpreter.allocate_tensors()
(given,) = interpreter.get_input_details()
runner = Interpreter(sys.argv[1]).get_signature_runner()
right = np.allclose(runner(args_0=resized.numpy())["output_0"], network(resized).detach().numpy(), atol=1e-5)
program = torch.export.export(network, (example,)).module()
by_torch, torch_says = refused(lambda: program(large))
by_tensor, tensor_says = refused(lambda: interpreter.set_tensor(given["index"], large.numpy()))
by_runner, answer = refused(lambda: runner(args_0=large.numpy())["output_0"])
print("litert-torch", version("litert-torch"), "ai-edge-litert", version("ai-edge-litert"), "torch", torch.__version__)
print("  input:", given["shape"].tolist(), "signature:", given["shape_signature"].tolist(), "right at that size:", right)
print("  torch.export refuses 32x32:", by_torch, "-", torch_says)
print("  set_tensor refuses 32x32:", by_tensor, "-", tensor_says)
print("  signature runner refuses 32x32:", by_runner, "-", answer)
print("  about the resized picture:", network(resized).detach().numpy())
free = -1 in given["shape_signature"].tolist()
sys.exit(not (right and not free and by_torch and by_tensor and not by_runner))
PY
"$folder/env/bin/python" "$folder/check.py" "$folder/network.tflite" 2> "$folder/stderr" || { tail -20 "$folder/stderr"; exit 1; }
