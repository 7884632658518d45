"""Inside Python pipelines: chunks, event loops, data sets, recognisers."""

import asyncio
import pickle
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recogniser import whisper_base
from sounds import noise
from torch.utils.data import DataLoader, Dataset

import audiodae
from audiodae.errors import AudiodaeError, AudioError

DATA = Path(__file__).parent / "data"
RATE = 22050


def cut(sound, lengths):
    ends = np.cumsum(lengths)
    return np.split(sound, ends[ends < sound.shape[-1]], axis=-1)


def together(parts, like):
    return np.concatenate([like[..., :0], *parts], axis=-1)


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(0, 3000), max_size=6),
    channels=st.sampled_from([None, 1, 2]),
    samples=st.integers(0, 6000),
)
def test_chunks_give_the_bits_of_the_stream_and_none_is_lost(denoiser, lengths, channels, samples):
    sound = noise(channels or 1, samples)
    sound = sound[0] if channels is None else sound
    parts = list(
        audiodae.clean_chunks(cut(sound, lengths), sample_rate=RATE, model=denoiser, mix=0.9)
    )
    stream = denoiser.stream(sample_rate=RATE, channels=channels or 1, mix=0.9)
    expected = together([stream.feed(sound), stream.flush()], sound)
    assert all(part.shape[-1] for part in parts)
    np.testing.assert_array_equal(together(parts, sound), expected)
    assert expected.shape == sound.shape


def test_a_chunk_is_out_before_the_next_is_asked_for(denoiser):
    asked = []

    def microphone():
        for number in range(5):
            asked.append(number)
            yield noise(1, 4000)[0]

    cleaned = audiodae.clean_chunks(microphone(), sample_rate=16000, model=denoiser)
    assert asked == []
    for number, _ in zip(range(5), cleaned, strict=False):
        assert asked == list(range(number + 1))


def test_tensors_stay_tensors_and_a_batch_is_as_many_signals(denoiser):
    sound = torch.from_numpy(noise(6, 4000)).reshape(3, 2, 4000)
    parts = list(audiodae.clean_chunks(sound.split(999, -1), sample_rate=16000, model=denoiser))
    whole = torch.cat(parts, dim=-1)
    assert whole.shape == sound.shape
    torch.testing.assert_close(whole, denoiser(sound, 16000), atol=1e-5, rtol=0)


def test_no_chunks_are_no_chunks_and_the_default_model_is_the_shipped_one():
    assert list(audiodae.clean_chunks([], sample_rate=16000)) == []
    sound = noise(1, 100)[0]  # less than the latency: all of it is the rest
    (clean,) = audiodae.clean_chunks([sound], sample_rate=16000)
    assert clean.shape == sound.shape


@pytest.mark.parametrize("chunk", [[0.0, 0.1], np.float32(1.0), np.zeros((1, 1, 1, 9), "f4")])
def test_what_is_no_chunk_is_named_in_a_sentence(denoiser, chunk):
    with pytest.raises(AudioError, match=r"\(channels, n\)"):
        list(audiodae.clean_chunks([chunk], sample_rate=16000, model=denoiser))


@pytest.mark.parametrize("shape", [(480, 1), (480, 2), (3, 480, 1)])
def test_a_chunk_with_time_first_is_refused_with_advice(denoiser, shape):
    with pytest.raises(AudioError, match="swap the axes"):
        list(audiodae.clean_chunks([np.zeros(shape, "f4")], sample_rate=16000, model=denoiser))


@pytest.mark.parametrize("first", [0, 9, 10, 2000])
def test_many_microphones_may_come_in_short_chunks(denoiser, first):
    sound = noise(16, 3000)
    parts = list(audiodae.clean_chunks(cut(sound, [first]), sample_rate=16000, model=denoiser))
    np.testing.assert_allclose(together(parts, sound), denoiser(sound, 16000), atol=1e-6)


def test_a_recording_of_many_channels_may_be_empty(denoiser):
    assert denoiser(np.zeros((16, 0), "f4"), 16000).shape == (16, 0)


@pytest.mark.parametrize("model", [3, np.zeros(3), torch.nn.Linear(1, 1)])
def test_what_is_no_denoiser_is_named_in_a_sentence(model, tmp_path):
    chunks = [noise(1, 100)]
    with pytest.raises(AudiodaeError, match=f"denoiser is a {type(model).__name__}; what"):
        list(audiodae.clean_chunks(chunks, sample_rate=16000, model=model))
    with pytest.raises(AudiodaeError, match=r"model is .*; the name of a shipped one"):
        audiodae.load(model)


