#!/bin/bash
# One run over the GPUs of several nodes, under SLURM. Go on with a run that was cut off by submitting the same job again.
#
#     sbatch examples/slurm.sh my.yaml runs/mine
#
#SBATCH --job-name=deattrib
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=08:00:00
#SBATCH --requeue
# Five minutes before the end every task gets SIGTERM: all processes finish the same step, it is saved, and the run ends.
#SBATCH --signal=TERM@300
set -euo pipefail

config=$1
folder=$2

# Models, scorers' artefacts and the run folder: on a file system that all nodes see.
export DEATTRIB_CACHE=${DEATTRIB_CACHE:-$SLURM_SUBMIT_DIR/.deattrib-cache}
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_ON_NODE))
# torchrun kills its processes 30 seconds after a signal unless it is told otherwise: a step may take longer.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240

if [[ -f $folder/state.json ]]; then
    arguments=(--resume "$folder")
else
    arguments=("$config" --output "$folder")
fi

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes%%$'\n'*}
srun torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc_per_node "$SLURM_GPUS_ON_NODE" \
    --rdzv_id "$SLURM_JOB_ID" \
    --rdzv_backend c10d \
    --rdzv_endpoint "$head:29500" \
    -m deattrib run "${arguments[@]}"
