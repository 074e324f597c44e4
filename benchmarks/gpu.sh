#!/usr/bin/env bash
# What docs/benchmarks.md says of GPUs, on one H100 or H200 and 16 cores, into the folder OUT (default: gpu_figures):
#     OUT=gpu_figures bash benchmarks/gpu.sh              # the figures, in at most eight minutes
#     OUT=gpu_figures bash benchmarks/gpu.sh PART         # more of them, each in at most eight minutes, too:
#         roofline    the pass for M = 1, 25, 100 and batches of 1 to 256, and the input pipeline
#         released    the pass beside PyTorch's for M = 25 and 100 and batches of 1 to 256
#         torch       training beside the authors' structure in PyTorch
#         compile     the first steps of two configs with XLA's autotuning, without, and without Triton's products
#         tests       every test that is marked gpu
# Needs the package with its extras for the GPU, dev and torch. SMALL=1 runs the same commands at sizes for a processor, to see
# that they work. Each has a time limit; what does not end in it is said, and the others go on. What they print is in
# OUT/*.txt and, packed, in OUT/PART.tar.gz; `python -m benchmarks.figures OUT/*.txt --run=gpu` keeps their lines of JSON for
# docs/benchmarks.md. Compiled programs stay in CACHE (default: .cache/gpu_programs), so that a second run gets further.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-gpu_figures} SMALL=${SMALL:-}
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH} XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
mkdir -p "$OUT"
OWN=$(mktemp -d)
trap 'rm -rf "$OWN"' EXIT
CACHE=${CACHE:-.cache/gpu_programs}
failed=0 printed=()
step() {  # NAME SECONDS COMMAND...: runs it, shows and keeps what it prints.
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  [ -z "$SMALL" ] || limit=$((10 * limit))  # A processor that does other work is no error.
  echo "== $name: $*"
  printed+=("$name.txt" "$name.err")
  timeout -k 3 "$limit" "$@" 2>"$OUT/$name.err" | tee "$OUT/$name.txt"
  status=${PIPESTATUS[0]}
  [ "$status" = 124 ] || [ "$status" = 137 ] && echo "not ended in $limit s" | tee -a "$OUT/$name.txt"
  [ "$status" = 0 ] || { failed=1; echo "status $status; see $OUT/$name.err"; }
  grep -oE "[^:[:cntrl:]]+: first step after [0-9.]+ s" "$OUT/$name.err" | tee -a "$OUT/$name.txt"
  echo "-- $((SECONDS - start)) s"
}
demo="--config=configs/demo.py --mode=train --config.flow.steps=20 --config.stage1.steps=20 --config.train.steps=20 --config.data.options=num_train=50,num_people=500"
multibodies="--config=configs/multibodies.py --mode=train --config.flow.steps=3 --config.stage1.steps=3 --config.train.steps=3 --config.train.baseline=False --config.data.options=image_size=256,num_train=200,num_people=500"
if [ -z "$SMALL" ]; then
  device=gpu platform=cuda tests="-n 4" all="-n 8 --dist loadfile"
  released="--modes 100 25 --batch 64 1 --precision bfloat16 --seconds=3"
  grid="--modes 100 25 --batch 64 1 8 256 --seconds=2"
  training="--trunk=resnet50 --size=224 --batch=64"
  inference="--batch 64 1 --dtype bfloat16 --repeats=20"
  roofline="--in_one --head=released --hypotheses 100 25 1 --batch 64 1 8 256 --repeats=10"
  pipeline="--threads=16 --image_size=256 --crop_size=224 --seconds=4"
else
  device=cpu platform=cpu tests=tests/geometry/boxes_test.py all=tests/geometry/boxes_test.py
  demo="$demo --config.model.hidden=16 --config.flow.width=16 --config.train.baseline=False --config.flow.steps=2"
  demo="$demo --config.data.options=num_train=20,num_people=100 --config.stage1.batch=8 --config.train.batch=8"
  demo="$demo --config.stage1.steps=2 --config.train.steps=2"
  multibodies="$multibodies --config.model.trunk=resnet_small --config.model.width=4 --config.model.crop_size=32 --config.model.hidden=16"
  multibodies="$multibodies --config.model.num_hypotheses=11 --config.eval.ns=5, --config.flow.width=16 --config.stage1.batch=8 --config.train.batch=8"
  multibodies="$multibodies --config.data.options=num_train=20,num_people=100"
  released="--modes 11 --batch 1 --seconds=0"
  grid=$released
  training="--trunk=keypoints --batch=2 --hypotheses=3 --steps=1"
  inference="--trunk=keypoints --batch 1 --hypotheses 11 --repeats=1"
  roofline="--in_one --trunk=resnet_small --size=32 --batch 1 --hypotheses 1 --repeats=1"
  pipeline="--threads=1 --image_size=64 --crop_size=32 --batch=4 --hypotheses=3 --seconds=0.1"
