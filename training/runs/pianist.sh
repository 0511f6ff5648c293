#!/usr/bin/env bash
# The Pianist as it is shipped: pack, training, export. Run again to resume; every figure is logged in OUT/log.jsonl.
# DATA is a folder with aligned/nasap-aligned.npz and nasap/ (metadata.csv, nasap-scores.tar.xz or a clone's folders).
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python=.venv/bin/python
pack=${PACK:-data/pianist-v1.npz}
out=${OUT:-runs/pianist-v1}
minutes=${MINUTES:-112}
processes=${PROCESSES:-$(nproc)}
[ -e "$pack" ] || $python -m training.pianist.prepare --data "${DATA:-data}" --out "$pack"
$python -m torch.distributed.run --nproc_per_node "$processes" \
    -m training.pianist.train --pack "$pack" --out "$out" --minutes "$minutes" --save-minutes 5 --batch 8 --rate 1.2e-3
$python -m training.pianist.export --run "$out" --pack "$pack" --out "${CHECKPOINT:-$out/bundle}"
echo "Compare $out/bundle with checkpoints/pianist-v1 by training.pianist.eval before it replaces it."
