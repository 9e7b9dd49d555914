#!/bin/bash
# A Ray cluster of four machines for the time of one search.
#
#     sbatch deploy/slurm.sh my-images.yml
#
# The folder that it is started in, and the environment, must be reachable on all machines under the same path. Started
# again, it goes on where it was stopped.
#SBATCH --job-name=dynafront
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --time=08:00:00
#SBATCH --output=dynafront-%j.log
set -euo pipefail

source "${DYNAFRONT_ENV:-.venv}/bin/activate"
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RAY_USAGE_STATS_ENABLED=0

srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
  dynafront search "$1" --engine ray
