"""Recordings as vectors: an encoder's latents, one a clip or one a patch, with names and times."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from audiodae.errors import AudiodaeError, printable
from audiodae.files.atomic import AtomicFile
from audiodae.latent.latents import Progress, latents_of
from audiodae.nets.autoencoder import Autoencoder

Per = Literal["clip", "patch"]
SUFFIXES = (".npz", ".parquet")
_ARRAYS = ("names", "seconds", "vectors", "facts")  # of an .npz


@dataclass(frozen=True)
class Embedding:
    """Of one recording: `vectors` `(rows, size)` float32 and the `seconds` at which each begins.

    Per patch a row is its latent. Per clip there is one row: the mean of the latents,
    then their standard deviation over the clip.
    """

    name: str
    vectors: npt.NDArray[np.float32]
    seconds: npt.NDArray[np.floating]
    warnings: tuple[str, ...] = ()


def embed(
    path: str | os.PathLike[str],
    autoencoder: Autoencoder,
    *,
    per: Per = "clip",
    progress: Progress | None = None,
) -> Embedding:
    """The embedding of a recording of any length and rate; channels are averaged.

    It is read block by block; a last patch that the recording only partly fills is left out.
    Raises `AudioError` for a file that cannot be read or holds no sound.
    """
    per = checked_per(per)
    latents, warnings = latents_of(path, autoencoder, progress)
    seconds = np.arange(len(latents)) * (autoencoder.config.patch_samples / autoencoder.sample_rate)
    if per == "clip":
        latents, seconds = clip_vector(latents)[None], seconds[:1]
    return Embedding(Path(path).as_posix(), latents, seconds, tuple(warnings))


def checked_per(per: str) -> Per:
    """What there is a vector for; "frame" is what a patch was called before. Raises `AudiodaeError`."""
    if per not in ("clip", "patch", "frame"):
        raise AudiodaeError(
            f"per is {per!r}: give clip, or patch for a vector every 16 frames or so."
        )
    return "clip" if per == "clip" else "patch"


def clip_vector(latents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean and standard deviation over time: `(patches, latent)` -> `(2 * latent,)`."""
    return np.concatenate([latents.mean(axis=0), latents.std(axis=0)]).astype(np.float32)


@contextlib.contextmanager
def embedding_file(
    path: Path, *, overwrite: bool = False
) -> Iterator[Callable[[list[Embedding], dict[str, Any]], None]]:
    """Opens a file before there are embeddings, and gives what writes them as `write` does.

    Raises `AudiodaeError` where it cannot be written, and without `overwrite` where it would replace
    anything but earlier embeddings.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise AudiodaeError(f"{path}: give a name that ends in {' or '.join(SUFFIXES)}.")
    if path.suffix.lower() == ".parquet":
        _parquet()
    there = os.path.lexists(path)
    if there and not overwrite and not (os.path.isfile(path) and _is_ours(path)):
        raise AudiodaeError(
            f"{path} exists already and holds no embeddings of audiodae: use --overwrite to replace it."
        )
    file = AtomicFile(path, replace=overwrite or there)

    def write(embeddings: list[Embedding], facts: dict[str, Any]) -> None:
        file.fill(_filled(path, embeddings, facts))
        file.commit()

    try:
        yield write
    finally:
        file.discard()


def write(
    path: Path, embeddings: list[Embedding], facts: dict[str, Any], *, overwrite: bool = False
) -> None:
    """Write `name`, `seconds` and the vectors, a row each; `.npz` or `.parquet` by the suffix.

    An `.npz` holds arrays `names`, `seconds` and `vectors` (rows, size) and the JSON text `facts`;
    a Parquet file has columns `name`, `seconds`, `vector` and the facts in its metadata. It appears
    whole or not at all. Raises as `embedding_file`.
    """
    with embedding_file(path, overwrite=overwrite) as write_it:
        write_it(embeddings, facts)


def _filled(
    path: Path, embeddings: list[Embedding], facts: dict[str, Any]
) -> Callable[[Any], object]:
    if not embeddings:
        raise AudiodaeError(f"There is nothing to write to {path}: give one embedding or more.")
    rows = [len(e.vectors) for e in embeddings]
    names = np.repeat([e.name for e in embeddings], rows)
    seconds = np.concatenate([e.seconds for e in embeddings])
    vectors = np.concatenate([e.vectors for e in embeddings])
    if path.suffix.lower() == ".npz":

        def fill(file: Any) -> None:
            text = json.dumps(facts)
            np.savez(file, names=names, seconds=seconds, vectors=vectors, facts=text)

    else:
        pyarrow, parquet = _parquet()
        flat = pyarrow.array(vectors.reshape(-1))
        columns = {
            "name": pyarrow.array([printable(name) for name in names.tolist()]),
            "seconds": pyarrow.array(seconds),
            "vector": pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
        table = pyarrow.table(columns).replace_schema_metadata({"audiodae": json.dumps(facts)})

        def fill(file: Any) -> None:
            parquet.write_table(table, file)

    return fill


def _is_ours(path: Path) -> bool:
    """Whether there are embeddings that we wrote."""
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as arrays:
                return set(arrays.namelist()) == {f"{name}.npy" for name in _ARRAYS}
        metadata = _parquet()[1].read_schema(path).metadata
        return b"audiodae" in (metadata or {})
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _parquet() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise AudiodaeError(
            "A .parquet file needs the package `pyarrow`, which is not installed: "
            'run pip install "audiodae[families]", or write .npz.'
        ) from error
