"""A picture of where a recording is odd: its spectrogram, and the scores below it."""

from __future__ import annotations

from pathlib import Path

from audiodae.errors import printable
from audiodae.files.atomic import write_whole
from audiodae.files.audio import Reader
from audiodae.latent.anomaly import Scores
from audiodae.recordings.plot import draw_spectrogram, matplotlib_part, png, spectrogram

_READ_FRAMES = 1 << 16
_INCHES, _DOTS_PER_INCH = (10.0, 5.0), 120


def plot_scores(source: Path, scores: Scores, target: Path) -> None:
    """Draw a PNG at `target`, in bounded memory. Raises `AudiodaeError` without matplotlib."""
    with Reader(source) as reader:
        picture = spectrogram(reader.blocks(_READ_FRAMES), reader.info.sample_rate)
    figure = matplotlib_part("figure").Figure(_INCHES, _DOTS_PER_INCH, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    draw_spectrogram(above, picture, float(picture.level_db.max()))
    verdict = "odd" if scores.odd else "normal"
    title = f"{printable(source.name)}: {verdict}, score {scores.clip:.2f}".replace("$", r"\$")
    above.set_title(title, loc="left", fontsize=11)
    ends = [*scores.seconds.tolist(), float(scores.seconds[-1]) + scores.patch_seconds]
    below.stairs(scores.patches, ends, color="black")
    below.axhline(1.0, color="tab:red", linewidth=1)
    for begin, end in scores.odd_spans:
        for axis in (above, below):
            axis.axvspan(begin, end, color="tab:red", alpha=0.25, linewidth=0)
    below.set_xlim(0.0, picture.seconds or 1.0)
    below.set_ylim(0.0, max(1.5, 1.1 * float(scores.patches.max())))
    below.set_ylabel("score (1: threshold)")
    below.set_xlabel("time (s)")
    drawn = png(figure)
    write_whole(target, lambda stream: stream.write(drawn))
