"""A model in sentence-transformers: the same embeddings, its trainer and losses, its evaluators, and the way back."""

import numpy as np
import pytest
import torch

import slap
import tree_tools as tools
from slap.core.errors import UserError
from slap.testing.tiny import tiny_checkpoint

pytest.importorskip("sentence_transformers", "5.4", reason="needs the extra sentence-transformers")
pytestmark = [pytest.mark.filterwarnings("ignore:::transformers"), pytest.mark.filterwarnings("ignore:::torch")]

from datasets import Dataset  # noqa: E402
from sentence_transformers import (  # noqa: E402
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator  # noqa: E402
from sentence_transformers.sentence_transformer.losses import (  # noqa: E402
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)

from slap.inference.sentence_transformer import as_sentence_transformer  # noqa: E402

TEXTS = ["a dog barks", "rain falls on a roof", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An exported model, four sounds, and one with a suffix that the library does not know."""
    folder = tmp_path_factory.mktemp("exported")
    tiny_checkpoint(folder / "model.ckpt")
    slap.load(folder / "model.ckpt", device="cpu").save_pretrained(folder / "model", allow_collapsed=True)
    for number, name in enumerate(("a.wav", "b.flac", "c.ogg", "d.wav", "e.aiff")):
        tools.tone(folder / name, 0.2 + 0.1 * number, 16_000, pitch=200 + 300 * number)
    return folder


@pytest.fixture(scope="module")
def sounds(folder):
    return [str(folder / name) for name in ("a.wav", "b.flac", "c.ogg", "d.wav")]


@pytest.fixture(scope="module")
def model(folder):
    return slap.load(folder / "model", device="cpu")


@pytest.fixture
def theirs(folder):
    options = {"trust_remote_code": True, "local_files_only": True, "device": "cpu"}
    return SentenceTransformer(str(folder / "model"), **options)


def test_embeddings_are_those_of_the_model(model, theirs, sounds):
    assert theirs.modalities == ["text", "audio"]
    assert theirs.get_embedding_dimension() == model.embedding_dim
    np.testing.assert_allclose(theirs.encode(sounds), model.embed_audio(sounds), atol=1e-5)
    np.testing.assert_allclose(theirs.encode(TEXTS), model.embed_text(TEXTS), atol=1e-5)
    np.testing.assert_allclose(theirs.encode(TEXTS[:1], prompt="now "), model.embed_text("now a dog barks"), atol=1e-5)
    cosines = theirs.similarity(theirs.encode(sounds), theirs.encode(TEXTS))
    torch.testing.assert_close(cosines, model.similarity(sounds, TEXTS), atol=1e-5, rtol=0)


def test_inputs_of_all_kinds(model, theirs, sounds, folder):
    wave = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) - 0.5
    expected = model.embed_audio(wave)[0]
    for item in (wave, wave.numpy(), {"array": wave.numpy(), "sampling_rate": 16_000}, {"audio": wave}):
        np.testing.assert_allclose(theirs.encode([item])[0], expected, atol=1e-5)
    odd, known = str(folder / "e.aiff"), sounds[0]
    np.testing.assert_allclose(theirs.encode(odd), model.embed_audio(odd)[0], atol=1e-5)
    np.testing.assert_allclose(theirs.encode([{"audio": odd}, known]), model.embed_audio([odd, known]), atol=1e-5)
    long = torch.rand(round(16_000 * model.max_seconds * 2.5), generator=torch.Generator().manual_seed(1)) - 0.5
    np.testing.assert_allclose(theirs.encode([long, wave]), model.embed_audio([long, wave]), atol=1e-5)
    np.testing.assert_allclose(theirs.encode({"text": sounds[0]}), model.embed_text(sounds[0])[0], atol=1e-5)


def test_what_cannot_be_embedded_is_refused(theirs, sounds, folder, tmp_path):
    odd = str(folder / "e.aiff")
    for wrong, message in (([sounds[0], "rain"], "in a single batch"), ([odd, "rain"], "got both in one batch")):
        with pytest.raises(ValueError, match=message):
            theirs.encode(wrong)
    for wrong, message in ((["rain", " "], "a str with a word"), ([("rain", "dog")], "got 2 texts")):
        with pytest.raises(UserError, match=message):
            theirs.encode(wrong)
    with pytest.raises(slap.AudioError, match="nowhere"):
        theirs.encode([{"audio": str(tmp_path / "nowhere.wav")}])
    with pytest.raises(slap.AudioError, match="example"):
        theirs.encode(["https://example.org/a.wav"])
    with pytest.raises(UserError, match="no argument processing_kwargs"):
        theirs.preprocess(["rain"], processing_kwargs={"text": {"max_length": 3}})
    with pytest.raises(UserError, match="safetensors alone"):
        theirs.save(str(tmp_path / "pickled"), safe_serialization=False)


def test_a_folder_needs_the_word_of_its_user(folder):
    """What `modules.json` names is imported, so the library asks; a model that is loaded here needs no such word."""
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(folder / "model"), local_files_only=True, device="cpu")
    own = as_sentence_transformer(slap.load(folder / "model.ckpt", device="cpu"))
    assert own.encode(["rain"]).shape == (1, own.get_embedding_dimension())


@pytest.mark.slow
@pytest.mark.parametrize("loss", [MultipleNegativesRankingLoss, CachedMultipleNegativesRankingLoss])
def test_its_trainer_trains_both_sides_and_its_evaluator_ranks(loss, theirs, model, sounds, tmp_path):
    captions = [f"tone {number}" for number in range(4)]
    relevant = {str(number): {str(number)} for number in range(4)}
    names = [str(number) for number in range(4)]
    rank = InformationRetrievalEvaluator(
        dict(zip(names, captions, strict=True)), dict(zip(names, sounds, strict=True)), relevant, name="t2a"
    )
    data = Dataset.from_dict({"anchor": sounds, "positive": captions})
    options = {"mini_batch_size": 2} if loss is CachedMultipleNegativesRankingLoss else {}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=8,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=2,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=4,
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = SentenceTransformerTrainer(theirs, arguments, data, data, loss(theirs, **options), evaluator=rank)
    trainer.train()
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert losses[-1] < losses[0]
    assert any("eval_t2a_cosine_recall@1" in entry and "eval_loss" in entry for entry in history)
    theirs.save_pretrained(str(tmp_path / "tuned"))
    again = slap.load(tmp_path / "tuned", device="cpu")
    assert again.name != model.name
    for mine, other, before in (
        (again.embed_audio(sounds), theirs.encode(sounds), model.embed_audio(sounds)),
        (again.embed_text(captions), theirs.encode(captions), model.embed_text(captions)),
    ):
        np.testing.assert_allclose(mine, other, atol=1e-5)
        assert not torch.allclose(mine, before, atol=1e-3)
    reloaded = SentenceTransformer(str(tmp_path / "tuned"), trust_remote_code=True, local_files_only=True, device="cpu")
    np.testing.assert_allclose(reloaded.encode(captions), theirs.encode(captions), atol=1e-6)
