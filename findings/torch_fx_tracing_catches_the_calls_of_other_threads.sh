#!/usr/bin/env bash
# While torch.fx traces one network, every other network of the process fails in other threads; after two traces at once
# all networks fail until the process ends.
#
# Package: PyTorch 2.14.1 (CPU).
# Valid input: torch.fx.symbolic_trace of a small network in one thread, while another thread calls a second network, or
# traces it. Nothing is shared between the two networks.
# Expected: tracing is about the traced network; the second network answers as it does otherwise, and both can be traced.
# Seen: (1) the second network's call raises NameError("module is not installed as a submodule"): torch.nn.Module.__call__
# and __getattr__ are replaced for the whole process until the trace ends. (2) Two traces that overlap both raise, and one
# replacement is left behind: after both are over, the call of any network raises that NameError. (For us it meant that
# classifiers could not be asked by several threads while one thread prepared another classifier's faster copy.)
#
# The traced networks wait inside their forward, so that the order is the same each time. Ends with 0 while this is so,
# with 1 when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1
cat > "$folder/check.py" <<'PY'
import sys
import threading

import torch
from torch import fx, nn

print("torch", torch.__version__)


class Waiting(nn.Module):
    """A network whose forward says that it has begun, and waits."""

    def __init__(self, begun, go_on):
        super().__init__()
        self.layer, self.begun, self.go_on = nn.Linear(3, 3), begun, go_on

    def forward(self, x):
        self.begun.set()
        assert self.go_on.wait(60)
        return self.layer(x)


def outcome(work):
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "as expected"


inputs, original = torch.ones(2, 3), nn.Module.__call__

# (1) a call meanwhile
begun, go_on, found = threading.Event(), threading.Event(), []
bystander = nn.Sequential(nn.Linear(3, 3), nn.ReLU())


def call():
    assert begun.wait(60)
    found.append(outcome(lambda: bystander(inputs)))
    go_on.set()


thread = threading.Thread(target=call)
thread.start()
fx.symbolic_trace(Waiting(begun, go_on))
thread.join()
is_back = nn.Module.__call__ is original
print("  (1) the call of another network meanwhile:", found[0], "- afterwards all is as before:", is_back)

# (2) another trace meanwhile, which begins second and ends second
first_begun, second_begun, first_over = threading.Event(), threading.Event(), threading.Event()
found_by_second = []


def trace_second():
    assert first_begun.wait(60)
    found_by_second.append(outcome(lambda: fx.symbolic_trace(Waiting(second_begun, first_over))))


thread = threading.Thread(target=trace_second)
thread.start()
of_first = outcome(lambda: fx.symbolic_trace(Waiting(first_begun, second_begun)))
first_over.set()
thread.join()
after = outcome(lambda: bystander(inputs))
print("  (2) of two traces that overlap the first:", of_first)
print("      the second:", found_by_second[0])
print("      a call of a third network after both:", after, "-", nn.Module.__call__ is original)
is_so = is_back and all("not installed as a submodule" in told for told in (found[0], of_first, after))
sys.exit(not is_so)
PY
"$folder/env/bin/python" "$folder/check.py"
