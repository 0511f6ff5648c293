#!/usr/bin/env bash
# XMVAE in the paper's shape, small, with its ablations: pack, pretraining, joint runs at equal steps, their priors,
# and shares of the compositions (question X3). Run again to resume; every figure is logged in OUT/*/log.jsonl.
# DATA is a folder with aligned/nasap-aligned.npz and scores/scores-compact.npz. An ablation changes the Composer's shape
# and so begins from nothing: compare it with no-pretraining.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
pack=${PACK:-data/xmvae-v1.npz}
out=${OUT:-runs/paper}
steps=${STEPS:-200}
common="--small --pack $pack --batch 4 --save-minutes 30"
[ -e "$pack" ] || $python -m training.xmvae.prepare --data "${DATA:-data}" --out "$pack"
$python -m training.xmvae.train $common --rate 2e-3 --out "$out/pretrain" --pretrain --steps "${PRETRAIN_STEPS:-500}"
$python -m training.xmvae.train $common --rate 2e-3 --out "$out/xmvae" --init "$out/pretrain" --steps "$steps"
$python -m training.xmvae.train $common --rate 2e-3 --out "$out/no-pretraining" --steps "$steps"
$python -m training.xmvae.train $common --rate 2e-3 --out "$out/no-subtoken" --no-subtoken --steps "$steps"
$python -m training.xmvae.train $common --rate 2e-3 --out "$out/no-beat" --multiscale off --steps "$steps"
for run in xmvae no-pretraining no-subtoken no-beat; do
    $python -m training.xmvae.train_prior $common --rate 4e-3 --vae "$out/$run" --out "$out/$run-prior" --steps "${PRIOR_STEPS:-800}"
done
for share in 0.125 0.25 0.5 1; do
    $python -m training.xmvae.train $common --rate 2e-3 --out "$out/share-$share" --init "$out/pretrain" --fraction "$share" --steps "${SHARE_STEPS:-100}"
done
