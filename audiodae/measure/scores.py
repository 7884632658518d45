"""Scores of several systems on the same clips: their means, as a table for people and as JSON.

A score that could not be had is NaN: it is left out of the mean, counted, and the table says so.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from audiodae.errors import printable

JSON_KEYS = ("systems", "rows", "notes")
NOISY = "noisy"  # the system that does nothing; its row comes first


class Column(NamedTuple):
    header: str
    decimals: int


COLUMNS = {
    "pesq_wb": Column("PESQ", 2),
    "stoi": Column("STOI", 3),
    "si_sdr_db": Column("SI-SDR dB", 2),
    "dnsmos_sig": Column("SIG", 2),
    "dnsmos_bak": Column("BAK", 2),
    "dnsmos_ovrl": Column("OVRL", 2),
    "speech_attenuation_db": Column("speech lost dB", 2),
    "noise_attenuation_db": Column("noise cut dB", 1),
    "lsd_above_8k_db": Column("LSD > 8 kHz dB", 1),
    "real_time_factor": Column("RTF", 4),
}


@dataclass(frozen=True)
class Row:
    """What one system made of one clip: `values` by names of `COLUMNS`, NaN for not to be had."""

    system: str
    clip: str
    snr_db: float | None
    seconds: float
    values: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Rows of every system and clip, and their means."""

    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def systems(self) -> list[str]:
        """In the order of the table, the noisy input first."""
        return list(dict.fromkeys(row.system for row in self.rows))

    @property
    def snrs_db(self) -> list[float]:
        """SNRs found in the names of the files, lowest first; empty where names tell none."""
        return sorted({row.snr_db for row in self.rows if row.snr_db is not None})

    def mean(self, system: str, snr_db: float | None = None) -> dict[str, float]:
        """Means over clips (of one SNR), NaN left out; the real-time factor is total over total."""
        rows = self._rows(system, snr_db)
        means = {}
        for name in self._measured(rows):
            known = [(r.values[name], r.seconds) for r in rows if name in r.values]
            known = [(value, seconds) for value, seconds in known if not math.isnan(value)]
            # Long clips count more only where time itself is what is measured.
            weights = [s if name == "real_time_factor" else 1.0 for _, s in known]
            total = math.fsum(weights)
            summed = math.fsum(v * w for (v, _), w in zip(known, weights, strict=True))
            means[name] = summed / total if total else math.nan
        return means

    def missing(self, system: str) -> dict[str, int]:
        """How many clips a measurement could not be had for, where that is any."""
        rows = self._rows(system)
        counts = {
            n: sum(math.isnan(r.values.get(n, 0.0)) for r in rows) for n in self._measured(rows)
        }
        return {name: count for name, count in counts.items() if count}

    def table(self) -> str:
        """Aligned Markdown: all clips; then by SNR where names tell it; then what is missing."""
        names = self._measured(self.rows)
        headers = [COLUMNS[name].header for name in names]
        lines = [["system", "clips", *headers]]
        for system in self.systems:
            clips = str(len(self._rows(system)))
            lines.append([system, clips, *_cells(names, self.mean(system))])
        text = _markdown(lines)
        if len(self.snrs_db) > 1:
            lines = [["SNR dB", "system", "clips", *headers]]
            for snr_db in self.snrs_db:
                for system in self.systems:
                    clips = str(len(self._rows(system, snr_db)))
                    cells = _cells(names, self.mean(system, snr_db))
                    lines.append([f"{snr_db:g}", system, clips, *cells])
            text += "\n\n" + _markdown(lines)
        remarks = [printable(remark) for remark in self._remarks()]
        return text + ("\n\n" + "\n".join(remarks) if remarks else "")

    def to_json(self) -> str:
        """Everything, as JSON text; what could not be measured is null."""
        systems = {
            system: {
                "mean": _without_nan(self.mean(system)),
                "missing": self.missing(system),
                "by_snr_db": {f"{s:g}": _without_nan(self.mean(system, s)) for s in self.snrs_db},
            }
            for system in self.systems
        }
        rows = [
            {
                "system": row.system,
                "clip": row.clip,
                "snr_db": row.snr_db,
                "seconds": row.seconds,
                **_without_nan(row.values),
            }
            for row in self.rows
        ]
        values = (systems, rows, self._remarks())
        return json.dumps(dict(zip(JSON_KEYS, values, strict=True)), indent=2)

    def _rows(self, system: str, snr_db: float | None = None) -> list[Row]:
        rows = [row for row in self.rows if row.system == system]
        return rows if snr_db is None else [row for row in rows if row.snr_db == snr_db]

    def _measured(self, rows: list[Row]) -> list[str]:
        return [name for name in COLUMNS if any(name in row.values for row in rows)]

    def _remarks(self) -> list[str]:
        remarks = list(self.notes)
        for system in self.systems:
            clips = len(self._rows(system))
            for name, count in self.missing(system).items():
                header = COLUMNS[name].header
                remarks.append(f"{system}: no {header} for {count} of {clips} clips (left out).")
        return remarks


def _cells(names: list[str], means: dict[str, float]) -> list[str]:
    return [_number(means.get(name), COLUMNS[name].decimals) for name in names]


def _number(value: float | None, decimals: int) -> str:
    if value is None:
        return ""
    # Adding zero turns the -0.0 of a rounded tiny loss into 0.0.
    return "n/a" if math.isnan(value) else f"{round(value, decimals) + 0.0:.{decimals}f}"


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _markdown(lines: list[list[str]]) -> str:
    """Text to the left, numbers to the right; the first line is the header."""
    lines = [[printable(cell) for cell in line] for line in lines]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
    left = [header == "system" for header in lines[0]]

    def row(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if is_left else cell.rjust(width)
            for cell, width, is_left in zip(cells, widths, left, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * width if is_left else "-" * (width - 1) + ":"
        for width, is_left in zip(widths, left, strict=True)
    ]
    return "\n".join([row(lines[0]), row(rule), *map(row, lines[1:])])
