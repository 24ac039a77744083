#!/usr/bin/env bash
# Push-T from images, human demonstrations: `bash docs/results/pusht_image/run.sh OUTPUT [cpu|paper]`.
#   cpu     the small recipe: about an hour and a half on two cores
#   paper   the paper's sizes, for one GPU: EPOCHS (default 100 of the paper's 3050) in bfloat16
# The demonstrations are looked for in $DIFFUSION_POLICY_DATA (default data/).
set -euo pipefail
output=$1
which=${2:-cpu}

if [ "$which" = cpu ]; then
  python train.py task=pusht_image recipe=small_image hydra.run.dir="$output/cpu"
else
  python train.py task=pusht_image recipe=paper_image hydra.run.dir="$output/paper" \
    task.dataset.max_train_episodes=90 training.num_epochs="${EPOCHS:-100}" training.mixed_precision=bf16 training.checkpoint_every=10 training.rollout_every=25
fi
python eval.py -c "$output/$which" -o "$output/$which-eval" --seeds 100000:100200 --n_videos 4 \
  --controls nearest_feature,nearest_neighbor --overwrite
