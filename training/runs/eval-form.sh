#!/usr/bin/env bash
# Form in what the Composer writes: `make eval-form [DATA=...] [COMPOSER=FOLDER] [PIECES=200] [FORMS="AABA|rondo"]
# [PROCESSES=1]`.
# COMPOSER is a checkpoint folder, the shipped one without. Free pieces first, then each form of FORMS (separated by |).
# Where DATA has aligned/nasap-aligned.npz and scores/scores-compact.npz, passages that stand in the training music are
# counted, too. Pieces stay in OUT: a run that was stopped goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
data=${DATA:-data} out=${OUT:-runs/eval-form} python=${PYTHON:-.venv/bin/python}
common=(--out "$out" --pieces "${PIECES:-200}" --processes "${PROCESSES:-1}")
[ -z "${COMPOSER:-}" ] || common+=(--composer "$COMPOSER")
free=("${common[@]}")
if [ -e "$data/aligned/nasap-aligned.npz" ] && [ -e "$data/scores/scores-compact.npz" ]; then
    free+=(--data "$data")
else
    echo "make eval-form: no corpora in '$data' (give DATA=): passages of the training music are not counted" >&2
fi
$python -m training.composer.eval_form "${free[@]}"
IFS='|' read -ra forms <<<"${FORMS-AABA|rondo}"
for form in "${forms[@]}"; do
    $python -m training.composer.eval_form "${common[@]}" --form "$form"
done