def test_a_net_itself_may_clean_chunks(denoiser):
    of_net, of_denoiser = (
        list(audiodae.clean_chunks([noise(1, 3000)], sample_rate=16000, model=model))
        for model in (denoiser.net, denoiser)
    )
    np.testing.assert_array_equal(np.hstack(of_net), np.hstack(of_denoiser))


def test_the_layout_is_the_first_chunk_s_to_say(denoiser):
    with pytest.raises(AudiodaeError, match=r"channels cannot be set here.*\(2, 100\)"):
        list(audiodae.clean_chunks([noise(2, 100)], sample_rate=RATE, model=denoiser, channels=2))


def test_a_chunk_of_another_layout_is_refused(denoiser):
    chunks = [noise(2, 100), noise(3, 100)]
    with pytest.raises(AudioError, match="channels=2"):
        list(audiodae.clean_chunks(chunks, sample_rate=16000, model=denoiser))


# ---------------------------------------------------------------------------------- event loops


@pytest.mark.parametrize("asynchronous", [True, False])
def test_the_async_generator_gives_the_same_chunks(denoiser, asynchronous):
    chunks = cut(noise(2, 9000), [500] * 17)

    async def microphone():
        for chunk in chunks:
            await asyncio.sleep(0)
            yield chunk

    async def cleaned():
        source = microphone() if asynchronous else chunks
        return [
            part async for part in audiodae.aclean_chunks(source, sample_rate=RATE, model=denoiser)
        ]

    expected = list(audiodae.clean_chunks(chunks, sample_rate=RATE, model=denoiser))
    for part, wanted in zip(asyncio.run(cleaned()), expected, strict=True):
        np.testing.assert_array_equal(part, wanted)


def test_nothing_in_place_of_a_chunk_is_refused_and_ends_no_stream(denoiser):
    chunks = [noise(1, 500)[0], None, noise(1, 500)[0]]

    async def cleaned():
        stream = audiodae.aclean_chunks(chunks, sample_rate=RATE, model=denoiser)
        return [part async for part in stream]

    with pytest.raises(AudioError, match="The audio is a NoneType"):
        list(audiodae.clean_chunks(chunks, sample_rate=RATE, model=denoiser))
    with pytest.raises(AudioError, match="The audio is a NoneType"):
        asyncio.run(cleaned())


def test_the_event_loop_stays_free_while_a_chunk_is_cleaned(denoiser):
    long = noise(1, 20 * 16000)[0]  # takes far longer than a tick of the clock below
    ticks = []

    async def clock():
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0.005)

    async def main():
        ticking = asyncio.create_task(clock())
        chunks = audiodae.aclean_chunks([long], sample_rate=16000, model=denoiser)
        began = time.perf_counter()
        _ = [chunk async for chunk in chunks]
        took = time.perf_counter() - began
        ticking.cancel()
        return took

    took = asyncio.run(main())
    assert max(np.diff(ticks)) < took / 2


def test_the_event_loop_stays_free_while_a_plain_source_is_waited_for(denoiser):
    told = threading.Event()

    def microphone():
        yield noise(1, 100)
        assert told.wait(timeout=20)  # for what only happens if the loop goes on
        yield noise(1, 100)

    async def main():
        async def tell():
            await asyncio.sleep(0.01)
            told.set()

        telling = asyncio.create_task(tell())
        chunks = audiodae.aclean_chunks(microphone(), sample_rate=16000, model=denoiser)
        parts = [chunk async for chunk in chunks]
        await telling
        return parts

    assert sum(part.shape[-1] for part in asyncio.run(main())) == 200


def test_quiet_sources_cost_only_themselves_and_whoever_waits_may_hang_up(denoiser):
    """They waited in the event loop's own threads, of which there are few."""
    never = threading.Event()

    def quiet():
        never.wait()
        yield noise(1, 100)

    async def listen(source):
        return [
            chunk
            async for chunk in audiodae.aclean_chunks(source, sample_rate=16000, model=denoiser)
        ]

    async def main():
        calls = [asyncio.create_task(listen(quiet())) for _ in range(40)]
        await asyncio.sleep(0.05)
        cleaned = await asyncio.wait_for(listen([noise(1, 100)]), timeout=20)
        for call in calls:
            call.cancel()
        return cleaned

    program = threading.Thread(target=lambda: done.append(asyncio.run(main())), daemon=True)
    done = []
    program.start()
    program.join(timeout=30)  # it does not wait for who is silent
    assert not program.is_alive() and done[0][0].shape == (1, 100)
    never.set()


