#!/usr/bin/env bash
# Every number of docs/results/kitchen but the replay, from the repository's root.
#   bash docs/results/kitchen/run.sh [OUT]
# DATA are the 19 demonstrations. What is finished is not repeated; a training that was killed goes on. ACTIONS chooses some of: velocities
# positions; METHODS of: unet transformer, and unet_4000 (steps). To share the work, give each process its own and OMP_NUM_THREADS=1.
set -euo pipefail
OUT=${1:-data/results/kitchen}
DATA=${DATA:-data/kitchen/kitchen_complete.zarr}
PYTHON=${PYTHON:-.venv/bin/python}
ACTIONS=${ACTIONS:-velocities positions}
METHODS=${METHODS:-unet transformer}
declare -A TASK=([velocities]=kitchen_lowdim [positions]=kitchen_lowdim_abs)
declare -A RECIPE=([unet]="recipe=small" [unet_4000]="recipe=small training.num_epochs=8"
  [transformer]="recipe=small_transformer policy=diffusion_unet model=adaln_transformer_small")

for actions in $ACTIONS; do
  for method in $METHODS; do
    name=${method}_$actions
    [ -e "$OUT/$name/done" ] || {
      # shellcheck disable=SC2086
      $PYTHON train.py hydra.run.dir="$OUT/$name" task="${TASK[$actions]}" task.dataset.path="$DATA" training.rollout_every=null ${RECIPE[$method]}
      touch "$OUT/$name/done"
    }
    controls=$([ "$method" = unet ] && echo "--controls all" || true)
    [ -e "$OUT/eval/$name/done" ] || { # the scores are there before the controls are
      # shellcheck disable=SC2086
      $PYTHON eval.py -c "$OUT/$name" -o "$OUT/eval/$name" --seeds 100000:100100 --no-report --overwrite $controls
      touch "$OUT/eval/$name/done"
    }
  done
done
shopt -s nullglob  # without the U-Net there are no controls
for episodes in "$OUT"/eval/*/episodes.json "$OUT"/eval/*/controls/*.json; do
  echo "$episodes"
  $PYTHON -c 'import sys, pathlib; from diffusion_policy.env_runner.report import RolloutResult
print(RolloutResult.read(pathlib.Path(sys.argv[1])).table())' "$episodes"
done
