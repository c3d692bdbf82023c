#!/usr/bin/env bash
# In bf16 on a CPU, the weight gradient of a convolution of stride 2 whose input is one pixel holds uninitialized memory.
#
# Package: PyTorch 2.14.1 (CPU, on a processor with bf16 instructions; its oneDNN computes the convolution).
# Valid input: a 3x3 convolution of stride 2 and padding 1 on maps of 1x1, as the last stage of a ResNet sees for
# pictures of 16 pixels, under torch.autocast("cpu", torch.bfloat16).
# Expected: the gradient that fp32 gives, up to rounding. Of the nine places of the kernel eight meet nothing but
# padding: their gradient is exactly 0.
# Seen: in bf16 the gradient of places that meet padding is whatever lay in the memory before, from 0 to 1e36 and NaN; no
# error. The output, and the gradient of the place that meets the pixel, are right. (For us it meant a network whose
# weights turned to NaN, or that learned noise, in a run that was healthy in fp32.)
#
# The memory is filled with large numbers before each try and given back, so that leftovers can be seen; nobody reads
# them otherwise. Ends with 0 while this is so, with 1 when it changes, with 2 on a processor without bf16 instructions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1
cat > "$folder/check.py" <<'PY'
import sys

import torch

print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
    print("  no bf16 instructions on this processor")
    sys.exit(2)
torch.manual_seed(0)
convolution = torch.nn.Conv2d(16, 32, 3, stride=2, padding=1)


def gradient(maps, bf16):
    convolution.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        answer = convolution(maps)
    answer.float().square().sum().backward()
    return answer.detach().float(), convolution.weight.grad.clone()


def of_padding(found):
    found = found.clone()
    found[:, :, 1, 1] = 0  # the place that meets the pixel
    return found.abs().nan_to_num(torch.inf).max().item()


largest = {False: 0.0, True: 0.0}
answers_agree = centers_agree = True
for _ in range(20):
    leftovers = [torch.full((65536,), 1e30) for _ in range(50)]
    del leftovers
    maps = torch.randn(8, 16, 1, 1)
    told = {bf16: gradient(maps, bf16) for bf16 in (False, True)}
    answers_agree &= torch.allclose(told[True][0], told[False][0], atol=0.05)
    centers = [told[bf16][1][:, :, 1, 1] for bf16 in (True, False)]
    centers_agree &= torch.allclose(*centers, atol=0.05 * centers[1].abs().max().item())
    for bf16 in largest:
        largest[bf16] = max(largest[bf16], of_padding(told[bf16][1]))
print("  outputs agree:", answers_agree, "- gradients of the place that meets the pixel agree:", centers_agree)
print("  largest gradient of the places that meet padding: fp32", largest[False], "bf16", largest[True])
sys.exit(not (answers_agree and centers_agree and largest[False] == 0.0 and largest[True] > 1.0))
PY
"$folder/env/bin/python" "$folder/check.py"
