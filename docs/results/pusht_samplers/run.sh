#!/usr/bin/env bash
# Every number of docs/results/pusht_samplers, after docs/results/pusht_lowdim/run.sh, from the repository's root.
#   bash docs/results/pusht_samplers/run.sh [OUT]
# LOWDIM is where that one put its runs. Finished trainings and evaluations are not repeated; a run that was killed goes on.
# PARTS chooses some of: samplers few_steps transformer stability, and paper, for a GPU. To share the work between processes, give each its
# SEEDS or PARTS and OMP_NUM_THREADS=1, and start it once more without them for the tables.
set -euo pipefail
OUT=${1:-data/results/pusht_samplers}
LOWDIM=${LOWDIM:-data/results/pusht_lowdim}
PYTHON=${PYTHON:-.venv/bin/python}
SEEDS=${SEEDS:-42 43 44}
PARTS=${PARTS:-samplers few_steps transformer stability}
command_line() { $PYTHON -c 'from diffusion_policy.cli import main; main()' "$@"; }

train() { # NAME override...: as `python train.py`, into $OUT/NAME
  local name=$1; shift
  [ -e "$OUT/$name/done" ] || { $PYTHON train.py hydra.run.dir="$OUT/$name" "$@" && touch "$OUT/$name/done"; }
}

evaluate() { # RUN NAME [option...]: the latest checkpoint on the 500 test seeds, into $OUT/eval/NAME
  local run=$1 name=$2; shift 2
  [ -e "$OUT/eval/$name/eval_log.json" ] || $PYTHON eval.py -c "$run" -o "$OUT/eval/$name" --no-report "$@"
}

folders() { # FOLDER_ONE_PER_SEED with % for the seed
  for seed in $SEEDS; do printf '%s,' "${1//%/$seed}"; done | sed 's/,$//'
}

samplers() { # one checkpoint, every sampler; the table's copy of it keeps its figures apart from the choice's
  local run="$LOWDIM/diffusion_unet_null_42"
  local latest; latest="$run/checkpoints/$(cat "$run/checkpoints/latest")"
  mkdir -p "$OUT" && [ -e "$OUT/every_sampler" ] || cp -r "$latest" "$OUT/every_sampler"
  [ -e "$OUT/chosen" ] || cp -r "$latest" "$OUT/chosen"
  command_line tune-sampler "$OUT/every_sampler" --all --steps 1,2,4,8,16,100 --seeds 100000:100500 \
    -o "$OUT/test_seeds" --overwrite ${SAMPLERS:+--samplers "$SAMPLERS"}
  [ -n "${SAMPLERS:-}" ] && return
  command_line tune-sampler "$OUT/chosen" -o "$OUT/selection_seeds" --overwrite
  $PYTHON -m diffusion_policy.scripts.plot_samplers "$OUT/every_sampler/tune_sampler.json" "$OUT/samplers.png"
}

few_steps() { # 90 demonstrations; the same network, data, optimizer and number of steps for all
  local common=(task.dataset.max_train_episodes=90 training.rollout_every=null)
  for seed in $SEEDS; do
    train "flow_unet_90_$seed" policy=flow_unet training.seed="$seed" "${common[@]}"
    train "mip_unet_90_$seed" policy=mip_unet training.seed="$seed" "${common[@]}"
    train "consistency_unet_90_$seed" policy=consistency_unet training.seed="$seed" "${common[@]}" \
      policy.distillation.teacher="$LOWDIM/diffusion_unet_90_$seed"
    for steps in 1 2 4; do
      for policy in flow mip consistency; do
        evaluate "$OUT/${policy}_unet_90_$seed" "${policy}_${steps}_$seed" --steps "$steps"
      done
      evaluate "$LOWDIM/diffusion_unet_90_$seed" "ddim_${steps}_$seed" --sampler ddim_trailing --steps "$steps"
    done
  done
  local methods=("diffusion, DDIM 16=$(folders "$LOWDIM/eval/diffusion_unet_90_%")" "regression=$(folders "$LOWDIM/eval/regression_unet_90_%")")
  for policy in ddim flow mip consistency; do
    for steps in 1 2 4; do methods+=("$policy $steps=$(folders "$OUT/eval/${policy}_${steps}_%")"); done
  done
  command_line compare "${methods[@]}"
  for policy in flow mip consistency; do # one call, beside the regression
    command_line compare "$policy 1=$(folders "$OUT/eval/${policy}_1_%")" "regression=$(folders "$LOWDIM/eval/regression_unet_90_%")"
  done
}

transformer() { # 90 demonstrations, beside the U-Net of the small recipe
  for seed in $SEEDS; do
    local common=(recipe=small_transformer training.seed="$seed" task.dataset.max_train_episodes=90 training.rollout_every=null)
    train "transformer_90_$seed" "${common[@]}"
    train "adaln_transformer_90_$seed" "${common[@]}" policy=diffusion_unet model=adaln_transformer_small
    evaluate "$OUT/transformer_90_$seed" "transformer_$seed"
    evaluate "$OUT/adaln_transformer_90_$seed" "adaln_transformer_$seed"
  done
  command_line compare "U-Net=$(folders "$LOWDIM/eval/diffusion_unet_90_%")" "transformer=$(folders "$OUT/eval/transformer_%")" \
    "adaLN transformer=$(folders "$OUT/eval/adaln_transformer_%")"
}

paper() { # the paper's transformer, on a GPU: PARTS=paper; not part of the default
  for seed in $SEEDS; do
    train "paper_transformer_$seed" recipe=paper_transformer training.seed="$seed"
    evaluate "$OUT/paper_transformer_$seed" "paper_transformer_$seed"
  done
  command_line compare "paper's transformer=$(folders "$OUT/eval/paper_transformer_%")"
}

trial() { # NAME override...: 3,000 steps, rollouts on 50 selection seeds at the end
  local name=$1; shift
  train "trial/$name" recipe=small_transformer task.dataset.max_train_episodes=90 training.num_epochs=6 \
    training.rollout_every=1000 optimizer.weight_decay=1e-3 training.max_grad_norm=null "$@"
}

stability() {
  local paper="policy=diffusion_transformer model=transformer_small"
  trial lr3e-4_w500 $paper optimizer.lr=3e-4 training.lr_warmup_steps=500
  trial lr1e-3_w0 $paper optimizer.lr=1e-3 training.lr_warmup_steps=0
  trial lr1e-3_w500 $paper optimizer.lr=1e-3 training.lr_warmup_steps=500
  trial lr1e-3_w500_clip $paper optimizer.lr=1e-3 training.lr_warmup_steps=500 training.max_grad_norm=1.0
  trial lr3e-3_w500_clip $paper optimizer.lr=3e-3 training.lr_warmup_steps=500 training.max_grad_norm=1.0
  trial adaln_lr1e-3_w500 policy=diffusion_unet model=adaln_transformer_small optimizer.lr=1e-3 training.lr_warmup_steps=500
  for log in "$OUT"/trial/*/logs.json.txt; do
    echo "$log: $(tail -1 "$log")"
  done
}

for part in $PARTS; do $part; done