def test_an_error_of_a_plain_source_comes_to_the_listener(denoiser):
    def breaks():
        yield noise(1, 100)
        raise OSError("the cable is out")

    async def main():
        async for _ in audiodae.aclean_chunks(breaks(), sample_rate=16000, model=denoiser):
            pass

    with pytest.raises(OSError, match="the cable is out"):
        asyncio.run(main())


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_model_s_name_and_an_engine_go_together(engine):
    chunks = audiodae.clean_chunks(
        [noise(1, 4000)], sample_rate=16000, model="speech-16k", engine=engine
    )
    assert sum(chunk.shape[-1] for chunk in chunks) == 4000


def test_a_listener_of_an_async_stream_may_leave(denoiser):
    async def main():
        chunks = audiodae.aclean_chunks(
            cut(noise(1, 50000), [5000] * 9), sample_rate=16000, model=denoiser
        )
        async for chunk in chunks:
            await chunks.aclose()
            return chunk

    assert asyncio.run(main()).shape[-1] > 0


WITHOUT_TORCH = """
import sys

class Gone:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Gone())
import asyncio, numpy, audiodae
from audiodae.live.live import Live
chunks = numpy.split(numpy.random.default_rng(0).uniform(-1, 1, 9000).astype("f4"), 9)

async def count():
    cleaned = audiodae.aclean_chunks(chunks, sample_rate=16000)
    return sum([chunk.size async for chunk in cleaned])

assert sum(chunk.size for chunk in audiodae.clean_chunks(chunks, sample_rate=16000)) == 9000
assert asyncio.run(count()) == 9000
live = Live(audiodae.load().stream(sample_rate=48000), 480)
live.start()
live.exchange(numpy.zeros((480, 1), "f4"), numpy.zeros((480, 1), "f4"))
live.stop()
assert live.tally.cleaned_samples == 480
try:
    audiodae.Denoise
except ImportError as error:
    assert "audiodae[torch]" in str(error), error
else:
    raise AssertionError("there is no torch")
"""


def test_chunks_and_live_sound_are_cleaned_without_torch():
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------- torch


