#!/bin/bash
# Two machines with eight GPUs each: `sbatch docs/howto/slurm.sh`. Adapt the first lines, and the options of `slap fit`.
#SBATCH --job-name=slap
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --output=slap-%j.log

set -euo pipefail

# `last.ckpt` of the same folder is continued if there is one, so that the job can be submitted again as it is.
out=runs/base
resume=()
[ -f "$out/last.ckpt" ] && resume=(--ckpt_path last)

# One task per GPU: Lightning reads rank, world size and the first machine's address from SLURM's variables.
srun slap fit --recipe base \
    --data.train train.csv --data.val val.csv --data.num_workers 10 \
    --trainer.out "$out" --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" \
    --trainer.precision bf16-mixed "${resume[@]}"
