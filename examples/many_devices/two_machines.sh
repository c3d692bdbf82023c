#!/usr/bin/env bash
# One of two machines that train together. Start it on both, with the same words behind it; the first is rank 0.
#
#   FIRST=10.0.0.1 MACHINE=0 PROCESSES=8 examples/many_devices/two_machines.sh --models org/a org/b --output /shared/run
#   FIRST=10.0.0.1 MACHINE=1 PROCESSES=8 examples/many_devices/two_machines.sh --models org/a org/b --output /shared/run
#
# FIRST: an address of the first machine that the second can reach. PORT: a free port there. PROCESSES: on each machine.
# --output has to be a folder that both see when a run is resumed; the first process alone writes to it.
set -euo pipefail
: "${MACHINE:?0 on the first machine, 1 on the second}" "${FIRST:?the address of the first machine}"
PROCESSES=${PROCESSES:-1}
# torchrun would take one thread for each process, and kill them 30 seconds after SIGTERM: a step may take longer.
THREADS=$(($(nproc) / PROCESSES))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((THREADS > 0 ? THREADS : 1))}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-600}
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes 2 --node-rank "$MACHINE" --nproc-per-node "$PROCESSES" \
  --master-addr "$FIRST" --master-port "${PORT:-29500}" -m hf_free.cli.main train "$@"
