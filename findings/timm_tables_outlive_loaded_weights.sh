#!/usr/bin/env bash
# timm's LeViT and TinyViT answer by the old weights after load_state_dict in eval mode.
#
# Packages: timm 1.0.31 with PyTorch 2.14 (CPU).
# Valid input: two networks of one architecture with different weights; one has answered in eval mode, then it is given
# the other's weights with load_state_dict (which reports that all keys match), as one does to restore the best state
# of a training run or to load averaged weights.
# Expected: it answers as the network whose weights it was given.
# Seen: it does not. Its attention layers keep the table of position biases that they made at the first answer in
# eval mode, one per device, and loading weights does not clear it. No warning. A change of mode or of device clears it,
# so `model.train(); model.eval()` after loading is the way out. Swin, whose biases are looked up anew each time, is
# right, which shows that the comparison is. (Our own fault was not to do so where the best state is restored.)
#
# Ends with 0 while this is so, with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check timm==1.0.31 torch==2.14.1
cat > "$folder/check.py" <<'PY'
import sys

import timm
import torch

NAMES = ("levit_128s", "tiny_vit_5m_224", "swin_tiny_patch4_window7_224")


def network(name, seed):
    torch.manual_seed(seed)
    made = timm.create_model(name, num_classes=5).eval()
    for key, value in made.named_parameters():
        if "attention_bias" in key or "relative_position" in key:
            torch.nn.init.normal_(value)
    return made


def difference(a, b):
    return float((a - b).norm() / b.norm())


images, found = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)), {}
with torch.no_grad():
    for name in NAMES:
        one, other = network(name, 0), network(name, 1)
        one(images)
        wanted = other(images)
        print(name, one.load_state_dict(other.state_dict()))
        after_loading = difference(one(images), wanted)
        one.train()
        one.eval()
        found[name] = after_loading, difference(one(images), wanted)
        print(f"  off by {found[name][0]:.1%} after loading, by {found[name][1]:.1%} after a change of mode")
stale = [name for name, (before, after) in found.items() if before > 0.001 and after < 1e-5]
print("timm", timm.__version__, "torch", torch.__version__, "stale:", stale)
sys.exit(stale != ["levit_128s", "tiny_vit_5m_224"])
PY
"$folder/env/bin/python" "$folder/check.py"
