#!/usr/bin/env bash
# After torch.set_num_threads(1) a new Python thread multiplies matrices and convolves with as many threads as before,
# until it asks torch.get_num_threads(): the getter is what makes the setting hold.
#
# Package: PyTorch 2.14.1 (Linux, x86-64, GNU OpenMP).
# Valid input: torch.set_num_threads(1) in the main thread, then a matrix product, a convolution and an elementwise
# operation, in the main thread and in threads that begin afterwards (a thread pool, a server's handlers).
# Expected: at most one thread computes, wherever the operation is called; a getter changes nothing.
# Seen: in the main thread one thread computes. In a new thread the elementwise operation keeps to one, and so the
# setting looks as if it held; the product and the convolution take as many as OMP_NUM_THREADS said (or as there are
# cores). A thread that has called torch.get_num_threads(), or an elementwise operation on a large tensor, before keeps
# to one for products and convolutions as well. (For us: each of a program's own threads has to set the number itself.)
#
# Threads of the process are counted before and after each operation, so that it does not matter how many cores there
# are or what else they do. Ends with 0 while this is so, with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1
cat > "$folder/check.py" <<'PY'
import os
import sys
import threading

import torch

print("torch", torch.__version__)
matrix, vector = torch.rand(700, 700), torch.rand(2_000_000)
pictures, convolution = torch.rand(8, 32, 64, 64), torch.nn.Conv2d(32, 32, 3)
OPERATIONS = {
    "a matrix product": lambda: matrix @ matrix,
    "a convolution": lambda: convolution(pictures),
    "an elementwise operation": lambda: vector.exp(),
}


def added(operation, first=lambda: None):
    """Threads that the process has more after an operation: those that compute beside the caller's own."""
    first()
    before = set(os.listdir("/proc/self/task"))
    with torch.no_grad():
        operation()
    return len(set(os.listdir("/proc/self/task")) - before)  # those of threads that are over may end meanwhile


def in_new_thread(*arguments):
    found = []
    thread = threading.Thread(target=lambda: found.append(added(*arguments)))
    thread.start()
    thread.join()
    return found[0]


torch.set_num_threads(1)
seen = {}
for name, operation in OPERATIONS.items():
    main, new = added(operation), in_new_thread(operation)
    asked = in_new_thread(operation, torch.get_num_threads)
    warmed = in_new_thread(operation, OPERATIONS["an elementwise operation"])
    seen[name] = (main, new, asked, warmed)
    print(f"  {name}: threads beside the caller in the main thread {main}, in a new thread {new}, in a new thread that")
    print(f"    asked torch.get_num_threads() before {asked}, that did an elementwise operation before {warmed}")
expected_now = {
    "a matrix product": (0, 3, 0, 0), "a convolution": (0, 3, 0, 0), "an elementwise operation": (0, 0, 0, 0)
}
sys.exit(seen != expected_now)
PY
OMP_NUM_THREADS=4 "$folder/env/bin/python" "$folder/check.py"
