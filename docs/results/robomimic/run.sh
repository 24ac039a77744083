#!/usr/bin/env bash
# Every number of docs/results/robomimic, from the repository's root.
#   bash docs/results/robomimic/run.sh [OUT]
# HUMAN is robomimic's file of human Lift demonstrations. What is finished is not repeated; a training that was killed goes on.
# PARTS chooses some of: lift square images. To share the work between processes, give each its PARTS, DATA (scripted, human) and
# OMP_NUM_THREADS=1, and start it once more without them for the tables.
set -euo pipefail
OUT=${1:-data/results/robomimic}
HUMAN=${HUMAN:-data/robomimic/lift_human_low_dim/low_dim.hdf5}
PYTHON=${PYTHON:-.venv/bin/python}
PARTS=${PARTS:-lift square images}
DATA=${DATA:-scripted human}
SEEDS=100000:100100
command_line() { $PYTHON -c 'from diffusion_policy.cli import main; main()' "$@"; }

train() { # NAME override...: as `python train.py`, into $OUT/NAME
  local name=$1; shift
  [ -e "$OUT/$name/done" ] || { $PYTHON train.py hydra.run.dir="$OUT/$name" training.rollout_every=null "$@" && touch "$OUT/$name/done"; }
}

evaluate() { # NAME [option...]: the latest checkpoint on 100 test seeds, into $OUT/eval/NAME
  local name=$1; shift
  [ -e "$OUT/eval/$name/done" ] || { # the scores are there before the controls are
    $PYTHON eval.py -c "$OUT/$name" -o "$OUT/eval/$name" --seeds $SEEDS --no-report --overwrite "$@" && touch "$OUT/eval/$name/done"
  }
}

controls_of() { # KIND: the recorded poses, repeated
  if [ "$1" = absolute ]; then echo "--controls nearest_neighbor"; fi
}

generate() { # TASK EPISODES [option...]: demonstrations of the scripted expert, and their absolute actions
  local task=$1 n=$2 images=${3:-}
  local file="$OUT/data/${task}_scripted${images:+_images}.hdf5"; shift 2
  [ -e "$file" ] || command_line data generate "$task" "$file" --n_episodes "$n" "$@"
}

absolute() { # IN OUT
  [ -e "$2" ] || $PYTHON -m diffusion_policy.scripts.robomimic_dataset_conversion -i "$1" -o "$2"
}

replay_human() { # without looking: the recorded changes, and the poses they become
  absolute "$HUMAN" "$OUT/data/lift_human_abs.hdf5"
  [ -e "$OUT/replay.txt" ] || {
    $PYTHON docs/results/robomimic/replay.py "$HUMAN" > "$OUT/replay.tmp"
    $PYTHON docs/results/robomimic/replay.py --absolute "$OUT/data/lift_human_abs.hdf5" >> "$OUT/replay.tmp"
    mv "$OUT/replay.tmp" "$OUT/replay.txt"
  }
}

lift() { # recorded changes of the pose (delta), and poses in three representations
  generate lift 100
  absolute "$OUT/data/lift_scripted.hdf5" "$OUT/data/lift_scripted_abs.hdf5"
  [ ! -e "$HUMAN" ] || replay_human
  for data in $DATA; do
    [ "$data" = scripted ] || [ -e "$HUMAN" ] || { echo "no $HUMAN: human demonstrations are left out"; continue; }
    local recorded="$OUT/data/lift_$data.hdf5"
    [ "$data" = scripted ] || recorded=$HUMAN
    train "lift_${data}_recorded" task=lift_lowdim task.dataset.path="$recorded"
    evaluate "lift_${data}_recorded" --controls all
    for kind in absolute relative delta; do
      train "lift_${data}_$kind" task=lift_lowdim_abs task.dataset.path="$OUT/data/lift_${data}_abs.hdf5" task.action_repr.kind=$kind
      evaluate "lift_${data}_$kind" $(controls_of $kind)
    done
  done
}

square() {
  generate square 200
  absolute "$OUT/data/square_scripted.hdf5" "$OUT/data/square_scripted_abs.hdf5"
  train square_scripted_recorded task=square_lowdim task.dataset.path="$OUT/data/square_scripted.hdf5"
  evaluate square_scripted_recorded --controls all
  for kind in absolute relative; do
    train "square_scripted_$kind" task=square_lowdim_abs task.dataset.path="$OUT/data/square_scripted_abs.hdf5" task.action_repr.kind=$kind
    evaluate "square_scripted_$kind" $(controls_of $kind)
  done
  train square_scripted_absolute_long task=square_lowdim_abs task.dataset.path="$OUT/data/square_scripted_abs.hdf5" training.num_epochs=60
  evaluate square_scripted_absolute_long
}

images() {
  generate lift 100 --image_size 84
  train lift_images task=lift_image recipe=small_image training.num_epochs=20 task.dataset.path="$OUT/data/lift_scripted_images.hdf5"
  evaluate lift_images --controls nearest_feature
}

mkdir -p "$OUT/data"
for part in $PARTS; do $part; done
for log in "$OUT"/eval/*/eval_log.json; do
  echo "$log: $($PYTHON -c 'import json, sys; print(json.load(open(sys.argv[1]))["metrics"]["success"])' "$log")"
done