class Recordings(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.transform(torch.from_numpy(noise(1, 4000, seed=index)))


def test_the_module_cleans_like_the_function(denoiser, model_path):
    module = audiodae.Denoise(RATE, model=model_path, mix=0.8, attenuation_limit_db=20.0)
    sound = torch.from_numpy(noise(2, 5000))
    expected = denoiser(sound, RATE, mix=0.8, attenuation_limit_db=20.0)
    assert torch.equal(module(sound), expected)
    assert torch.equal(module(sound[None])[0], expected)
    assert torch.equal(module(sound, 8000), denoiser(sound, 8000, mix=0.8, attenuation_limit_db=20))
    with pytest.raises(AudioError, match="swap the axes"):
        module(sound.T)
    with pytest.raises(AudiodaeError, match="mix is 7"):  # at once, not in a worker
        audiodae.Denoise(mix=7)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_a_module_without_a_model_cleans_each_rate_by_its_own(rate):
    sound = torch.from_numpy(noise(1, 9000))
    expected = audiodae.load(engine="torch")(sound, rate)
    assert torch.equal(audiodae.Denoise()(sound, rate), expected)
    assert torch.equal(audiodae.Denoise(rate)(sound), expected)
    with pytest.raises(AudiodaeError, match="chosen by the sample rate"):
        audiodae.Denoise()(sound)


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_a_cast_of_the_model_around_it_changes_nothing(model_path, cast):
    model = torch.nn.Sequential(audiodae.Denoise(model=model_path), torch.nn.Conv1d(1, 1, 3))
    sound = torch.from_numpy(noise(1, 3000))
    before = model[0](sound)
    getattr(model, cast)()
    assert torch.equal(model[0](sound), before)
    assert model[1].weight.dtype != torch.float32


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_autocast_around_it_changes_nothing(model_path, rate):
    module, sound = audiodae.Denoise(rate, model=model_path), torch.from_numpy(noise(1, 9000))
    with torch.autocast("cpu", torch.bfloat16):
        inside = module(sound)
    assert torch.equal(inside, module(sound))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_default_dtype_of_torch_changes_nothing(model_path, dtype):
    sound = torch.from_numpy(noise(1, 3000))
    before = audiodae.load(model_path, engine="torch")
    expected = before(sound)
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(before(sound), expected)
        assert torch.equal(audiodae.load(model_path, engine="torch")(sound), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_pickled_module_gives_the_same_bits(model_path):
    module = audiodae.Denoise(model=model_path)
    sound = torch.from_numpy(noise(1, 3000))
    assert torch.equal(pickle.loads(pickle.dumps(module))(sound), module(sound))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader_clean(model_path, start):
    if start not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {start} processes")
    recordings = Recordings(audiodae.Denoise(RATE, model=model_path))
    loader = DataLoader(recordings, batch_size=2, num_workers=1, multiprocessing_context=start)
    batches = torch.cat(list(loader))
    assert torch.equal(batches, torch.stack([recordings[i] for i in range(4)]))


def test_a_forked_process_cleans_after_the_first_has_with_several_threads(model_path):
    """In a program of its own: a process that waits for threads it has not would hang this one too."""
    program = f"""
import multiprocessing, numpy, torch, audiodae
torch.set_num_threads(2)
denoiser = audiodae.load({str(model_path)!r}, engine="torch")
sound = numpy.random.default_rng(1).standard_normal(64000).astype("f4") * 0.1
wanted = denoiser(sound, 16000)
def clean(sound):
    return denoiser(sound, 16000)
with multiprocessing.get_context("fork").Pool(1) as pool:
    cleaned = pool.apply_async(clean, (sound,)).get(timeout=60)
numpy.testing.assert_allclose(cleaned, wanted, atol=1e-5)
print(torch.get_num_threads())
"""
    if "fork" not in torch.multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork processes")
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.split() == ["2"], ran.stderr


def test_training_around_it_changes_nothing_and_its_weights_are_frozen(model_path):
    model = torch.nn.Sequential(audiodae.Denoise(model=model_path), torch.nn.Conv1d(1, 1, 3))
    sound = torch.from_numpy(noise(1, 3000))
    before = model[0](sound)
    model.train()
    assert torch.equal(model[0](sound), before)
    model(sound[None]).sum().backward()
    learned = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert learned == ["1.weight", "1.bias"]
    assert "sample_rate=16000" in repr(model)


def test_a_missing_model_is_named():
    with pytest.raises(AudiodaeError, match="nowhere"):
        audiodae.Denoise(model="nowhere.safetensors")


# --------------------------------------------------------------------------------- others' tools


def test_a_hugging_face_data_set_is_mapped(denoiser, tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs `pip install datasets`")
    sounds = [noise(1, 2000 + 100 * i, seed=i)[0] for i in range(3)]
    rows = datasets.Dataset.from_dict({"speech": sounds})
    rows = rows.with_format("numpy")
    cleaned = rows.map(
        lambda row: {"speech": denoiser(row["speech"], 16000)},
        cache_file_name=str(tmp_path / "cleaned.arrow"),
    )
    for row, sound in zip(cleaned, sounds, strict=True):
        np.testing.assert_array_equal(row["speech"], denoiser(sound, 16000))


def test_a_recogniser_hears_the_words_through_the_noise(tmp_path):
    weights = whisper_base(tmp_path)
    from faster_whisper import WhisperModel

    recogniser = WhisperModel(str(weights), compute_type="int8", cpu_threads=1)

    def heard(sound):
        segments, _ = recogniser.transcribe(sound, language="en", beam_size=1)
        return re.findall(r"[a-z]+", " ".join(s.text for s in segments).lower())

    said = heard(soundfile.read(DATA / "clean-speech.flac", dtype="float32")[0])
    noisy, sample_rate = soundfile.read(DATA / "noisy-speech.flac", dtype="float32")
    assert sample_rate == 16000
    words = heard(audiodae.load()(noisy, 16000, attenuation_limit_db=12.0))
    assert len(said) > 5
    assert len(set(said) & set(words)) >= 0.8 * len(set(said))
