#!/usr/bin/env bash
# Every number of docs/results/pusht_lowdim: run from the repository's root, with the human demonstrations in place.
#   bash docs/results/pusht_lowdim/run.sh [OUT]
# Finished trainings and evaluations are not repeated; a run that was killed goes on. To share the work between processes, give each
# its seeds, for instance SEEDS=43 OMP_NUM_THREADS=1, and start it once more without them for the table.
set -euo pipefail
OUT=${1:-data/results/pusht_lowdim}
PYTHON=${PYTHON:-.venv/bin/python}
SEEDS=${SEEDS:-42 43 44}

train() { # NAME override...: as `python train.py`, into $OUT/NAME
  local name=$1; shift
  [ -e "$OUT/$name/done" ] || { $PYTHON train.py hydra.run.dir="$OUT/$name" "$@" && touch "$OUT/$name/done"; }
}

evaluate() { # NAME [option...]: the latest checkpoint on the 500 test seeds, into $OUT/eval/NAME
  local name=$1; shift
  [ -e "$OUT/eval/$name/eval_log.json" ] || $PYTHON eval.py -c "$OUT/$name" -o "$OUT/eval/$name" "$@"
}

for episodes in 90 null; do
  data="task.dataset.max_train_episodes=$episodes"
  for seed in $SEEDS; do
    for policy in diffusion_unet regression_unet; do
      train "${policy}_${episodes}_$seed" policy=$policy training.seed="$seed" "$data" training.rollout_every=4
      evaluate "${policy}_${episodes}_$seed"
    done
  done
  train "nearest_neighbor_$episodes" policy=nearest_neighbor "$data"
  evaluate "nearest_neighbor_$episodes"
  train "nearest_neighbor_30_$episodes" policy=nearest_neighbor "$data" horizon=32 n_action_steps=30 training.rollout_every=null
  evaluate "nearest_neighbor_30_$episodes"
done
for control in zero random; do
  train "$control" policy=$control
  evaluate "$control"
done
train replay policy=replay training.rollout_every=null
evaluate replay --seeds 0:206

folders() { for seed in $SEEDS; do printf '%s/eval/%s_%s,' "$OUT" "$1" "$seed"; done | sed 's/,$//'; }
for episodes in 90 null; do
  echo "episodes: $episodes"
  $PYTHON -m diffusion_policy.scripts.comparison.compare \
    "diffusion=$(folders "diffusion_unet_$episodes")" "regression=$(folders "regression_unet_$episodes")" \
    "nearest neighbour, 8 steps=$OUT/eval/nearest_neighbor_$episodes" \
    "nearest neighbour, 30 steps=$OUT/eval/nearest_neighbor_30_$episodes" "random=$OUT/eval/random" "zero=$OUT/eval/zero"
done
