#!/usr/bin/env bash
# The original implementation beside ours: the same small network, data, optimizer and number of steps, 90 demonstrations.
#   ORIGINAL=<checkout of real-stanford/diffusion_policy> ORIGINAL_PYTHON=<python with its requirements> \
#     bash docs/results/pusht_lowdim/original.sh [OUT]          after run.sh [OUT]
# PREPARE=<module> is imported first, if that python lacks what a shim can mend. The original counts epochs, of 174
# batches here: 58 of them are 10,092 optimizer steps, where ours makes 10,000.
set -euo pipefail
OUT=${1:-data/results/pusht_lowdim}
PYTHON=${PYTHON:-.venv/bin/python}
DATA=${DIFFUSION_POLICY_DATA:-data}
SEEDS=${SEEDS:-42 43 44}

train_original() { # SEED: weights into $OUT/original_90_SEED.pt
  $ORIGINAL_PYTHON benchmarks/train_original.py --original "$ORIGINAL" ${PREPARE:+--prepare "$PREPARE"} \
    --data "$DATA/pusht/pusht_cchi_v7_replay.zarr" --output "$OUT/original_90_$1.pt" \
    horizon=12 policy.model.kernel_size=3 "policy.model.down_dims=[64,128,256]" policy.model.diffusion_step_embed_dim=64 \
    dataloader.batch_size=64 optimizer.lr=1e-3 training.lr_warmup_steps=100 training.num_epochs=58 training.seed="$1" \
    training.rollout_every=1000000 training.checkpoint_every=1000000
}

for seed in $SEEDS; do
  name="original_90_$seed"
  [ -e "$OUT/$name.pt" ] || train_original "$seed"
  [ -e "$OUT/$name/checkpoints/latest" ] || $PYTHON benchmarks/original_as_checkpoint.py "$OUT/$name.pt" "$OUT/$name" recipe=small
  [ -e "$OUT/eval/$name/eval_log.json" ] || $PYTHON eval.py -c "$OUT/$name" -o "$OUT/eval/$name"
done

folders() { for seed in $SEEDS; do printf '%s/eval/%s_%s,' "$OUT" "$1" "$seed"; done | sed 's/,$//'; }
$PYTHON -m diffusion_policy.scripts.comparison.compare "ours=$(folders diffusion_unet_90)" "original=$(folders original_90)"
