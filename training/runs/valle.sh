#!/usr/bin/env bash
# MIDI-VALLE from a corpus on this machine: codec imported or trained, pack, decoders. Run again to resume.
# ROOT is the unpacked corpus, LAYOUT atepp, maestro or pijama; CODEC a codec's folder (checkpoints/imported/piano-encodec,
# or OUT/bundle of training.midi_valle.train_codec). PUBLISHED=--published trains as the paper did; PROCESSES on several devices.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python=.venv/bin/python
layout=${LAYOUT:-atepp}
pack=${PACK:-data/valle-$layout.npz}
out=${OUT:-runs/valle}
published=${PUBLISHED:-}
codec=${CODEC:-checkpoints/imported/piano-encodec}
[ -e "$pack" ] || $python -m training.midi_valle.data --layout "$layout" --root "${ROOT:?the folder of the corpus}" \
    --codec "$codec" --out "$pack" $published
$python -m torch.distributed.run --nproc_per_node "${PROCESSES:-1}" -m training.midi_valle.train --pack "$pack" --out "$out" \
    --minutes "${MINUTES:-1440}" --prefix-mode "${PREFIX_MODE:-1}" $published
echo "Render with it: copy $out/bundle to checkpoints/imported/midi-valle and $codec beside it, then --profile paper."
