"""Where the weights of a checkpoint are: in its folder, in the user's cache, or at an address, fetched once.

A clone has them in `checkpoints/`. An installed Étude has the rest of each folder, whose config.json pins the SHA-256
of the weights; they are fetched from ETUDE_WEIGHTS_URL, the address of a folder laid out like `checkpoints/`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine.music.types import BundleError

WEIGHTS = "model.safetensors"


def weights_file(folder: Path, digest: str) -> Path:
    """The weights of a checkpoint folder, fetched if they have to be.

    digest  SHA-256 as the folder's config.json names it, hex; a file that is fetched and differs is refused
    Raises FileNotFoundError where there are none and no address is set, BundleError when they cannot be fetched.
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
    """Where fetched weights are kept: ETUDE_CACHE_DIR, else the user's cache folder."""
    import platformdirs

    named = os.environ.get("ETUDE_CACHE_DIR")
    return Path(named) if named else Path(platformdirs.user_cache_dir("etude", appauthor=False)) / "weights"


def _fetched(address: str, kept: Path, digest: str) -> Path:
    """Fetch a file whose hash is known; half a file, or another one, is never kept."""
    import pooch

    pooch.get_logger().setLevel("ERROR")
    try:
        pooch.retrieve(
            address, known_hash=f"sha256:{digest}", fname=kept.name, path=kept.parent,
            downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30),
        )  # fmt: skip
    except ValueError as error:  # pooch's word for another hash
        raise BundleError(
            f"What {address} holds is not the weights of this version; set ETUDE_WEIGHTS_URL to where they are."
        ) from error
    except OSError as error:  # requests' errors are OSErrors, too
        raise BundleError(
            f"The weights could not be fetched from {address} ({type(error).__name__}); try again, or set "
            "ETUDE_CHECKPOINTS to the checkpoints folder of a clone."
        ) from error
    return kept
