#!/usr/bin/env bash
# The product Composer as it is shipped: pack, training, export. Run again to resume; figures are in OUT/log.jsonl.
# DATA is a folder with scores/scores-compact.npz and aligned/nasap-aligned.npz.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python=.venv/bin/python
pack=${PACK:-data/composer-v1.npz}
out=${OUT:-runs/composer-v1}
minutes=${MINUTES:-108}
processes=${PROCESSES:-$(nproc)}
[ -e "$pack" ] || $python -m training.composer.prepare --data "${DATA:-data}" --out "$pack"
$python -m torch.distributed.run --nproc_per_node "$processes" -m training.composer.train --pack "$pack" --out "$out" \
    --minutes "$minutes" --batch $((16 / processes)) --rate 2e-3 \
    --width 192 --layers 8 --heads 4 --feed-forward 768 --head-width 256
$python -m training.composer.export --run "$out" --pack "$pack" --out "${CHECKPOINT:-$out/bundle}"
echo "Compare $out/bundle with checkpoints/composer-v1 (validation nats a note in config.json) before it replaces it."
