"""Location of a checkpoint's weights: its folder, the user's cache, or a URL to download them from once.

A clone has them in `checkpoints/`. An installed package has the rest of each folder, whose config.json pins the SHA-256
of the weights; they are downloaded from ETUDE_WEIGHTS_URL, the address of a folder like `checkpoints/`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine.music.types import BundleError

WEIGHTS = "model.safetensors"


def weights_file(folder: Path, digest: str) -> Path:
    """The weights file of a checkpoint folder; downloads it if necessary.

    digest  SHA-256 from the folder's config.json, hex; a download that differs is refused
    Raises FileNotFoundError if there are none and no address is set, BundleError if the download fails.
    """
    if (folder / WEIGHTS).exists():
        return folder / WEIGHTS
    kept = cache_folder() / f"{folder.name}-{digest[:12]}.safetensors"
    if kept.exists():
        return kept
    address = os.environ.get("ETUDE_WEIGHTS_URL", "").rstrip("/")
    if not address:
        if is_installed():
            raise BundleError(
                f"The weights of {folder.name} are not installed; set ETUDE_CHECKPOINTS to the checkpoints folder of a "
                "clone, or ETUDE_WEIGHTS_URL to the address of such a folder."
            )
        raise FileNotFoundError(2, "no such file", str(folder / WEIGHTS))
    return _fetched(f"{address}/{folder.name}/{WEIGHTS}", kept, digest)


def is_installed() -> bool:
    """Whether this is the installed package, whose checkpoints have no weights, and not a clone."""
    return __name__.startswith("etude.")


def cache_folder() -> Path:
    """Folder of downloaded weights: ETUDE_CACHE_DIR, else the user's cache folder."""
    import platformdirs

    named = os.environ.get("ETUDE_CACHE_DIR")
    return Path(named) if named else Path(platformdirs.user_cache_dir("etude", appauthor=False)) / "weights"


def _fetched(address: str, kept: Path, digest: str) -> Path:
    """Download a file of known hash; partial and wrong files are discarded."""
    import pooch

    pooch.get_logger().setLevel("ERROR")
    try:
        pooch.retrieve(
            address, known_hash=f"sha256:{digest}", fname=kept.name, path=kept.parent,
            downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30),
        )  # fmt: skip
    except ValueError as error:  # pooch raises it for a wrong hash
        raise BundleError(
            f"What {address} holds is not the weights of this version; set ETUDE_WEIGHTS_URL to where they are."
        ) from error
    except OSError as error:  # requests' errors are OSErrors
        raise BundleError(
            f"The weights could not be fetched from {address} ({type(error).__name__}); try again, or set "
            "ETUDE_CHECKPOINTS to the checkpoints folder of a clone."
        ) from error
    return kept
