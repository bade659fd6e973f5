"""A trained model in use: any audio in, the same answer every time, errors that name what is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.functional import normalize

import slap
from slap.audio.reader import AudioError, read
from slap.core.calibration import Calibration
from slap.core.decoding import Decoding
from slap.core.packed import Packed
from slap.core.windows import hop_of, windows
from slap.inference.scores import Score
from slap.testing.tiny import tiny_checkpoint

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("use")


@pytest.fixture(scope="module")
def trained(folder):
    return tiny_checkpoint(folder / "model.ckpt")


@pytest.fixture(scope="module")
def model(folder, trained):
    return slap.load(folder / "model.ckpt", device="cpu")


@pytest.fixture(scope="module")
def clips(folder):
    """Files of several lengths and rates, the longest beyond the trained maximum."""
    generator = torch.Generator().manual_seed(0)
    paths = []
    for i, (seconds, rate, channels) in enumerate(
        [(0.7, 16_000, 1), (1.9, 44_100, 2), (0.05, 8000, 1), (5.3, 22_050, 1)]
    ):
        path = folder / f"clip{i}.wav"
        soundfile.write(path, (torch.rand(round(seconds * rate), channels, generator=generator) - 0.5).numpy(), rate)
        paths.append(path)
    return paths


# -- embeddings -------------------------------------------------------------------------------------------------------


def test_embeddings_are_those_of_the_trained_module(model, trained):
    audio = [torch.rand(n, generator=torch.Generator().manual_seed(n)) - 0.5 for n in (1, 800, 20_000)]
    with torch.no_grad():
        expected = trained.embed_audio(Packed.pack(audio))
        text = trained.embed_captions(["a dog barks", "rain"])
    torch.testing.assert_close(model.embed_audio(audio), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.embed_text(["a dog barks", "rain"]), text, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.similarity(audio, ["a dog barks", "rain"]), expected @ text.T, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_seconds", [0.1, 1.0, 2.5, 100.0])
def test_alone_or_in_any_batch_and_in_the_order_given(model, clips, batch_seconds):
    alone = torch.cat([model.embed_audio(clip) for clip in clips])
    assert alone.shape == (len(clips), model.embedding_dim)
    assert (alone @ alone.T).fill_diagonal_(0).max() < 1 - 1e-5  # the clips do differ
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 2, 3]):
        together = model.embed_audio([clips[i] for i in order], batch_seconds)
        torch.testing.assert_close(together, alone[order], rtol=0, atol=1e-5)
    assert torch.equal(model.embed_audio(clips), model.embed_audio(clips))


def test_long_audio_is_the_merge_of_its_windows(model):
    rate, window = model.sample_rate, round(model.max_seconds * model.sample_rate)
    assert model.max_seconds == 2.0
    audio = torch.rand(round(5.3 * rate), generator=torch.Generator().manual_seed(5)) - 0.5
    spans = windows(len(audio), window, hop_of(window))
    assert len(spans) > 3
    parts = model.embed_audio([audio[start:stop] for start, stop in spans])
    expected = torch.zeros(model.embedding_dim)
    cover = torch.zeros(len(audio))
    for start, stop in spans:
        cover[start:stop] += 1
    for (start, stop), part in zip(spans, parts, strict=True):
        expected += part * (1 / cover[start:stop]).sum()
    torch.testing.assert_close(model.embed_audio(audio)[0], normalize(expected, dim=0), rtol=0, atol=1e-5)


def test_up_to_the_maximum_it_is_one_pass(model, trained):
    audio = torch.rand(2 * model.sample_rate, generator=torch.Generator().manual_seed(6)) - 0.5
    with torch.no_grad():
        torch.testing.assert_close(
            model.embed_audio(audio), trained.embed_audio(Packed.pack([audio])), rtol=0, atol=1e-6
        )


def test_the_same_sound_however_it_is_given(model, clips):
    samples, rate = soundfile.read(clips[1], dtype="int16")
    forms = [clips[1], str(clips[1]), (samples, rate), (samples.T, rate), (torch.tensor(samples), rate)]
    forms.append((samples.astype(np.float64) / 32768, rate))
    rows = model.embed_audio(forms)
    torch.testing.assert_close(rows, rows[:1].expand(len(rows), -1), rtol=0, atol=1e-5)


def test_one_sample_is_enough(model):
    assert model.embed_audio(torch.zeros(1)).shape == (1, model.embedding_dim)


def test_nothing_gives_nothing(model):
    assert model.embed_audio([]).shape == (0, model.embedding_dim)
    assert model.embed_text([]).shape == (0, model.embedding_dim)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(0), "recording 1 holds no samples"),
        (torch.tensor([0.0, float("nan")]), "recording 1 has a sample that is nan, number 1"),
        (np.zeros(100), "recording 1 is an array without its rate; pass a path, .*at 16000 Hz"),
        ((np.zeros(100), 1), "recording 1 needs a sample rate"),
        ((None, 16_000), "recording 1 is no array"),
        (3, "recording 1 is a number"),
        ("nowhere.wav", "there is no file nowhere.wav"),
    ],
)
def test_errors_name_the_recording(model, bad, message):
    good = torch.zeros(100)
    with pytest.raises(AudioError, match=message):
        model.embed_audio([good, bad])
    failed = [done for done in model.stream([good, bad, good]) if done.error is not None]
    assert [done.index for done in failed] == [1]
    assert {done.index for done in model.stream([good, bad, good]) if done.result is not None} == {0, 2}


def test_a_file_that_breaks_off_late_fails_alone(model, clips, folder):
    broken = folder / "broken.wav"
    rate = 8000
    samples = np.zeros(5 * rate, np.float32)
    samples[-1] = np.nan
    soundfile.write(broken, samples, rate, subtype="FLOAT")
    found = {done.name: done for done in model.stream([broken, clips[0]], batch_seconds=0.5)}
    assert "sample that is nan" in str(found[str(broken)].error)
    torch.testing.assert_close(found[str(clips[0])].result[None], model.embed_audio(clips[0]))


@pytest.mark.parametrize(("texts", "error"), [(["a", " "], ValueError), (["a", 3], TypeError)])
def test_texts_that_are_none(model, texts, error):
    with pytest.raises(error, match="text 1 is"):
        model.embed_text(texts)


# -- classification ---------------------------------------------------------------------------------------------------


def test_classes_come_best_first_with_shares_of_the_learnt_scale(model, clips, trained):
    labels = ["dog", "rain", "two_birds"]
    found = model.classify(clips, labels, prompts=["the sound of {label}", "{label}"])
    scale = float(trained.objectives["contrastive"].log_scale.detach().exp())
    for scores, clip in zip(found, clips, strict=True):
        assert [score.cosine for score in scores] == sorted((score.cosine for score in scores), reverse=True)
        for score in scores:
            name = score.label.replace("_", " ")
            direction = normalize(model.embed_text([f"the sound of {name}", name]).mean(0), dim=0)
            assert score.cosine == pytest.approx(float(model.embed_audio(clip)[0] @ direction), abs=1e-5)
        expected = (torch.tensor([score.cosine for score in scores]) * scale).softmax(0)
        assert [score.share for score in scores] == pytest.approx(expected.tolist(), abs=1e-5)
        assert {score.probability for score in scores} == {None}  # a share of those given is none


def test_probabilities_of_a_sigmoid_model(folder):
    tiny_checkpoint(folder / "sigmoid.ckpt", {"sigmoid": {"scale": 5.0, "bias": -2.0}})
    model = slap.load(folder / "sigmoid.ckpt", device="cpu")
    (scores,) = model.classify(torch.zeros(4000), ["dog", "rain"])
    for score in scores:
        assert score.probability == pytest.approx(1 / (1 + np.exp(-(5 * score.cosine - 2))), abs=1e-6)


def test_a_model_that_learnt_no_scale_has_no_probabilities_until_calibrated(folder, clips):
    tiny_checkpoint(folder / "none.ckpt", {"captioning": {"layers": 1, "heads": 2, "width": 32, "hidden": 64}})
    model = slap.load(folder / "none.ckpt", device="cpu")
    assert model.classify(clips[0], ["dog", "rain"])[0][0].probability is None
    model.calibrate(clips, ["dog", "rain", "dog", "dog"], ["dog", "rain"])
    assert isinstance(model.classify(clips[0], ["dog", "rain"])[0][0].probability, float)


@pytest.mark.parametrize(
    ("labels", "prompts", "message"),
    [([], "{label}", "one or more"), (["a", "a"], "{label}", "different"), (["a"], "no place", "must hold {label}")],
)
def test_labels_that_make_no_sense(model, labels, prompts, message):
    with pytest.raises(ValueError, match=message):
        model.classify(torch.zeros(100), labels, prompts)


def test_the_fitted_scale_is_the_most_probable_one():
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(200, 5, generator=generator) * 2 - 1
    truth = torch.multinomial((cosines * 7).softmax(1), 1, generator=generator)[:, 0]  # the true scale is 7
    fitted = Calibration("sigmoid", 100.0, 3.0).fit(cosines, truth)
    grid = torch.linspace(1, 20, 400)
    losses = torch.stack([torch.nn.functional.cross_entropy(cosines * scale, truth) for scale in grid])
    assert fitted.kind == "softmax"
    assert fitted.scale == pytest.approx(float(grid[losses.argmin()]), abs=0.1)
    assert fitted.scale == pytest.approx(7, abs=1.5)


def test_calibrating_names_labels_that_are_none(model, clips):
    with pytest.raises(ValueError, match=r"among them \['cat'\]"):
        model.calibrate(clips[:2], ["dog", "cat"], ["dog", "rain"])


# -- loading ----------------------------------------------------------------------------------------------------------


def test_a_model_is_named_by_its_content(model, folder):
    assert slap.load(folder / "model.ckpt").name == model.name
    tiny_checkpoint(folder / "other.ckpt", seed=1)
    assert slap.load(folder / "other.ckpt").name != model.name


def test_what_only_training_needs_is_left_out(folder):
    objectives = {"contrastive": 1.0, "masked_distillation": {"prototypes": 16, "hidden": 16, "bottleneck": 8}}
    tiny_checkpoint(folder / "teacher.ckpt", objectives)
    backend = slap.load(folder / "teacher.ckpt").backend
    assert list(backend.network.objectives) == ["contrastive"]
    assert backend.network.teacher is None
    assert backend.absent == {"masked_distillation": "only training needs it"}


def test_a_checkpoint_without_its_maximum_takes_the_papers(folder):
    tiny_checkpoint(folder / "old.ckpt", max_seconds=None)
    assert slap.load(folder / "old.ckpt").max_seconds == 30.0


class Payload:
    def __reduce__(self):
        return print, ("this must not run",)


def test_a_checkpoint_cannot_run_code(folder, capfd):
    content = torch.load(folder / "model.ckpt", weights_only=True)
    torch.save({**content, "payload": Payload()}, folder / "evil.ckpt")
    for trust in (False, True):
        with pytest.raises(ValueError, match="holds more than tensors and plain data"):
            slap.load(folder / "evil.ckpt", trust=trust)
    assert "must not run" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("https://example.org/model.ckpt", ValueError, "is an address"),
        ("file:///model.ckpt", ValueError, "is an address"),
        ("nowhere.ckpt", ValueError, "there is no model nowhere.ckpt.*a checkpoint of training.*`slap export`"),
    ],
)
def test_what_is_not_loaded(path, error, message):
    with pytest.raises(error, match=message):
        slap.load(path)


def test_other_and_damaged_files(folder):
    (folder / "weights.bin").write_bytes(b"abc")
    (folder / "cut.ckpt").write_bytes((folder / "model.ckpt").read_bytes()[:5000])
    torch.save({"state_dict": {}}, folder / "foreign.ckpt")
    (folder / "empty").mkdir()
    for name, message in [
        ("weights.bin", "no checkpoint"),
        ("cut.ckpt", "cut off, damaged, or no checkpoint"),
        ("foreign.ckpt", "lacks hyper_parameters"),
        ("empty", "holds no model"),
    ]:
        with pytest.raises(ValueError, match=message):
            slap.load(folder / name)


def test_weights_that_do_not_fit(folder):
    content = torch.load(folder / "model.ckpt", weights_only=True)
    del content["state_dict"]["audio_pool.query"]
    torch.save(content, folder / "lacking.ckpt")
    with pytest.raises(ValueError, match=r"missing are .*audio_pool\.query"):
        slap.load(folder / "lacking.ckpt")


def test_use_does_not_wait_for_lightning(folder, model):
    code = (
        "import sys, slap, torch\n"
        f"model = slap.load({str(folder / 'model.ckpt')!r}, device='cpu')\n"
        "model.classify(torch.zeros(40000), ['dog', 'rain'])\n"
        "heavy = ('lightning', 'torchmetrics', 'lhotse', 'torch._dynamo', 'transformers', 'matplotlib', 'scipy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.skipif(not SHARED.exists(), reason="the real recordings are not here")
def test_real_recordings(model):
    paths = [*sorted(SHARED.glob("fsdd/recordings/7_*_1.wav")), *sorted(SHARED.glob("esc10/*/1-*.ogg"))[:3]]
    rows = model.embed_audio(paths)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(paths)))
    torch.testing.assert_close(rows, torch.cat([model.embed_audio(path) for path in paths]), rtol=0, atol=1e-5)
    assert isinstance(model.classify(paths[0], ["seven", "rain"])[0][0], Score)


# -- captions ---------------------------------------------------------------------------------------------------------


def test_captions_are_what_the_decoder_writes(model, trained, clips):
    short = [clips[i] for i in (0, 1, 2)]
    audio = [torch.from_numpy(read(path, model.sample_rate)) for path in short]
    with torch.no_grad():
        dense = trained.audio(trained.audio.patchify(Packed.pack(audio)))
        for beam in (1, 3):
            tokens = trained.objectives["captioning"].generate(dense, Decoding(12, beam))
            expected = trained.text.detokenize(tokens)
            assert model.caption(short, beam=beam, max_length=12) == expected
    assert model.caption(short[::-1], max_length=12, batch_seconds=0.1) == model.caption(short, max_length=12)[::-1]


def test_a_drawn_caption_depends_on_seed_and_recording_alone(model, clips, capsys):
    options = {"top_p": 0.95, "temperature": 1.3, "max_length": 12}
    torch.manual_seed(0)
    together = model.caption(clips, seed=1, progress=True, **options)
    assert "4/4" in capsys.readouterr().err
    torch.manual_seed(1)
    assert model.caption(clips[::-1], seed=1, batch_seconds=0.1, **options) == together[::-1]
    assert [model.caption(clip, seed=1, **options)[0] for clip in clips] == together
    assert model.caption(clips, seed=2, **options) != together
    assert len(set(together)) == len(clips)
    with pytest.raises(ValueError, match="a beam or top_p"):
        model.caption(clips, beam=2, top_p=0.5)


def test_captions_come_with_the_embeddings_of_their_clips(model, clips):
    audio = [torch.from_numpy(read(path, model.sample_rate)) for path in clips[:3]]
    texts, embeddings = model.backend.write(audio, Decoding(8))
    assert len(texts) == 3
    assert torch.equal(embeddings, model.backend.encode_audio(audio))


def test_a_long_recording_gets_the_most_fitting_of_its_windows_captions(model, clips):
    audio = torch.from_numpy(read(clips[3], model.sample_rate))
    window = round(model.max_seconds * model.sample_rate)
    spans = windows(len(audio), window, hop_of(window))
    candidates = model.caption([audio[start:stop] for start, stop in spans], max_length=8)
    fits = model.similarity(audio, [text or " " for text in candidates])[0] if all(candidates) else torch.zeros(1)
    assert model.caption(clips[3], max_length=8) == [candidates[int(fits.argmax())]]


def test_a_model_without_captioning_says_so(folder):
    tiny_checkpoint(folder / "mute.ckpt", {"contrastive": 1.0})
    with pytest.raises(ValueError, match="no captioning objective: it was not trained with one"):
        slap.load(folder / "mute.ckpt").caption(torch.zeros(100))


# -- hours ------------------------------------------------------------------------------------------------------------

HOUR = """
import resource, sys, slap
from slap.testing.tiny import tiny_model
from slap.inference.network_backend import NetworkBackend
model = slap.Model(NetworkBackend(tiny_model(), {}, max_seconds=30.0))
model.embed_audio(sys.argv[1], batch_seconds=60)
model.frames(sys.argv[1], ["rain"], hop=0.01)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.embed_audio(sys.argv[2], batch_seconds=60)
between = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(model.frames(sys.argv[2], ["rain"], hop=0.01).times))
print((between - before) / 1024, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_minutes(tmp_path):
    rate, rng = 11_025, np.random.default_rng(0)
    block = rng.integers(-9000, 9000, 60 * rate).astype(np.int16)
    for name, minutes in (("short.wav", 3), ("hour.wav", 60)):
        with soundfile.SoundFile(tmp_path / name, "w", rate, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(block)
    paths = [str(tmp_path / name) for name in ("short.wav", "hour.wav")]
    done = subprocess.run([sys.executable, "-c", HOUR, *paths], capture_output=True, text=True, check=True)
    frames, growth = done.stdout.splitlines()
    assert int(frames) == 360_000
    embedding, listening = map(float, growth.split())
    assert embedding < 30  # MiB; the hour is 151 MiB of float32 samples at 11 kHz
    assert listening < 60  # with the similarity of 360,000 frames
