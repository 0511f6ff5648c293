#!/usr/bin/env bash
# The composing systems, against real music and against the paper: `make eval-xmvae DATA=... [RUNS=runs/paper]`.
# DATA has aligned/nasap-aligned.npz and scores/scores-compact.npz. Rows of the paper's table that are neither in
# checkpoints/ nor in RUNS are left out with a line. PACK is a pack of training.xmvae.prepare, made if it is missing.
# Samples stay in OUT and are drawn again only for other weights, settings or code.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
data=${DATA:-data} runs=${RUNS:-runs/paper} out=${OUT:-runs/eval-xmvae} python=${PYTHON:-.venv/bin/python}
for path in "$data/aligned/nasap-aligned.npz" "$data/scores/scores-compact.npz"; do
    [ -e "$path" ] || { echo "make eval-xmvae: '$path' is not there; give DATA=, the folder of the corpora" >&2; exit 2; }
done
pack=${PACK:-$out/xmvae.npz}
[ -e "$pack" ] || { mkdir -p "$out" && $python -m training.xmvae.prepare --data "$data" --out "$pack"; }
$python -m training.xmvae.eval --data "$data" --runs "$runs" --out "$out" --samples "${SAMPLES:-200}" --pack "$pack"
