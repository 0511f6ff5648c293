#!/usr/bin/env bash
# Every table of the sound models from the shipped weights: `make eval-audio DATA=... [QUICK=1] [BANKS=data/banks]`.
# DATA has audio/real, audio/real_midi, symbolic/performance; embeddings and baselines/lyra if their rows are wanted.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
data=${DATA:-data} banks=${BANKS:-data/banks} out=${OUT:-runs/eval-audio} python=${PYTHON:-.venv/bin/python}
for path in "$data/audio/real" "$data/symbolic/performance/maestro-compact.npz"; do
    [ -e "$path" ] || { echo "make eval-audio: '$path' is not there; give DATA=, the folder of the data pack" >&2; exit 2; }
done
more=()
[ -d "$banks" ] && more+=(--banks "$banks")
[ -n "${QUICK:-}" ] && more+=(--quick)
[ -n "${PAPER:-}" ] && more+=(--paper "$PAPER")
$python -m training.sound.eval.audio --data "$data" --out "$out" "${more[@]}"
