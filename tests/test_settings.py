"""Strength and channels: one answer everywhere, and one spelling for what is the same."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import audiodae
from audiodae.errors import AudiodaeError
from audiodae.recordings.options import Options
from audiodae.recordings.report import write_report

WAYS: list[Callable[..., Any]] = [
    Options,
    functools.partial(audiodae.Streamer, sample_rate=48000),
    lambda **setting: audiodae.load()(np.zeros(10, np.float32), 16000, **setting),
    audiodae.Denoise,
]


@pytest.fixture(params=WAYS, ids=["files", "streams", "arrays", "module"])
def way(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"mix": 1.5}, "mix is 1.5: give"),
        ({"mix": "1"}, "mix is '1': give"),
        ({"attenuation_limit_db": -1}, "The attenuation limit is -1 dB: give"),
        ({"attenuation_limit_db": math.nan}, "The attenuation limit is nan dB: give"),
        ({"link": "both"}, "link is 'both': choose"),
    ],
)
def test_what_makes_no_sense_is_refused_everywhere_in_the_same_words(
    way: Callable[..., Any], setting: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AudiodaeError, match=sentence):
        way(**setting)


def test_infinitely_many_decibels_are_no_limit(way: Callable[..., Any]) -> None:
    made = way(attenuation_limit_db=math.inf)
    assert getattr(made, "attenuation_limit_db", None) is None


def test_settings_of_any_kind_of_number_are_plain_and_fit_into_a_report(tmp_path: Path) -> None:
    options = Options(mix=np.float32(0.5), attenuation_limit_db=np.inf, link="mid")  # type: ignore[arg-type]
    write_report(tmp_path / "r.json", [], options, None, 0.0)
    settings = json.loads((tmp_path / "r.json").read_text())["settings"]
    assert (settings["mix"], settings["attenuation_limit_db"]) == (0.5, None)
    assert options.fingerprint("weights") == Options(mix=0.5, link="mid").fingerprint("weights")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"attenuation_limit_db": 12}, {"attenuation_limit_db": 12.0}),
        ({"mix": 1}, {}),
        ({"subtype": "pcm_24"}, {"subtype": "PCM_24"}),
        ({"container": "FLAC"}, {"container": "flac"}),
    ],
)
def test_the_same_settings_have_one_fingerprint(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert Options(**one) == Options(**other)
    assert Options(**one).fingerprint("weights") == Options(**other).fingerprint("weights")


def test_what_earlier_versions_made_is_still_known() -> None:
    chosen = Options(mix=0.5, attenuation_limit_db=12.0, container="flac", subtype="PCM_24")
    assert Options().fingerprint("weights") == "daaa3b5929ca88d5"
    assert chosen.fingerprint("weights") == "36e14a6ffd7e368f"
