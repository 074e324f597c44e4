#!/usr/bin/env bash
# What docs/benchmarks.md says of GPUs, on one H100 or H200 in at most eight minutes, into the folder OUT (default: gpu_figures):
#     OUT=gpu_figures bash benchmarks/gpu.sh
# SMALL=1 runs the same commands at sizes for a processor, to see that they work. Each has a time limit; what does not end
# in it is said, and the others go on.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-gpu_figures} SMALL=${SMALL:-}
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH} XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
mkdir -p "$OUT"
CACHE=$(mktemp -d)
trap 'rm -rf "$CACHE"' EXIT
failed=0
step() {  # NAME SECONDS COMMAND...: runs it, shows and keeps what it prints.
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  echo "== $name: $*"
  timeout "$limit" "$@" 2>"$OUT/$name.err" | tee "$OUT/$name.txt"
  status=${PIPESTATUS[0]}
  [ "$status" = 124 ] && echo "not ended in $limit s" | tee -a "$OUT/$name.txt"
  [ "$status" = 0 ] || { failed=1; echo "status $status; see $OUT/$name.err"; }
  echo "-- $((SECONDS - start)) s"
}
if [ -z "$SMALL" ]; then
  released="--modes 100 --batch 1 64 --precision float32 bfloat16 --seconds=5 --device=gpu"
  training="--trunk=resnet50 --size=224 --batch=64 --dtype bfloat16"
  stages="--batch 1 --repeats=20"
  tests="-n 4"
  platform=cuda
else
  released="--modes 11 --batch 1 --seconds=0 --device=cpu"
  training="--trunk=resnet_small --size=32 --batch=4 --hypotheses=3 --steps=2"
  stages="--batch 1 --repeats=1"
  tests="tests/geometry"
  platform=cpu
fi
step installed 20 "$PYTHON" -m multibodies_jax doctor
step tests 100 env JAX_PLATFORMS=$platform "$PYTHON" -m pytest -v -m "gpu and not slow" $tests
step released 150 "$PYTHON" -m benchmarks.released $released
step stages 50 "$PYTHON" -m benchmarks.inference $stages
# Twice: the second finds the compiled steps on disk.
step training_cold 130 env JAX_COMPILATION_CACHE_DIR="$CACHE" "$PYTHON" -m benchmarks.training $training
step training_warm 30 env JAX_COMPILATION_CACHE_DIR="$CACHE" "$PYTHON" -m benchmarks.training $training
exit $failed
