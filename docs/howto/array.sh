#!/bin/bash
# Pack a manifest in 64 parts, 16 at a time: `sbatch docs/howto/array.sh`. Adapt the first lines and the command.
#SBATCH --job-name=slap-pack
#SBATCH --array=1-64%16
#SBATCH --cpus-per-task=16
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --output=slap-pack-%A-%a.log

set -euo pipefail

# Not SLURM_ARRAY_TASK_COUNT: an array that is submitted again for a few parts (`sbatch --array=3,17`) has fewer tasks.
parts=64

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" slap pack train.jsonl.gz train_shards \
    --workers "$SLURM_CPUS_PER_TASK" --part "$SLURM_ARRAY_TASK_ID/$parts"
