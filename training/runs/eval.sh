#!/usr/bin/env bash
# Every figure of the README and the model card: `make eval DATA=... VALIDATION=...`.
# DATA has aligned/nasap-aligned.npz and nasap/nasap-scores.tar.xz (or NASAP, a folder of the scores);
# VALIDATION is the measuring set, a folder or its .tar.xz.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
data=${DATA:-data} validation=${VALIDATION:-} nasap=${NASAP:-} python=${PYTHON:-.venv/bin/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for path in "$data/aligned/nasap-aligned.npz" "$validation"; do
    [ -e "$path" ] || { echo "make eval: '$path' is not there; give DATA= and VALIDATION= (and NASAP= for unpacked scores)" >&2; exit 2; }
done
if [ -z "$nasap" ]; then nasap=$scratch && tar xJf "$data/nasap/nasap-scores.tar.xz" -C "$scratch" --wildcards '*.musicxml'; fi
if [ -f "$validation" ]; then tar xJf "$validation" -C "$scratch" && validation=$scratch/validation; fi
$python -m training.pianist.eval --set "$validation" --nasap "$nasap" --metadata "$data/nasap/metadata.csv"
$python -m training.pianist.eval_style
$python -m training.xmvae.eval_ecp "$data/aligned/nasap-aligned.npz" --pedal
