#!/usr/bin/env bash
# The GPU job: XMVAE at the paper's size, Composer at 60 M parameters, the renderer's network, in ten minutes.
# PACKS is the folder of packs, OUT gets the results, RUNS is resumed from. On the processor: gpu.sh --rehearse.
# The results of all systems are more than eight files: afterwards gpu.sh --part 2, 3, ...
# What to take to the machine: python -m training.core.gpu_job --archive gpu.tar.gz --packs data
set -euo pipefail
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m training.core.gpu_job --packs "${PACKS:-packs}" --runs "${RUNS:-runs/gpu}" \
    --out "${OUT:-out}" "$@"
