"""Text encoders of transformers give what transformers itself gives, caption by caption."""

import pytest
import torch

import hub_models
from slap.core.registry import build
from slap.encoders.hf.text import HFText
from slap.testing import check_text_encoder
from slap.testing.tiny import CAPTIONS

transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")
tokenizers = pytest.importorskip("tokenizers")

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 60,
    "initializer_range": 0.5,
}
ROBERTA = transformers.RobertaConfig(**SHAPE, pad_token_id=1, bos_token_id=0, eos_token_id=2)
T5 = transformers.T5Config(d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, vocab_size=60, pad_token_id=0)
GPT2 = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=60, bos_token_id=0, eos_token_id=0)
CASES = {
    "bert": (transformers.BertForMaskedLM(transformers.BertConfig(**SHAPE)), "cls_token pad_token sep_token", (1, 3)),
    "roberta": (transformers.RobertaForMaskedLM(ROBERTA), "cls_token pad_token sep_token", (1, 3)),
    "t5": (transformers.T5ForConditionalGeneration(T5), "pad_token eos_token", (None, 2)),
    "gpt2": (transformers.GPT2LMHeadModel(GPT2), "bos_token eos_token", (1, 2)),
}
"""By type of model: with the heads that its checkpoints have, its special tokens, and which begins and ends texts."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind, (model, specials, ends) in CASES.items():
        made[kind] = str(tmp_path_factory.mktemp(kind))
        model.save_pretrained(made[kind])
        tokenizer(specials.split(), ends).save_pretrained(made[kind])
    return made


def tokenizer(specials, ends):
    names = [f"<{name}>" for name in specials]
    words = [*names, "<unk>", ",", *sorted({word for line in CAPTIONS for word in line.split()})]
    ids = {word: i for i, word in enumerate(words)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, "<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    first, last = (None if end is None else names[end - 1] for end in ends)
    template = " ".join(part for part in (first, "$A", last) if part)
    model.post_processor = tokenizers.processors.TemplateProcessing(
        template, special_tokens=[(name, ids[name]) for name in names]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="<unk>", **dict(zip(specials, names, strict=True))
    )


@pytest.mark.parametrize("kind", CASES)
def test_equals_transformers(kind, folders):
    """Ours as a batch, theirs caption by caption as their own tokenizer gives it; T5's lacks our first token."""
    encoder = HFText(pretrained=folders[kind]).eval()
    own = transformers.AutoTokenizer.from_pretrained(folders[kind])
    model = transformers.AutoModel.from_pretrained(folders[kind], attn_implementation="eager").eval()
    model = model.get_encoder() if kind == "t5" else model
    with torch.no_grad():
        features = encoder(encoder.tokenize(CAPTIONS)).unpack()
        for caption, mine in zip(CAPTIONS, features, strict=True):
            ids = own(caption, return_tensors="pt").input_ids
            theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            assert len(mine) - len(theirs) == (kind == "t5")
            torch.testing.assert_close(mine[len(mine) - len(theirs) :], theirs, atol=1e-5, rtol=0)


def test_the_promises_of_text_encoders_where_the_first_token_is_foreign(folders):
    encoder = HFText(pretrained=folders["t5"])
    assert encoder.tokenizer.foreign
    check_text_encoder(encoder)


@pytest.mark.parametrize("kind", CASES)
def test_a_checkpoint_needs_no_folder(kind, folders, tmp_path, monkeypatch):
    options = {"pretrained": folders[kind], "max_tokens": 33}
    encoder = HFText(**options).eval()
    torch.save({"options": encoder.portable(options), "state": encoder.state_dict()}, tmp_path / "model.pt")
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", None)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", None)
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert folders[kind] not in str(saved["options"])
    rebuilt = build("text encoder", "hf-text", saved["options"]).eval()
    rebuilt.load_state_dict(saved["state"])
    assert (rebuilt.max_tokens, rebuilt.bos, rebuilt.eos) == (33, encoder.bos, encoder.eos)
    assert rebuilt.lr_scale("") == encoder.lr_scale("") == 0.1
    tokens = encoder.tokenize(CAPTIONS)
    assert rebuilt.tokenize(CAPTIONS).values.equal(tokens.values)
    with torch.no_grad():
        assert rebuilt(tokens).values.equal(encoder(tokens).values)


def test_captions_that_are_too_long_are_cut_off(folders):
    encoder = HFText(pretrained=folders["bert"], max_tokens=5)
    tokens = encoder.tokenize(["a dog barks while a man is speaking", ""])
    assert tokens.sizes == (5, 2)
    assert encoder.detokenize(tokens) == ["a dog barks", ""]


def test_what_cannot_be_a_text_encoder_says_why(folders, tmp_path):
    with pytest.raises(ValueError, match="pass `pretrained` or `config`"):
        HFText()
    with pytest.raises(ValueError, match="give one of them, not pretrained='x' and config="):
        HFText(pretrained="x", config={"model_type": "bert"})
    with pytest.raises(ValueError, match="needs the `model_type` of a model in transformers"):
        HFText(config={"model_type": "brt"})
    with pytest.raises(ValueError, match=r"the configuration of 'bert' has no hiden_size; it has: .*hidden_size"):
        HFText(config={"model_type": "bert", "hiden_size": 3})
    with pytest.raises(ValueError, match="max_tokens is 600, but the model reads 512 at most"):
        HFText(pretrained=folders["bert"], max_tokens=600)
    with pytest.raises(ValueError, match="tokens, the text encoder room for 9"):
        HFText(config={"model_type": "bert", **SHAPE, "vocab_size": 9}, tokenizer=folders["bert"])
    with pytest.raises(ValueError, match="'clap' is no text model; pass the name of its text model"):
        HFText(config={"model_type": "clap", "text_config": SHAPE, "audio_config": hub_models.CLAP})
    with pytest.raises(RuntimeError, match="has no tokenizer: pass `pretrained`"):
        HFText(config={"model_type": "bert", **SHAPE}).tokenize(["a dog"])
