#!/usr/bin/env bash
# Twenty optimizer steps of the paper's image configuration, timed: `bash docs/results/pusht_image/paper_steps.sh OUTPUT`.
# A full run of it takes a GPU; this says what a CPU does, and how much memory the data add.
set -euo pipefail
python train.py task=pusht_image recipe=paper_image task.dataset.max_train_episodes=90 \
  hydra.run.dir="$1" training.num_epochs=1 dataloader.batches_per_epoch=20 training.lr_warmup_steps=1 \
  training.val_every=null training.sample_every=null training.rollout_every=null training.checkpoint_every=null
python - "$1" <<'PYTHON'
import json
import sys

import numpy as np

lines = [json.loads(line) for line in open(f"{sys.argv[1]}/logs.json.txt")]
seconds = np.diff([line["elapsed_s"] for line in lines])
n_windows = json.load(open(f"{sys.argv[1]}/run.json"))["n_train_windows"]
per_epoch = -(-n_windows // 64)
print(f"{len(seconds)} steps: median {np.median(seconds):.2f} s, from {seconds.min():.2f} to {seconds.max():.2f}")
print(f"an epoch of {per_epoch} steps, extrapolated: {per_epoch * np.median(seconds) / 60:.1f} minutes")
PYTHON
