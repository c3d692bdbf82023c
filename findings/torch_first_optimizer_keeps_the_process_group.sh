#!/usr/bin/env bash
# The first optimizer that is made while there is a process group keeps the group past destroy_process_group.
#
# Packages: PyTorch 2.14 (CPU, gloo), nothing else.
# Valid input: one process forms a group in a HashStore, makes an SGD for a small layer, and destroys the group.
# Expected: destroy_process_group ends the group's threads, whether the optimizer was made before or after the group.
# Seen: made before, it does. Made after, gloo's threads stay to the end of the process: the first optimizer imports
# torch._dynamo, that imports torch.distributed.nn.functional, and ten functions there have `group=group.WORLD` as a
# default argument, which Python evaluates at the import. From then on they hold the group of that moment. Importing
# torch.distributed.nn before init_process_group is the way out: the defaults are None then, which means the group
# there is. (For us it mattered at the end of a process: such a thread asked for Python's lock while the interpreter
# ended, which now and then ended the process with SIGABRT after all its work was done.)
#
# Ends with 0 while this is so, with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 numpy
cat > "$folder/check.py" <<'PY'
import gc
import inspect
import sys
from pathlib import Path

import torch
import torch.distributed as dist


def threads():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return sorted(name for name in names if "gloo" in name)


def make_optimizer():
    torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1)


if sys.argv[1] == "before":
    make_optimizer()
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
make_optimizer()
dist.destroy_process_group()
gc.collect()
left = threads()

import torch.distributed.nn.functional as functions

defaults = [inspect.signature(function).parameters for _, function in inspect.getmembers(functions, inspect.isfunction)]
holding = sum(isinstance(given["group"].default, dist.ProcessGroup) for given in defaults if "group" in given)
print(f"torch {torch.__version__}, optimizer first made {sys.argv[1]} the group:")
print(f"  threads left after it: {left}; functions that hold it: {holding}")
print(bool(left), holding > 0, file=open(sys.argv[2], "w"))
PY
"$folder/env/bin/python" "$folder/check.py" before "$folder/before" 2> "$folder/stderr" || { cat "$folder/stderr"; exit 1; }
"$folder/env/bin/python" "$folder/check.py" after "$folder/after" 2> "$folder/stderr" || { cat "$folder/stderr"; exit 1; }
[ "$(cat "$folder/before") $(cat "$folder/after")" = "False False True True" ]
