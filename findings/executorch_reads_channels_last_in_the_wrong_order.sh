#!/usr/bin/env bash
# ExecuTorch takes a channels_last picture for a program that was exported for a contiguous one, and reads its bytes in
# the wrong order.
#
# Packages: ExecuTorch 1.5.1 with PyTorch 2.14 (CPU), portable operations, no delegate.
# Valid input: a picture, uint8 (1, 3, 4, 4), that is channels_last, which is what any picture of Pillow or a
# camera is after `torch.from_numpy(np.asarray(picture)).permute(2, 0, 1)[None]`. Same shape, same type, same values as
# its contiguous copy.
# Expected: the answer about its contiguous copy, or an error. Other layouts do give one, which says "Input 0 for method
# forward should be contiguous or channels-last": channels_last is allowed by name, and the runtime knows the order
# (`dim_order`) of both the tensor and the program's input.
# Seen: the program answers about another picture, without an error: red, green and blue of one point are taken for
# three neighbors of one color. Its shape and type are checked, its order is not. `.contiguous()` before asking is the
# way out. (Python runtime; what its C++ and Java callers check was not looked at.)
#
# Ends with 0 while this is so, with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check executorch==1.5.1 torch==2.14.1
cat > "$folder/check.py" <<'PY'
import sys
from importlib.metadata import version

import numpy as np
import torch
from executorch.exir import to_edge_transform_and_lower
from executorch.runtime import Runtime


class Corner(torch.nn.Module):
    """Red, green and blue of the second point of the first row."""

    def forward(self, images):
        return images[:, :, 0, 1].float()


program = torch.export.export(Corner().eval(), (torch.zeros(1, 3, 4, 4, dtype=torch.uint8),))
method = Runtime.get().load_program(to_edge_transform_and_lower(program).to_executorch().buffer).load_method("forward")


def answer(images):
    return method.execute([images])[0].flatten().tolist()


picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)  # height, width, color, as Pillow gives it
permuted = torch.from_numpy(picture).permute(2, 0, 1)[None]
assert permuted.is_contiguous(memory_format=torch.channels_last)
wanted, contiguous, found = Corner()(permuted).flatten().tolist(), answer(permuted.contiguous()), answer(permuted)
try:
    other = answer(permuted.transpose(2, 3))
except RuntimeError as error:
    other = str(error)
print("executorch", version("executorch"), "torch", torch.__version__)
print("  PyTorch, any layout:     ", wanted)
print("  ExecuTorch, contiguous:  ", contiguous)
print("  ExecuTorch, channels_last:", found)
print("  ExecuTorch, another layout:", other)
sys.exit(not (contiguous == wanted != found and "contiguous or channels-last" in str(other)))
PY
"$folder/env/bin/python" "$folder/check.py"
