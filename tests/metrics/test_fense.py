"""FENSE with small random models, saved as the published ones are."""

import importlib.util
import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")
from slap.metrics.captioning import caption_tools, fense
from slap.metrics.captioning.fense import ErrorClassifier, Fense, find_fense
from slap.metrics.captioning.ptb import MissingToolError

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "dog",
    "barks",
    "rain",
    "falls",
    "loud",
    "##ly",
    "on",
    "then",
]
WRITTEN = ["a dog barks", "rain falls on then", "a loudly dog"]
REFERENCES = [["a dog barks loudly", "the dog barks"], ["rain falls"], ["a dog", "loud rain", "dog"]]
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def bert(folder, seed):
    """A tiny BERT with its tokenizer, in the layout of transformers."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(str(folder))
    torch.manual_seed(seed)
    # With weights much larger than usual, or all texts would be alike to it.
    model = BertModel(BertConfig(vocab_size=len(WORDS), initializer_range=0.5, **SIZE)).eval()
    model.save_pretrained(str(folder))
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder that the user supplies, and the classifier in it."""
    folder = tmp_path_factory.mktemp("fense")
    sentences = folder / "paraphrase-tiny"
    bert(sentences, 0)
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    listed = [
        {"idx": i, "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (name, path, kind) in enumerate(modules)
    ]
    (sentences / "modules.json").write_text(json.dumps(listed))
    (sentences / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": false}')
    (sentences / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (sentences / "1_Pooling" / "config.json").write_text(json.dumps(pooling))

    classifier = ErrorClassifier(bert(folder / "bert-tiny", 1), 6).eval()
    with torch.no_grad():
        classifier.clf.bias[-1] = 2.0
    (folder / "bert-tiny" / "model.safetensors").unlink()  # the classifier's file has the weights
    state = {**classifier.state_dict(), "encoder.embeddings.position_ids": torch.arange(512)[None]}
    content = {"model_type": "someone/bert-tiny", "num_classes": 6, "state_dict": state}
    torch.save(content, folder / "echecker_tiny.ckpt")
    return folder, classifier


@pytest.fixture(scope="module")
def scorer(models):
    return Fense(models[0])


def oracle(models, written, references):
    """The paper's score, caption by caption, with transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    folder, classifier = models
    tokenizer = AutoTokenizer.from_pretrained(str(folder / "paraphrase-tiny"))
    encoder = AutoModel.from_pretrained(str(folder / "paraphrase-tiny")).eval()

    def embed(text):
        mean = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        return mean / mean.norm()

    scores = []
    with torch.no_grad():
        for caption, group in zip(written, references, strict=True):
            score = sum(float(embed(caption) @ embed(reference)) for reference in group) / len(group)
            error = classifier(dict(tokenizer(caption, return_tensors="pt")))[0, -1].sigmoid()
            scores.append(score * 0.1 if error > 0.9 else score)
    return scores


def test_scores_are_those_of_the_paper(models, scorer):
    expected = oracle(models, WRITTEN, REFERENCES)
    assert scorer.score(WRITTEN, REFERENCES) == pytest.approx(expected, abs=1e-5)
    broken = scorer.error_probabilities(WRITTEN) > 0.9
    assert 0 < broken.sum() < 3  # both kinds of captions are among them
    assert len(set(expected)) == 3


def test_batches_change_nothing(scorer, monkeypatch):
    together = scorer.score(WRITTEN, REFERENCES)
    monkeypatch.setattr(fense, "AT_ONCE", 1)
    assert scorer.score(WRITTEN, REFERENCES) == pytest.approx(together, abs=1e-5)


def test_the_record_says_which_models(models, scorer):
    assert scorer.settings["sentence_encoder"] == "paraphrase-tiny"
    assert scorer.settings["error_classifier"] == "echecker_tiny.ckpt"
    assert len(scorer.settings["error_classifier_sha256"]) == 64


def test_it_is_one_of_the_metrics_where_it_is_supplied(models, monkeypatch):
    monkeypatch.setattr("slap.metrics.captioning.ptb.find_spec", lambda name: None)
    monkeypatch.setenv("SLAP_FENSE", str(models[0]))
    tools = caption_tools()
    assert list(tools.scores(WRITTEN, REFERENCES)) == ["cider_d", "fense"]
    assert tools.settings["fense"]["sentence_encoder"] == "paraphrase-tiny"


def test_what_is_not_in_the_folder_is_said(models, tmp_path, monkeypatch):
    folder, _ = models
    monkeypatch.delenv("SLAP_FENSE", raising=False)
    with pytest.raises(FileNotFoundError, match=r"must hold one \*/modules.json, and there are: none"):
        find_fense(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder nowhere"):
        find_fense("nowhere")
    (tmp_path / "paraphrase-tiny").symlink_to(folder / "paraphrase-tiny")
    with pytest.raises(FileNotFoundError, match=r"must hold one \*.ckpt"):
        find_fense(tmp_path)
    (tmp_path / "echecker_tiny.ckpt").symlink_to(folder / "echecker_tiny.ckpt")
    with pytest.raises(
        FileNotFoundError, match=r"made from someone/bert-tiny, whose config\.json and tokenizer belong"
    ):
        find_fense(tmp_path)
    (tmp_path / "echecker_tiny.ckpt").unlink()
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no error classifier of FENSE"):
        find_fense(tmp_path)


def test_a_file_that_would_run_code_is_refused(models, tmp_path):
    (tmp_path / "paraphrase-tiny").symlink_to(models[0] / "paraphrase-tiny")
    torch.save({"model_type": print, "num_classes": 1, "state_dict": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="holds more than tensors and plain data"):
        find_fense(tmp_path)


def test_without_the_library_it_says_what_to_install(models, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(fense, "find_spec", lambda name: None if name == "sentence_transformers" else real(name))
    with pytest.raises(MissingToolError, match=r"pip install 'slap-audio\[fense\]'"):
        find_fense(models[0])