fi
compiled() {  # NAME WHAT FLAG...: from nothing, the first steps of the demo and of WHAT with XLA's FLAGs.
  local name=$1 what=$2 flags=${XLA_FLAGS:-}
  shift 2
  for flag in "$@"; do flags="$flags${flags:+ }$flag"; done
  set -- JAX_COMPILATION_CACHE_DIR="$OWN/$name"
  [ -z "$flags" ] || set -- "$@" XLA_FLAGS="$flags"
  step "${name}_demo" 45 env "$@" "$PYTHON" run.py $demo --workdir="$OWN/${name}_demo"
  if [ "$what" = training ]; then
    step "${name}_training" 90 env "$@" "$PYTHON" -m benchmarks.training $training --dtype bfloat16
  else
    step "${name}_multibodies" 100 env "$@" "$PYTHON" run.py $multibodies --workdir="$OWN/${name}_multibodies"
  fi
}
part=${1:-figures}
case $part in
  figures | roofline | released | torch | compile | tests) ;;
  *) echo "Name the part: figures, roofline, released, torch, compile or tests." >&2; exit 2 ;;
esac
# Its status 1 says that `predict` lacks something: the detector, which nothing here needs.
step installed 15 bash -c '"$0" -m multibodies_jax doctor || [ $? = 1 ]' "$PYTHON"
case $part in
  figures)
    compiled cold training
    # The second time they find the compiled steps on disk.
    export JAX_COMPILATION_CACHE_DIR="$OWN/cold"
    [ -n "$SMALL" ] || step warm_demo 25 "$PYTHON" run.py $demo --workdir="$OWN/warm_demo"
    [ -n "$SMALL" ] || step warm_training 20 "$PYTHON" -m benchmarks.training $training --dtype bfloat16
    export JAX_COMPILATION_CACHE_DIR="$CACHE"
    step released 120 "$PYTHON" -m benchmarks.released $released --device=$device
    step stages 45 "$PYTHON" -m benchmarks.inference $inference
    step quantizer 20 "$PYTHON" -m benchmarks.quantizer --ours ${SMALL:+--batch=2 --repeats=1}
    step joints 20 "$PYTHON" -m benchmarks.joints --device=$device ${SMALL:+--images=3}
    step tests 75 env JAX_PLATFORMS=$platform "$PYTHON" -m pytest -v -m "gpu and not slow" $tests
    ;;
  roofline)
    export JAX_COMPILATION_CACHE_DIR="$CACHE"
    for dtype in bfloat16 float32; do
      step "roofline_$dtype" 210 "$PYTHON" -m benchmarks.inference $roofline --dtype $dtype
    done
    step pipeline 60 "$PYTHON" -m benchmarks.pipeline $pipeline
    ;;
  compile)
    compiled autotuned multibodies
    compiled no_triton multibodies --xla_gpu_enable_triton_gemm=false
    compiled not_autotuned multibodies --xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0
    export JAX_COMPILATION_CACHE_DIR="$OWN/autotuned"
    [ -n "$SMALL" ] || step warm_multibodies 45 "$PYTHON" run.py $multibodies --workdir="$OWN/warm_multibodies"
    ;;
  released)
    export JAX_COMPILATION_CACHE_DIR="$CACHE"
    for dtype in bfloat16 float32; do
      step "released_$dtype" 240 "$PYTHON" -m benchmarks.released $grid --precision $dtype --device=$device
    done
    ;;
  torch)
    export JAX_COMPILATION_CACHE_DIR="$CACHE"
    for dtype in bfloat16 float32; do
      step "torch_$dtype" 240 "$PYTHON" -m benchmarks.training $training ${SMALL:+--trunk=resnet50 --size=32} --dtype $dtype --torch
    done
    ;;
  tests)
    step tests 470 env JAX_PLATFORMS=$platform "$PYTHON" -m pytest -v -m gpu $all
    ;;
esac
tar -czf "$OUT/$part.tar.gz" -C "$OUT" "${printed[@]}"
exit $failed
