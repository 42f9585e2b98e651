#!/bin/sh
# A sweep on a cluster: tune every method at one budget, then compare them on other seeds. This script submits the runs, waits and
# gathers; it needs one processor, and may itself be a job:  sbatch --time=2-00:00 --requeue examples/sweep.sh
# Where it is cut off, submit it again: finished runs are used, queued and running jobs are waited for, the others go on.
set -e
export DEATTRIB_CACHE="${DEATTRIB_CACHE:-$PWD/cache}"   # a folder that all nodes see, as the present one has to be
jobs="--jobs 32 --executor slurm --executor-set slurm_partition=${PARTITION:-gpu} --executor-set gpus_per_node=1"
methods="graddiff npo simnpo rmu"

for method in dareu $methods; do
  deattrib tune "$method" demo --budget 24 --seeds 102,103 --reported 0,1,2 --output sweep/tuned $jobs
done
deattrib compare demo --rewards classifier --methods "$(echo $methods | tr ' ' ',')" --tuned sweep/tuned --seeds 0,1,2 \
  --output sweep/comparison $jobs
