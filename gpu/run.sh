#!/usr/bin/env bash
# Proves Tenon's CUDA backend on a machine with an NVIDIA GPU: its driver and CUDA's libraries are all that it needs. Part of
# the bundle that `npm run gpu:bundle` makes.
#
#   ./run.sh [--part tests|speed] [--out DIR] [--data SHARDS] [--golden DIR] [--python PYTHON] [--sanitizer PATH]
#
# --part: the proofs or the measurements alone, either at most six minutes; else both. --data: tar shards or a folder of
# images to train on, else the built-in shapes. --golden: the folder golden/ of the reference numbers, as it is in shared/ beside a
# checkout, with models/ in it; tests look for it in ../shared/ beside this folder, where a link to it is made. Without --golden
# that step is left out. --python: a Python with torch, for the benchmarks, whose nvidia packages are CUDA's libraries where it
# has them; default python3. --sanitizer: compute-sanitizer, if it is not on the PATH. Every step's output is in DIR (default
# results/), and in gpu-ops.json what each op showed, to be kept as bench/results/gpu-ops-DATE.json. The last line is "N passed,
# N failed". A step that outlasts its share counts as failed, and is interrupted, 10 seconds later killed.
#
# Seconds that the parts take at most where the GPU answers: tests 200 (side by side) + 30 + 90, speed 200 + 40 + 60, and some 10
# before either. Each fits a machine that is lent for 10 minutes at a time, both together 15 minutes, a minute or two for its start
# included. Where the GPU does not answer, all ends after at most 110.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
part=all
out=$here/results
data=shapes
golden=
python=python3
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
while [ $# -gt 0 ]; do
  case $1 in
    --part) part=$2 ;;
    --out) out=$2 ;;
    --data) data=$2 ;;
    --golden) golden=$2 ;;
    --python) python=$2 ;;
    --sanitizer) sanitizer=$2 ;;
    *)
      echo "run.sh: expected --part, --out, --data, --golden, --python or --sanitizer, got '$1'" >&2
      exit 2
      ;;
  esac
  shift 2
done
case $part in all | tests | speed) ;; *)
  echo "run.sh: expected tests or speed after --part, got '$part'" >&2
  exit 2
  ;;
esac
mkdir -p "$out" && out=$(cd "$out" && pwd)
case $data in shapes | /*) ;; *) data=$PWD/$data ;; esac
if [ -n "$golden" ]; then # where the tests look
  mkdir -p "$here/../shared"
  ln -sfn "$(cd "$golden" && pwd)" "$here/../shared/golden"
fi
cd "$here"
export PATH=$here/bin:$PATH LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# A C++ library of the bundle's own, where the machine's is older than the addon's.
node -e 'process.dlopen({ exports: {} }, "./build/Release/tenon.node")' 2>/dev/null ||
  LD_LIBRARY_PATH+=:$here/lib/cxx
TENON_COMMIT=$(cat commit)
export TENON_COMMIT TENON_TEST_GPU=1 TENON_CACHE=$out # with the choices of algorithms
# CUDA's libraries are looked for where the Python has its packages, which its link on the PATH does not say.
prefix=$("$python" -c 'import sys; print(sys.prefix)' 2>/dev/null) && export VIRTUAL_ENV=$prefix
# What cuBLASLt has to say of its errors, a file for each process.
export CUBLASLT_LOG_LEVEL=1 CUBLASLT_LOG_FILE=$out/cublaslt-%i.log

passed=0
failed=0
# Runs a step for at most so many seconds, its output in $out/NAME.log. What waits for a kernel that never ends does not look at
# signals that it has a handler for.
run() {
  local name=$1 seconds=$2
  shift 2
  timeout -s INT -k 10 "$seconds" "$@" >"$out/$name.log" 2>&1
  echo "exit status $? after $SECONDS s" >>"$out/$name.log"
}
# Shows what a step ended with, and counts it, or the tests that AVA counts in it.
count() {
  local name=$1 log=$out/$1.log status p f
  printf '\n### %s\n' "$name"
  grep -vE '^ +✔' "$log" | tail -n 60
  status=$(sed -nE 's/^exit status ([0-9]+) after .*/\1/p' "$log" | tail -n 1)
  p=$(sed -nE 's/^ +([0-9]+) tests? passed$/\1/p' "$log" | tail -n 1)
  f=$(sed -nE 's/^ +([0-9]+) tests? failed$/\1/p' "$log" | tail -n 1)
  if [ -z "$p$f" ]; then
    p=$((status == 0))
    f=$((status != 0))
  elif [ "$status" -ne 0 ] && [ -z "$f" ]; then
    f=1
  fi
  passed=$((passed + ${p:-0}))
  failed=$((failed + ${f:-0}))
}
step() {
  run "$@"
  count "$1"
}
finish() {
  find "$out" -name 'cublaslt-*.log' -empty -delete
  printf '\n%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ]
  exit
}

