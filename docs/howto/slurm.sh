#!/bin/bash
# Two machines with eight GPUs each: `sbatch docs/howto/slurm.sh`. Adapt the first lines, and the options of `slap fit`.
#SBATCH --job-name=slap
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=SIGUSR1@90
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slap-%j.log

# --mem=0 is all memory of a machine. 90 seconds before its time is up, the job saves `last.ckpt` and is queued again.
set -euo pipefail

# One task per GPU: Lightning reads rank, world size and the first machine's address from SLURM's variables. srun does
# not take --cpus-per-task from the lines above, and the loading processes would share one core.
launch=(srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1)

# The environment that slap is installed in; or, in place of the first line, a container with it (enroot and pyxis).
source .venv/bin/activate
# launch+=(--container-image=slap.sqsh --container-mounts="$PWD:$PWD" --container-workdir="$PWD")

# `--ckpt_path last` begins a run and continues it, so the job can be submitted again as it is, whatever ended it.
"${launch[@]}" slap fit --recipe base \
    --data.train train.csv --data.val val.csv --data.num_workers 10 \
    --trainer.out runs/base --trainer.num_nodes "$SLURM_NNODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" \
    --trainer.precision bf16-mixed --ckpt_path last
