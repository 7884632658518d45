"""What is cleaned into what, decided before any work: nothing lost, nothing replaced unasked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiodae.errors import AudioError, PlanError
from audiodae.recordings.job import Job
from audiodae.recordings.manifest import MANIFEST_NAME, Made, Manifest
from audiodae.recordings.options import Options
from audiodae.recordings.plan import plan


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def pairs(jobs: list[Job]) -> dict[str, str]:
    return {job.source.as_posix(): job.target.as_posix() for job in jobs if job.action == "clean"}


def refusals(jobs: list[Job]) -> list[str]:
    return [job.reason for job in jobs if job.action == "refuse"]


def made(source: str, target: str, fingerprint: str = "same", root: str = "out") -> None:
    """An output as an earlier run leaves it, with its line in the manifest."""
    touch(target)
    entry = Made.of(Path(source), fingerprint, Path(target))
    Manifest(Path(root)).record(Path(target), entry, Path(source))


# -------------------------------------------------------------------------------- where outputs go


def test_a_file_goes_beside_itself_under_another_name() -> None:
    touch("rec/talk.v2.wav")
    assert pairs(plan(["rec/talk.v2.wav"], None, Options())) == {
        "rec/talk.v2.wav": "rec/talk.v2-clean.wav"
    }


def test_a_folder_goes_into_a_mirrored_tree_beside_itself() -> None:
    touch("rec/a.wav", "rec/day 1/b.FLAC", "rec/day 1/x/c.ogg", "rec/notes.txt")
    assert pairs(plan(["rec"], None, Options())) == {
        "rec/a.wav": "rec-clean/a.wav",
        "rec/day 1/b.FLAC": "rec-clean/day 1/b.FLAC",
        "rec/day 1/x/c.ogg": "rec-clean/day 1/x/c.ogg",
    }


@pytest.mark.parametrize("spelled", [".", "../rec", "./", "sub/.."])
def test_a_folder_without_a_plain_name_still_goes_beside_itself(
    spelled: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    touch("rec/sub/a.wav")
    monkeypatch.chdir("rec")
    (job,) = plan([spelled], None, Options())
    assert Path(os.path.abspath(job.target)) == tmp_path / "rec-clean/sub/a.wav"


def test_the_target_may_name_the_file_or_its_folder() -> None:
    touch("a.wav")
    Path("there").mkdir()
    assert pairs(plan(["a.wav"], "b.wav", Options())) == {"a.wav": "b.wav"}
    assert pairs(plan(["a.wav"], "there", Options())) == {"a.wav": "there/a.wav"}
    assert pairs(plan(["a.wav"], "new", Options())) == {"a.wav": "new/a.wav"}
    assert pairs(plan(["a.wav"], "new.wav/", Options())) == {"a.wav": "new.wav/a.wav"}


def test_another_suffix_of_the_target_asks_for_its_format() -> None:
    touch("a.wav")
    (job,) = plan(["a.wav"], "b.flac", Options())
    assert job.container == ".flac"
    (job,) = plan(["a.wav"], "b.WAV", Options())
    assert job.container is None


@pytest.mark.parametrize(("name", "wish"), [("b.flac", "wav"), ("b.rf64", "wav"), ("b.wav", "ogg")])
def test_a_format_that_is_not_that_of_the_name_is_refused(name: str, wish: str) -> None:
    touch("a.wav")
    with pytest.raises(PlanError, match=f"{name} is named as .*{wish}"):
        plan(["a.wav"], name, Options(container=wish))


@pytest.mark.parametrize(
    ("name", "wish"), [("b.wav", "rf64"), ("b.ogg", "opus"), ("b.FLAC", "flac"), ("b.data", "flac")]
)
def test_a_format_may_be_said_twice_or_where_the_name_says_none(name: str, wish: str) -> None:
    touch("a.wav")
    (job,) = plan(["a.wav"], name, Options(container=wish))
    assert job.container == wish


def test_a_format_gives_its_suffix() -> None:
    touch("rec/a.wav", "rec/b.mp3")
    jobs = plan(["rec"], "out", Options(container="opus"))
    assert pairs(jobs) == {"rec/a.wav": "out/a.opus", "rec/b.mp3": "out/b.opus"}


def test_what_cannot_be_written_becomes_wav() -> None:
    touch("talk.m4a", "film.mkv")
    jobs = plan(["talk.m4a", "film.mkv"], "out", Options())
    assert pairs(jobs) == {"talk.m4a": "out/talk.wav", "film.mkv": "out/film.wav"}


def test_of_several_sources_each_folder_keeps_its_name() -> None:
    touch("mon/a.wav", "tue/a.wav", "b.wav")
    assert pairs(plan(["mon", "tue/", "b.wav"], "out", Options())) == {
        "mon/a.wav": "out/mon/a.wav",
        "tue/a.wav": "out/tue/a.wav",
        "b.wav": "out/b.wav",
    }


def test_residue_and_pictures_mirror_the_tree() -> None:
    touch("rec/x/a.wav")
    (job,) = plan(["rec"], "out", Options(residue=Path("res"), plot=Path("png")))
    assert job.residue == Path("res/x/a.wav")
    assert job.plot == Path("png/x/a.wav.png")


names = st.lists(
    st.sampled_from(["a", "b", "ö", "-", "x y"]).flatmap(
        lambda stem: st.sampled_from(
            [f"{stem}.wav", f"{stem}.mp3", f"d/{stem}.wav", f"d/e/{stem}.ogg"]
        )
    ),
    min_size=1,
    max_size=8,
    unique=True,
)


@given(names=names, container=st.sampled_from([None, "flac"]))
def test_every_recording_has_one_output_of_its_own_or_nothing_starts(
    names: list[str], container: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tree")
    touch(*(f"{root}/in/{name}" for name in names))
    stems = {name.rpartition(".")[0] for name in names}
    try:
        jobs = plan([root / "in"], root / "out", Options(container=container))
    except PlanError as error:
        assert container and len(stems) < len(names)
        assert "would both be written" in str(error)
        return
    assert {job.source.relative_to(root / "in").as_posix() for job in jobs} == set(names)
    assert len({job.target for job in jobs}) == len(names)
    assert all(job.target.is_relative_to(root / "out") for job in jobs)


# ---------------------------------------------------------------- what is refused before any work


def test_two_recordings_of_one_output_are_refused() -> None:
    touch("a.wav", "a.mp3", "x/a.wav")
    with pytest.raises(PlanError, match=r"a\.wav and x/a\.wav would both be written to out/a\.wav"):
        plan(["a.wav", "x/a.wav"], "out", Options())
    with pytest.raises(PlanError, match="would both be written"):
        plan(["a.wav", "a.mp3"], None, Options(container="flac"))


def test_one_recording_given_twice_is_one_job() -> None:
    touch("rec/a.wav")
    assert len(plan(["rec/a.wav", "rec/*.wav"], None, Options())) == 1


@pytest.mark.parametrize("target", ["a.wav", "./a.wav", "link.wav", "folder/a.wav", "b.wav"])
def test_no_recording_is_ever_replaced(target: str) -> None:
    touch("a.wav", "b.wav")
    Path("link.wav").symlink_to("a.wav")
    Path("folder").symlink_to(".")
    sources = ["a.wav", "b.wav"] if target == "b.wav" else ["a.wav"]
    if target == "b.wav":
        Path("a-clean.wav").symlink_to("b.wav")
    with pytest.raises(PlanError, match="would replace the recording"):
        plan(sources, None if target == "b.wav" else target, Options(overwrite=True))


def test_residue_in_the_place_of_the_output_is_refused() -> None:
    touch("rec/a.wav")
    with pytest.raises(PlanError, match=r"Two outputs of rec/a.wav would both be out/a\.wav"):
        plan(["rec"], "out", Options(residue=Path("out")))


def test_a_name_that_can_only_be_read_is_refused_before_any_work() -> None:
    touch("a.wav")
    with pytest.raises(AudioError, match="does not name a format that can be written"):
        plan(["a.wav"], "b.m4a", Options())


def test_a_subtype_that_is_none_is_refused_before_any_work() -> None:
    touch("a.wav")
    with pytest.raises(AudioError, match="NONSENSE cannot be written; there are ALAC_16, .*PCM_24"):
        plan(["a.wav"], None, Options(subtype="nonsense"))
    with pytest.raises(AudioError, match=r"did you mean PCM_24\?"):
        plan(["a.wav"], None, Options(subtype="pcm24"))
    with pytest.raises(AudioError, match="FLAC with FLOAT cannot be written"):
        plan(["a.wav"], None, Options(container="flac", subtype="float"))
    assert pairs(plan(["a.wav"], None, Options(container="wav", subtype="float")))


def test_many_recordings_do_not_go_into_one_file() -> None:
    touch("rec/a.wav", "rec/b.wav", "out.wav", "plain")
    for target in ("out.wav", "new.wav", "plain"):
        with pytest.raises(PlanError, match="give a folder"):
            plan(["rec"], target, Options())


def test_what_exists_stays_unless_overwriting_is_asked_for() -> None:
    touch("rec/a.wav", "rec/b.wav", "out/a.wav")
    jobs = plan(["rec"], "out", Options())
    assert refusals(jobs) == [
        "out/a.wav exists already, so rec/a.wav is not cleaned: use --overwrite to replace it."
    ]
    assert pairs(jobs) == {"rec/b.wav": "out/b.wav"}
    assert len(pairs(plan(["rec"], "out", Options(overwrite=True)))) == 2


def test_devices_and_folders_are_never_overwritten() -> None:
    touch("a.wav", "b.wav")
    Path("a-clean.wav").mkdir()
    Path("b-clean.wav").symlink_to("/dev/null")
    reasons = refusals(plan(["a.wav", "b.wav"], None, Options(overwrite=True)))
    assert len(reasons) == 2 and all("not a regular file" in reason for reason in reasons)


@pytest.mark.parametrize("target", ["b.sf", "b.avr", "b.mat5", "b.SPH", "b.wavex"])
def test_every_format_that_is_written_names_a_file(target: str) -> None:
    touch("a.wav")
    assert pairs(plan(["a.wav"], target, Options())) == {"a.wav": target}
    assert pairs(plan(["a.wav"], f"{target}/", Options())) == {"a.wav": f"{target}/a.wav"}
    (job,) = plan(["a.wav"], "b.mat", Options(container="mat5"))
    assert (job.target, job.container) == (Path("b.mat"), "mat5")
    with pytest.raises(AudioError, match=r"\.mat names two formats.* mat4 or mat5"):
        plan(["a.wav"], "b.mat", Options())


@pytest.mark.parametrize("name", ["notes.txt", "notes.txt/deeper/still", "nowhere"])
@pytest.mark.parametrize("what", ["target", "residue", "plot", "vad"])
def test_a_file_in_the_place_of_a_folder_is_told_before_any_work(what: str, name: str) -> None:
    touch("rec/a.wav", "rec/b.wav", "notes.txt")
    Path("nowhere").symlink_to("gone")
    target = f"{name}/" if what == "target" else "out"
    options = Options() if what == "target" else Options(**{what: Path(name)})  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=rf"{name} is to be a folder .*(a file|a link)"):
        plan(["rec"], target, options)


def test_a_file_for_the_speech_of_several_recordings_is_refused() -> None:
    touch("a.wav", "b.wav")
    vad = Options(vad=Path("x.json"))
    with pytest.raises(PlanError, match=r"x\.json is to hold .* of 2 .* give a folder with --vad"):
        plan(["a.wav", "b.wav"], "out", vad)
    assert plan(["a.wav"], "out", vad)[0].vad == Path("x.json")
    Path("x.json").mkdir()
    assert plan(["a.wav", "b.wav"], "out", vad)[1].vad == Path("x.json/b.wav.json")


def test_a_link_to_a_device_is_treated_as_the_device() -> None:
    touch("rec/a.wav")
    os.mkfifo("rec/pipe.wav")
    Path("rec/zero.wav").symlink_to("/dev/zero")
    Path("rec/link.wav").symlink_to("pipe.wav")
    assert [job.source.name for job in plan(["rec"], "out", Options())] == ["a.wav"]
    jobs = plan(["rec/pipe.wav", "rec/zero.wav", "rec/link.wav", "/dev/null"], "out", Options())
    for reason, kind in zip(
        refusals(jobs),
        ("is a named pipe", "is a link to a device", "is a link to a named pipe", "is a device"),
        strict=True,
    ):
        assert f"{kind}, not a regular file" in reason


def test_what_is_wrong_with_one_source_does_not_stop_the_others() -> None:
    touch("a.wav", "empty/readme.txt")
    Path("gone.wav").symlink_to("nowhere.wav")
    os.mkfifo("pipe.wav")
    jobs = plan(["a.wav", "no.wav", "empty", "gone.wav", "pipe.wav", "*.aiff"], None, Options())
    assert pairs(jobs) == {"a.wav": "a-clean.wav"}
    for name, said in {
        "no.wav": "does not exist",
        "empty": "holds no audio file",
        "gone.wav": "leads nowhere",
        "pipe.wav": "not a regular file",
        "*.aiff": "matches no audio file",
    }.items():
        assert any(reason.startswith(name) and said in reason for reason in refusals(jobs)), name


# --------------------------------------------------------------------------------- safe walking


def test_loops_of_links_end_and_real_names_win() -> None:
    touch("rec/real/a.wav")
    Path("rec/again").symlink_to("real")
    Path("rec/real/up").symlink_to("..")
    Path("rec/self").symlink_to("self")
    assert pairs(plan(["rec"], "out", Options())) == {"rec/real/a.wav": "out/real/a.wav"}
    assert pairs(plan(["rec/**/*.wav"], "out", Options())) == {"rec/real/a.wav": "out/real/a.wav"}


def test_many_links_to_each_other_are_walked_in_no_time() -> None:
    for i in range(12):
        touch(f"rec/{i}/{i}.wav")
        for j in range(12):
            Path(f"rec/{i}/to{j}").symlink_to(f"../{j}")
    assert len(plan(["rec"], "out", Options())) == 12


def test_a_link_to_a_folder_elsewhere_is_followed() -> None:
    touch("disk/a.wav", "rec/b.wav")
    Path("rec/more").symlink_to("../disk")
    assert sorted(pairs(plan(["rec"], "out", Options())).values()) == [
        "out/b.wav",
        "out/more/a.wav",
    ]


def test_hidden_and_unfinished_files_are_no_recordings() -> None:
    touch("rec/a.wav", "rec/._a.wav", "rec/.audiodae-0123.part", "rec/.trash/b.wav")
    assert list(pairs(plan(["rec"], "out", Options()))) == ["rec/a.wav"]


@pytest.mark.parametrize(
    ("pattern", "targets"),
    [
        ("rec/*.wav", ["out/a.wav"]),
        ("rec/**/*.wav", ["out/a.wav", "out/x/b.wav", "out/x/y/c.wav"]),
        ("rec/x/**", ["out/b.wav", "out/y/c.wav", "out/y/d.mp3"]),
        ("rec/x/?/*", ["out/y/c.wav", "out/y/d.mp3"]),
        ("rec/*", ["out/a.wav", "out/x/b.wav", "out/x/y/c.wav", "out/x/y/d.mp3"]),
        ("**/[cd].*", ["out/rec/x/y/c.wav", "out/rec/x/y/d.mp3"]),
    ],
)
def test_a_pattern_mirrors_the_tree_below_its_fixed_part(pattern: str, targets: list[str]) -> None:
    touch("rec/a.wav", "rec/x/b.wav", "rec/x/y/c.wav", "rec/x/y/d.mp3", "rec/x/y/readme.txt")
    assert sorted(pairs(plan([pattern], "out", Options())).values()) == targets


def test_a_drive_that_is_not_there_holds_no_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("rec/a.wav")
    is_there = os.path.lexists
    # On Windows nothing at all is there on one, not even its root.
    monkeypatch.setattr(os.path, "lexists", lambda path: str(path)[0] != "/" and is_there(path))
    monkeypatch.setattr(os.path, "isdir", lambda path: str(path) == "rec")
    with pytest.raises(PlanError, match="but / is not there"):
        plan(["rec"], "/drive/out/", Options())


def test_a_pattern_knows_no_upper_case_where_the_system_knows_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    touch("rec/A.WAV", "rec/b.wav")
    monkeypatch.setattr(os.path, "normcase", str.lower)  # as on Windows
    assert list(pairs(plan(["rec/**/*.wav"], "out", Options()))) == ["rec/A.WAV", "rec/b.wav"]


def test_folders_of_other_things_and_of_outputs_may_fit_a_pattern() -> None:
    touch("rec/a.wav", "rec/notes/b.txt", "rec/out/a.wav", "rec/vad/a.wav.json")
    options = Options(overwrite=True, vad=Path("rec/vad"))
    assert pairs(plan(["rec/*"], "rec/out", options)) == {"rec/a.wav": "rec/out/a.wav"}
    assert refusals(plan(["rec/n*"], "out", Options())) == ["rec/n* matches no audio file."]


def test_of_two_manifests_the_one_that_is_true_counts() -> None:
    touch("a.wav", "tree/sub/a.wav")
    made("a.wav", "out/sub/a.wav", root="out/sub")
    Path("out/sub/a.wav").write_bytes(b"made anew")
    made("tree/sub/a.wav", "out/sub/a.wav")
    (job,) = plan(["tree"], "out", RESUME, lambda _: "same")
    assert job.action == "skip", job.reason


def test_a_name_that_looks_like_a_pattern_is_a_name_first() -> None:
    touch("talk[1].wav")
    assert pairs(plan(["talk[1].wav"], None, Options())) == {"talk[1].wav": "talk[1]-clean.wav"}


# ------------------------------------------------------------------- outputs are not cleaned again


def test_outputs_inside_the_input_tree_are_not_sources() -> None:
    touch("rec/a.wav", "rec/clean/a.wav", "rec/res/a.wav")
    jobs = plan(["rec"], "rec/clean", Options(overwrite=True, residue=Path("rec/res")))
    assert pairs(jobs) == {"rec/a.wav": "rec/clean/a.wav"}


def test_outputs_of_earlier_runs_are_not_sources() -> None:
    touch("rec/a.wav", "rec/own-clean.wav")
    made("rec/a.wav", "rec/a-clean.wav", root="rec")
    made("rec/a.wav", "rec/deep/out/x/a.wav", root="rec/deep/out")
    touch("rec/deep/out/recording.wav")
    assert sorted(pairs(plan(["rec"], "elsewhere", Options()))) == [
        "rec/a.wav",
        "rec/deep/out/recording.wav",
        "rec/own-clean.wav",
    ]
    jobs = plan(["rec/a.wav", "rec/a-clean.wav"], "elsewhere", Options())
    assert pairs(jobs) == {"rec/a.wav": "elsewhere/a.wav"}


def test_another_file_under_the_name_of_an_output_is_told() -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "rec/take.wav", root="rec")
    Path("rec/take.wav").write_bytes(b"a new recording, or the output with other tags")
    left = [job for job in plan(["rec"], "out", Options()) if job.action == "skip"]
    assert [job.source.name for job in left] == ["take.wav"]
    assert "another name" in left[0].reason


@pytest.mark.parametrize(("source", "target"), [("", None), ("", "out"), ("a.wav", "")])
def test_an_empty_name_is_not_the_folder_one_is_in(source: str, target: str | None) -> None:
    touch("a.wav")
    with pytest.raises(PlanError, match="variable"):
        plan([source], target, Options())
    assert pairs(plan(["."], "out", Options())) == {"a.wav": "out/a.wav"}


def test_only_outputs_are_nothing_to_clean() -> None:
    touch("a.wav")
    made("a.wav", "out/a.wav")
    for source in ("out", "out/a.wav", "out/*.wav"):
        with pytest.raises(PlanError, match="nothing to clean"):
            plan([source], "again", Options())


def test_a_recording_by_another_spelling_is_not_replaced() -> None:
    """On a disk that knows no upper case both names are one file, as two hard links are here."""
    touch("Talk.wav")
    os.link("Talk.wav", "talk.wav")
    with pytest.raises(PlanError, match="would replace the recording Talk.wav"):
        plan(["Talk.wav"], "talk.wav", Options(overwrite=True))


@pytest.mark.parametrize("source", ["rec", "rec/**/*.wav"])
def test_a_folder_that_cannot_be_listed_is_told(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("rec/a.wav", "rec/locked/b.wav")
    listdir = os.listdir

    def locked(folder: Path) -> list[str]:
        if Path(folder).name == "locked":  # a mode would not stop root
            raise PermissionError(13, "Permission denied", str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", locked)
    jobs = plan([source], "out", Options())
    assert [job.action for job in jobs if job.source.name == "a.wav"] == ["clean"]
    assert "rec/locked cannot be listed" in refusals(jobs)[0]


# ------------------------------------------------------------------------------------- resuming

RESUME = Options(skip_existing=True)


def actions(options: Options = RESUME, fingerprint: str = "same") -> list[str]:
    return [job.action for job in plan(["rec"], "out", options, lambda _: fingerprint)]


def test_what_is_done_is_skipped_and_what_changed_is_done_again() -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "out/a.wav")
    assert actions() == ["skip"]
    assert actions(fingerprint="other settings or weights") == ["clean"]
    os.utime("rec/a.wav", ns=(1, 1))
    assert actions() == ["clean"]
    made("rec/a.wav", "out/a.wav")
    assert actions() == ["skip"]
    Path("rec/a.wav").write_bytes(b"longer")
    os.utime("rec/a.wav", ns=(1, 1))
    assert actions() == ["clean"]
    made("rec/a.wav", "out/a.wav")
    Path("out/a.wav").unlink()
    assert actions() == ["clean"]


def test_an_output_somebody_changed_is_not_replaced_unasked() -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "out/a.wav")
    Path("out/a.wav").write_bytes(b"cut")
    assert actions() == ["refuse"] == actions(fingerprint="other settings")
    assert actions(Options(skip_existing=True, overwrite=True)) == ["clean"]


@pytest.mark.parametrize("what", [None, "vad", "plot", "residue"])
def test_an_edit_that_keeps_the_size_is_noticed(what: str | None) -> None:
    touch("rec/a.wav")
    more = Options(skip_existing=True, **({what: Path("more")} if what else {}))  # type: ignore[arg-type]
    outputs = [Path("out/a.wav")]
    if what:
        outputs.append(Path("more", {"vad": "a.wav.json", "plot": "a.wav.png"}.get(what, "a.wav")))
    for output in outputs:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(b"loud")
        made("rec/a.wav", str(output), root=str(output.parent))
    assert actions(more) == ["skip"]
    outputs[-1].write_bytes(b"soft")
    os.utime(outputs[-1], ns=(7, 7))
    assert actions(more) == ["refuse"] == actions(more, fingerprint="other settings")
    (job,) = plan(["rec"], "out", more, lambda _: "same")
    assert "not as audiodae wrote it" in job.reason


def test_outputs_copied_without_their_times_are_still_ours() -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "out/a.wav")
    os.utime("out/a.wav", ns=(7, 7))  # or on a disk that knows even seconds only
    assert actions() == ["skip"]
    assert actions(fingerprint="other settings") == ["clean"]


def test_a_manifest_that_knows_no_times_of_outputs_is_still_read() -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "out/a.wav")
    path = Path("out") / MANIFEST_NAME
    line = json.loads(path.read_text())
    del line["made"]["target_mtime_ns"], line["made"]["target_sha256"]
    path.write_text(json.dumps(line) + "\n")
    os.utime("out/a.wav", ns=(7, 7))
    assert actions() == ["skip"]
    assert actions(fingerprint="other settings") == ["clean"]
    Path("out/a.wav").write_bytes(b"cut")
    assert actions() == ["refuse"]


def test_the_output_of_another_recording_of_that_name_is_neither_replaced_nor_taken_for_ours() -> (
    None
):
    touch("monday/REC001.wav", "tuesday/REC001.wav")
    for day in ("monday", "tuesday"):
        os.utime(f"{day}/REC001.wav", ns=(1, 1))  # as unpacked from an archive
    made("monday/REC001.wav", "out/REC001.wav")
    assert plan(["monday"], "out", RESUME, lambda _: "same")[0].action == "skip"
    (job,) = plan(["tuesday"], "out", RESUME, lambda _: "same")
    assert job.action == "refuse" and "monday/REC001.wav" in job.reason
    Path("monday").rename("archive")  # the output cannot be made again from there, but it is old
    assert plan(["archive"], "out", RESUME, lambda _: "same")[0].action == "skip"
    os.utime("archive/REC001.wav", ns=(2, 2))
    assert plan(["archive"], "out", RESUME, lambda _: "same")[0].action == "clean"


def test_an_unknown_file_is_not_taken_for_an_output() -> None:
    touch("rec/a.wav", "out/a.wav")
    assert actions() == ["refuse"]
    assert actions(Options(skip_existing=True, overwrite=True)) == ["clean"]


@pytest.mark.parametrize("what", ["vad", "plot"])
def test_what_is_newly_asked_for_is_work_to_do(what: str) -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "out/a.wav")
    more = Options(skip_existing=True, **{what: Path("more")})  # type: ignore[arg-type]
    assert actions(more) == ["clean"]
    for name in ("more/a.wav.json", "more/a.wav.png"):
        touch(name)
    assert actions(more) == ["refuse"]  # notes of somebody else
    for name in ("more/a.wav.json", "more/a.wav.png"):
        made("rec/a.wav", name, root="more")
    assert actions(more) == ["skip"]
    os.utime("rec/a.wav", ns=(1, 1))
    made("rec/a.wav", "out/a.wav")  # cleaned once more, without them: they are old
    assert actions(more) == ["clean"]


@pytest.mark.parametrize("what", ["vad", "plot"])
def test_what_stands_beside_no_output_of_ours_is_not_taken_for_ours(what: str) -> None:
    touch("rec/a.wav", "more/a.wav.json", "more/a.wav.png")
    more = {what: Path("more")}
    assert actions(Options(skip_existing=True, **more)) == ["refuse"]  # type: ignore[arg-type]


def test_a_part_of_a_tree_is_resumed_by_the_manifest_of_the_whole() -> None:
    touch("rec/monday/a.wav")
    made("rec/monday/a.wav", "out/monday/a.wav")
    (job,) = plan(["rec/monday"], "out/monday", RESUME, lambda _: "same")
    assert job.action == "skip"


def test_a_missing_residue_is_work_to_do() -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "out/a.wav")
    assert actions(Options(skip_existing=True, residue=Path("res"))) == ["clean"]
    made("rec/a.wav", "res/a.wav", root="res")
    assert actions(Options(skip_existing=True, residue=Path("res"))) == ["skip"]


def test_a_torn_line_loses_only_itself() -> None:
    touch("rec/a.wav", "rec/b.wav")
    made("rec/a.wav", "out/a.wav")
    made("rec/b.wav", "out/b.wav")
    path = Path("out") / MANIFEST_NAME
    path.write_bytes(path.read_bytes()[:-20])
    assert actions() == ["skip", "refuse"]
    made("rec/b.wav", "out/b.wav")
    assert actions() == ["skip", "skip"]


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[]", b"7", b"{}", b'{"target": 3, "made": {"x": 1}}', b"null", b"[" * 9999],
)
def test_a_damaged_manifest_is_no_reason_to_stop(line: bytes) -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "out/a.wav")
    path = Path("out") / MANIFEST_NAME
    path.write_bytes(line + b"\n" + path.read_bytes())
    assert actions() == ["skip"]


def test_names_that_are_no_text_are_remembered() -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    touch(f"rec/{name}")
    made(f"rec/{name}", f"out/{name}")
    assert actions() == ["skip"]


def test_a_moved_output_folder_still_knows_its_outputs() -> None:
    touch("rec/a.wav")
    made("rec/a.wav", "out/x/a.wav")
    Path("out").rename("moved")
    with pytest.raises(PlanError, match="nothing to clean"):
        plan(["moved/x"], "again", Options())