tenon=(node "$here/dist/src/cli/main.js")
# A test that hangs is named before its step ends.
ava=(node node_modules/ava/entrypoints/cli.mjs --timeout 80s)

step info 30 "${tenon[@]}" info
timeout -k 5 30 "${tenon[@]}" info --json >"$out/info.json"
if ! timeout -k 5 30 node dist/gpu/small-step.js --check; then
  failed=$((failed + 1))
  finish
fi

# Side by side: most of their time is JavaScript's, on the CPU.
tests() {
  local names=(ops mma models)
  rm -f "$out/ops.jsonl"
  # Choices that nobody comes back to are not worth timing, one process at a time and with others on the GPU.
  export TENON_CUDA_TUNE=0
  run ops 200 env TENON_TEST_REPORT="$out/ops.jsonl" "${ava[@]}" --match '*on cuda:0*' 'test/ops/*.ts' &
  # Where Hopper's own instructions are the choice, the kernels of other GPUs too.
  run mma 100 env TENON_CUDA_HOPPER=0 "${ava[@]}" --match '*on cuda:0*' test/ops/attention.ts &
  run models 200 env TENON_CUDA_TUNE=1 "${ava[@]}" test/cuda/models.ts test/cuda/cli.ts test/cuda/capture.ts &
  if [ -n "$golden" ]; then
    names+=(golden)
    run golden 200 "${ava[@]}" --match '*on cuda:0*' 'test/models/*.ts' &
  else
    echo "no --golden: the models' reference numbers are left out"
  fi
  if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck; do
      names+=("$tool")
      # Of our kernels alone. NVIDIA's libraries ask the driver for what it may not have: an error of theirs, which they take
      # care of.
      run "$tool" 200 "$sanitizer" --tool "$tool" --kernel-regex kns=tenon --report-api-errors no --error-exitcode 1 \
        node dist/gpu/small-step.js &
    done
  else
    echo "compute-sanitizer is not here: memcheck and racecheck are left out"
  fi
  wait
  for name in "${names[@]}"; do count "$name"; done
  unset TENON_CUDA_TUNE
  node dist/gpu/ops-report.js "$out/ops.jsonl" >"$out/gpu-ops.json"
  step graph 30 node dist/gpu/small-step.js --graph
  step train 90 env -C "$out" "${tenon[@]}" train "$data" --device cuda --precision bf16 --epochs 2 --name gpu
}

# One after the other, with choices of algorithms that were timed on a GPU with nothing else to do.
speed() {
  export TENON_CACHE=$out/speed
  mkdir -p "$TENON_CACHE"
  step bench 200 node dist/bench/main.js --device cuda --python "$python" --json "$out/bench.json"
  step bench-mma 40 env TENON_CUDA_HOPPER=0 \
    node dist/bench/main.js kernels/attention --device cuda --systems tenon --json "$out/bench-mma.json"
  local ncu
  ncu=$(command -v ncu || ls /opt/nvidia/nsight-compute/*/ncu 2>/dev/null | tail -n 1)
  if [ -n "$ncu" ]; then
    # Clocks stay as they are: the machine may be shared.
    step ncu 60 "$ncu" --clock-control none --cache-control none --print-kernel-base demangled --csv \
      --metrics gpu__time_duration.sum,dram__bytes.sum,launch__registers_per_thread --log-file "$out/ncu.csv" \
      node dist/gpu/kernels.js
  else
    echo "ncu is not here: the kernels' own times are left out"
  fi
}

[ "$part" = speed ] || tests
[ "$part" = tests ] || speed
finish
