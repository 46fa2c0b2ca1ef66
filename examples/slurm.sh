#!/bin/bash
# An experiment as a Slurm array: every task measures a shard on a GPU of its own, and one job merges them.
#
#   sbatch examples/slurm.sh
#
# Tasks that fail or run out of time are sent again with the same command: finished work is kept. Some of them alone:
#
#   SHARDS=8 sbatch --array=3,5 examples/slurm.sh
#   examples/slurm.sh merge 8       # once all are done; also where cells failed, which ends a task with 1
#
#SBATCH --job-name=ropewalk
#SBATCH --array=1-8
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
set -eu

experiment=${EXPERIMENT:-experiment.yaml}
out=${OUT:-runs/experiment}
shards=${SHARDS:-${SLURM_ARRAY_TASK_COUNT:-8}}
export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}  # every task reads the same files

if [ "${1:-}" = merge ]; then
    count=$2
    set --
    for place in $(seq "$count"); do
        set -- "$@" "$out/shard-$place"
    done
    exec ropewalk merge "$@" --out "$out/run"
fi

if [ "$SLURM_ARRAY_TASK_ID" = 1 ]; then
    sbatch --dependency="afterok:$SLURM_ARRAY_JOB_ID" --array=0 --gpus=0 --time=00:30:00 "$0" merge "$shards"
fi
exec ropewalk run "$experiment" --out "$out/shard-$SLURM_ARRAY_TASK_ID" --shard "$SLURM_ARRAY_TASK_ID/$shards"
