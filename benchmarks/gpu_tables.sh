#!/usr/bin/env bash
# Trains the tables' methods on one H100 or H200, in at most ten minutes for each part, into the folder OUT (default: runs):
#     bash benchmarks/gpu_tables.sh keypoints      # three seeds of ours, HMR, SMPL-MDN and SMPL-CVAE, keypoints as evidence
#     bash benchmarks/gpu_tables.sh images         # one seed (SEEDS=1 another), images as evidence
# Out of time it has saved, and the same command continues. EVALUATE=1 evaluates what is trained and prints the tables, on any
# machine that has OUT. SMALL=1 runs the same commands at sizes for a processor, to see that they work.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-runs} SMALL=${SMALL:-} EVALUATE=${EVALUATE:-}
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
case ${1:-} in
  keypoints) seeds=${SEEDS:-0,1,2} small="--config.data.options=num_train=50,num_people=300 --config.model.width=32" ;;
  images) seeds=${SEEDS:-0} small="--config.data.options=num_people=300,num_train=50 --config.model.width=8 --config.model.crop_size=32" ;;
  *) echo "Name the part: keypoints or images." >&2; exit 2 ;;
esac
if [ -n "$SMALL" ]; then
  small="$small --config.model.hidden=16 --config.flow.width=16 --config.flow.steps=4 --config.train.steps=4 --config.train.batch=8 \
    --config.eval.max_examples=20"
  seeds=${seeds%%,*}
else
  small=""
fi
mode="--train-only --minutes=9.5"
[ -z "$EVALUATE" ] || mode=""
"$PYTHON" -m multibodies_jax tables --base="tables:${1}_gpu" --seeds="$seeds" --runs=trunk,hmr,ours,smpl_mdn,smpl_cvae \
  --workdir="$OUT/tables_$1" --out="$OUT/tables_$1/report" $mode $small
