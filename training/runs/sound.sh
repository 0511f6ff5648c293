#!/usr/bin/env bash
# The sound models: note banks, the sound pack, the piano codec, its codes, the renderer.
#   DATA=data bash training/runs/sound.sh
# Soundfonts: Debian's timgm6mb-soundfont and musescore-general-soundfont-lossless. Each step is skipped when its result
# is there; the trainings resume. BUNDLES is where the checkpoint folders go, to be compared before they replace any.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
export OMP_NUM_THREADS=1
data=${DATA:-data}
banks=$data/audio/samples
maestro=$data/symbolic/performance/maestro-compact.npz
bundles=${BUNDLES:-runs/bundles}
sf2=/usr/share/sounds/sf2
[ -e data/banks/timgm ] || $python -m training.assets.note_banks soundfont $sf2/TimGM6mb.sf2 data/banks/timgm
[ -e data/banks/musescore ] || $python -m training.assets.note_banks soundfont $sf2/MuseScore_General_Full.sf2 data/banks/musescore
for seed in 1 2 3 4 5 6; do
    [ -e data/banks/strings-$seed ] || $python -m training.assets.note_banks strings data/banks/strings-$seed --seed $seed
done
[ -e data/sound-v2/index.npz ] || $python -m training.sound.make_pack --out data/sound-v2 --hours "${HOURS:-13.5}" --workers "$(nproc)" --seed 7 \
    --banks "$banks"/upright-kw "$banks"/upright-kw "$banks"/headroom-{close,close,decca,decca} "$banks"/old-piano-fb \
    data/banks/{timgm,musescore,musescore} data/banks/strings-{1,2,3,4,5,6} \
    --maestro "$maestro" --real "$data"/audio/real --real-midi "$data"/audio/real_midi
# The codec: first with a quarter of the crops recordings, then half, varied in pitch and tone
$python -m training.sound.train_codec --pack data/sound-v2 --out runs/piano-codec-v1 --minutes "${CODEC_MINUTES:-44}" --rate 1.5e-3
$python -m training.sound.export codec --run runs/piano-codec-v1 --out "$bundles"/piano-codec-v1
$python -m training.sound.train_codec --pack data/sound-v2 --out runs/piano-codec-v2 --minutes "${MORE_CODEC_MINUTES:-87}" --rate 8e-4 \
    --warm "$bundles"/piano-codec-v1 --real-share 0.5 --varied
$python -m training.sound.export codec --run runs/piano-codec-v2 --out "$bundles"/piano-codec-v2
# Its codes, and those of the sketches
[ -e data/renderer-v3.npz ] || $python -m training.sound.prepare_renderer --pack data/sound-v2 --codec runs/piano-codec-v2 \
    --out data/renderer-v3.npz --workers "$(nproc)"
[ -e data/renderer-v3.sketches.npy ] || $python -m training.sound.prepare_guides --pack data/renderer-v3.npz \
    --codec "$bundles"/piano-codec-v2 --workers "$(nproc)"
# The renderer. (The shipped one began with the weights of its predecessors, in all as many minutes: training/LOG.md)
$python -m training.sound.train_renderer --pack data/renderer-v3.npz --out runs/renderer-v4 --minutes "${MINUTES:-180}" --batch 12 --rate 1.5e-3
tune=($python -m training.sound.tune_decoder --pack data/renderer-v3.npz --sound data/sound-v2 --codec "$bundles"/piano-codec-v2 --renderer runs/renderer-v4)
"${tune[@]}" --out runs/sketch-decoder-v1 --minutes "${DECODER_MINUTES:-90}" --batch 6 --rate 1.2e-3
"${tune[@]}" --out runs/sketch-decoder-v2 --minutes "${DISCRIMINATOR_MINUTES:-44}" --batch 5 --frames 150 --rate 6e-4 --discriminator 5e-4 \
    --warm runs/sketch-decoder-v1/last.pt
$python -m training.sound.export renderer --run runs/renderer-v4 --decoder runs/sketch-decoder-v2 --codec "$bundles"/piano-codec-v2 \
    --trust 1.0 --out "$bundles"/renderer-v3
