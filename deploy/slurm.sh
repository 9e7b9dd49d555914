#!/bin/bash
# A Ray cluster of four machines for the time of one search.
#
#     sbatch deploy/slurm.sh my-images.yml
#
# The folder that it is started in, and the environment, must be reachable on all machines under the same path. Started
# again, it goes on where it was stopped. To stop it before its time: scancel --batch --signal=TERM JOB
#SBATCH --job-name=dynafront
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --output=dynafront-%j.log
set -euo pipefail

source "${DYNAFRONT_ENV:-.venv}/bin/activate"
# this is the first machine; its own name may lead to itself alone there, so: the address from which it reaches the last
last=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n 1)
head=$(python -c 'import socket, sys
to_last = socket.socket(type=socket.SOCK_DGRAM)
to_last.connect((sys.argv[1], 9)) # sends nothing
print(to_last.getsockname()[0])' "$last")
address=$head:$((20000 + SLURM_JOB_ID % 10000)) # other jobs may have a Ray of their own
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') # nobody else may use this one
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN RAY_USAGE_STATS_ENABLED=0
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds; an environment on a shared disk starts slowly

# two minutes before the end only the search is told to stop; Ray ends after it
pid=$(mktemp)
trap 'kill -TERM "$(< "$pid")" || kill -TERM "$step"' TERM
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ray symmetric-run --address "$address" \
  --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_PER_TASK" -- \
  bash -c 'echo $$ > "$1" && RAY_ADDRESS=$2 exec dynafront search "$3" --engine ray' - "$pid" "$address" "$1" &
step=$!
while kill -0 "$step" 2> /dev/null; do # a signal ends a wait before its time
  wait "$step" && code=0 || code=$?
done
rm -f "$pid"
exit "$code"
