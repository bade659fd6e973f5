"""ModernBERT equals transformers' own on padded batches, and checkpoints need neither hub nor folder."""

import copy
import pickle
import sys

import pytest
import torch

from slap import Packed
from slap.core.registry import build
from slap.encoders.hf.modernbert import SIZES, ModernBERT
from slap.testing import check_text_encoder

transformers = pytest.importorskip("transformers", reason="needs the extra `hf`")
tokenizers = pytest.importorskip("tokenizers")

CAPTIONS = [
    "A dog barks",
    "",
    "rain falls on a tin roof while two birds sing, again and again 😀",
    "كلب",
    "a man speaks",
]
SMALL = {**SIZES["tiny"], "vocab_size": 64, "pad_token_id": None}
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a model by `save_pretrained`: 4 layers, width 32, windows of 3 tokens to either side, in bfloat16."""
    folder = tmp_path_factory.mktemp("modernbert")
    fast(
        tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    ).save_pretrained(folder)
    ids = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    config = transformers.ModernBertConfig(
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        local_attention=6,
        initializer_range=0.5,
        **ids,
    )
    torch.manual_seed(0)
    transformers.ModernBertForMaskedLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def fast(processor=None):
    """Make a byte-level tokenizer like ModernBERT's, of 4 + 256 + some pieces."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(CAPTIONS, trainer)
    if processor is not None:
        model.post_processor = processor
    model.enable_truncation(5)  # as files of sentence encoders have it: it must not shorten captions here
    names = {f"{word}_token": f"[{word.upper()}]" for word in ("unk", "cls", "sep", "pad", "mask")}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model, **names)


@pytest.fixture(scope="module")
def encoder(folder):
    return ModernBERT(pretrained=str(folder))


@pytest.fixture(scope="module")
def reference(folder):
    """transformers' own attention, over a padded batch."""
    model = transformers.ModernBertModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def padded(batch, model):
    """Rows of a padded batch with an attention mask, back in packed order."""
    items = batch.unpack()
    ids = torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=3)
    mask = torch.arange(ids.shape[1]) < batch.lengths[:, None]
    return model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask]


def gradients(model, outputs, weights):
    model.zero_grad()
    (outputs * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def close(mine, theirs):
    assert mine.keys() == theirs.keys()
    for name in mine:
        scale = theirs[name].abs().max()
        assert scale > 0, f"{name} gets no gradient"
        torch.testing.assert_close(mine[name] / scale, theirs[name] / scale, atol=1e-5, rtol=0, msg=name)


def test_the_promises_of_text_encoders(encoder):
    check_text_encoder(encoder)


def test_equals_transformers_on_a_padded_batch(encoder, reference):
    """Values and gradients, with captions longer than the window, so that local and global layers differ."""
    batch = encoder.tokenize(CAPTIONS)
    assert batch.max_length > 20
    weights = torch.randn(len(batch.values), encoder.width)
    ours, theirs = encoder(batch).values, padded(batch, reference)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    close(gradients(encoder.model, ours, weights), gradients(reference, theirs, weights))


def test_a_packed_batch_equals_its_captions_one_by_one(encoder):
    batch = encoder.tokenize(CAPTIONS)
    weights = torch.randn(len(batch.values), encoder.width)
    together = encoder(batch).values
    alone = torch.cat([encoder(encoder.tokenize([caption])).values for caption in CAPTIONS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    close(gradients(encoder, together, weights), gradients(encoder, alone, weights))


def test_word_order_matters(encoder):
    tokens = encoder.tokenize(["a man speaks"])
    swapped = tokens.replace(tokens.values[[0, *range(len(tokens.values) - 2, 0, -1), -1]])
    assert (encoder(tokens).values.mean(0) - encoder(swapped).values.mean(0)).abs().max() > 0.05


def test_recomputing_activations_changes_nothing(folder, encoder):
    other = ModernBERT(pretrained=str(folder), checkpointing=True)
    passes = []
    other.model.layers[1].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
    batch = encoder.tokenize(CAPTIONS)
    weights = torch.randn(len(batch.values), encoder.width)
    close(gradients(other, other(batch).values, weights), gradients(encoder, encoder(batch).values, weights))
    assert len(passes) == 2


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_tokens_are_those_of_transformers(folder, encoder):
    expected = transformers.AutoTokenizer.from_pretrained(folder)
    batch = encoder.tokenize(CAPTIONS)
    assert [item.tolist() for item in batch.unpack()] == expected(CAPTIONS, truncation=False)["input_ids"]
    assert batch.values.dtype == torch.int64
    assert (encoder.bos, encoder.eos, encoder.vocab_size) == (1, 2, 320)
    assert encoder.detokenize(batch) == CAPTIONS


def test_special_tokens_in_a_caption_are_text(encoder):
    batch = encoder.tokenize(["a [SEP] b [MASK]"])
    assert not set(batch.values[1:-1].tolist()) & set(range(len(SPECIAL)))
    assert encoder.detokenize(batch) == ["a [SEP] b [MASK]"]


def test_decoding_leaves_out_ids_without_a_token(encoder):
    assert encoder.detokenize(Packed.pack([torch.tensor([1, 319, *encoder.tokenize(["dog"]).values, 2, 3])])) == ["dog"]


@pytest.mark.parametrize("text", ["x" * 10_000, "مطر " * 2500, "🌧" * 300], ids=["latin", "arabic", "emoji"])
def test_long_captions_are_cut_off_and_still_end(encoder, text):
    assert encoder.tokenize([text]).sizes == (128,)
    assert encoder.tokenize([text]).values[-1] == encoder.eos
    with pytest.raises(ValueError, match="max_tokens must be at least 3"):
        ModernBERT(size="tiny", max_tokens=2)


# -- where it comes from ----------------------------------------------------------------------------------------------


def test_base_is_the_published_shape():
    """22 layers of width 768 (attention, gated feed-forward, two norms but for the first), embedding and final norm."""
    with torch.device("meta"):
        model = transformers.ModernBertModel(transformers.ModernBertConfig(**SIZES["base"]))
    layer = 4 * 768 * 768 + 3 * 768 * 1152 + 2 * 768
    assert sum(p.numel() for p in model.parameters()) == 50368 * 768 + 22 * layer - 768 + 768 + 768


def test_random_weights_take_the_vocabulary_of_their_tokenizer(folder):
    model = ModernBERT(size="tiny", tokenizer=str(folder))
    assert (model.width, model.vocab_size, model.bos, model.eos) == (128, model.tokenizer.vocab_size, 1, 2)
    assert model(model.tokenize(CAPTIONS)).values.shape == (sum(model.tokenize(CAPTIONS).sizes), 128)


def test_the_tokenizer_says_how_captions_begin_and_end(folder):
    """Configurations are copied and keep the ids of another tokenizer, here ModernBERT-base's."""
    model = ModernBERT(config={**SMALL, "vocab_size": 320}, tokenizer=str(folder))
    assert (model.bos, model.eos) == (1, 2)
    assert model.portable({})["config"]["cls_token_id"] == 1


def test_weights_are_in_float32_and_in_training_mode(encoder):
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    assert all(module.training for module in encoder.modules())


def test_learning_rate(folder, encoder):
    names = [name for name, _ in encoder.named_parameters()]
    assert {encoder.lr_scale(name) for name in names} == {0.1}
    assert ModernBERT(pretrained=str(folder), lr_scale=0.5).lr_scale(names[0]) == 0.5
    assert ModernBERT(size="tiny", tokenizer=str(folder)).lr_scale(names[0]) == 1.0


@pytest.mark.parametrize("has_one", [True, False], ids=["with tokenizer", "without"])
def test_a_checkpoint_needs_no_folder(tmp_path, folder, encoder, monkeypatch, has_one):
    options = {"pretrained": str(folder), "max_tokens": 99} if has_one else {"config": SMALL}
    model = build("text encoder", "modernbert", options)
    portable = model.portable(options)
    torch.save({"options": portable, "state": model.state_dict()}, tmp_path / "model.pt")
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", None)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", None)
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    rebuilt = build("text encoder", "modernbert", saved["options"])
    rebuilt.load_state_dict(saved["state"])
    assert rebuilt.portable(saved["options"]) == portable
    assert rebuilt.lr_scale("") == model.lr_scale("")
    if has_one:
        batch = encoder.tokenize(CAPTIONS)
        assert rebuilt.tokenize(CAPTIONS).values.equal(batch.values)
        torch.testing.assert_close(rebuilt(batch).values, encoder(batch).values)
        assert rebuilt.max_tokens == 99
    else:
        with pytest.raises(RuntimeError, match="has no tokenizer: pass `pretrained`"):
            rebuilt.tokenize(CAPTIONS)


def test_copies_run_in_a_process_that_does_not_know_the_attention(encoder, monkeypatch):
    stored = pickle.dumps(encoder)
    batch = encoder.tokenize(CAPTIONS)
    expected = encoder(batch).values
    monkeypatch.delitem(transformers.AttentionInterface._global_mapping, "slap_packed")
    for other in (pickle.loads(stored), copy.deepcopy(encoder)):
        assert other.tokenize(CAPTIONS).values.equal(batch.values)
        torch.testing.assert_close(other(batch).values, expected)


# -- errors -----------------------------------------------------------------------------------------------------------


def test_arguments_that_exclude_each_other_or_are_unknown(folder):
    with pytest.raises(ValueError, match="give one of them, not pretrained='x' and size='tiny'"):
        ModernBERT(pretrained="x", size="tiny")
    with pytest.raises(ValueError, match="there is no size 'huge'; valid are: tiny, base"):
        ModernBERT(size="huge")
    with pytest.raises(ValueError, match=r"ModernBertConfig has no hiden_size; valid are: .*hidden_size"):
        ModernBERT(config={"hiden_size": 64})
    with pytest.raises(ValueError, match=r"attention_dropout is 0\.1"):
        ModernBERT(config={**SMALL, "attention_dropout": 0.1})


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, folder, encoder):
    with pytest.raises(ValueError, match="tokens, the text encoder room for 64"):
        ModernBERT(config=SMALL, tokenizer=str(folder))
    other = ModernBERT(size="tiny")
    with pytest.raises(ValueError, match="with token 1 and ends them with 2, the text encoder with 50281 and 50282"):
        other.set_extra_state(encoder.get_extra_state())
    headless = fast()
    headless.sep_token = None
    headless.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"must have tokens to begin and end captions: .*it has {.*'\[CLS\]'"):
        ModernBERT(size="tiny", tokenizer=str(tmp_path))


def test_other_and_incomplete_models_are_refused(tmp_path, folder):
    fast().save_pretrained(tmp_path)
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert' model"):
        ModernBERT(pretrained=str(tmp_path))
    config = transformers.ModernBertConfig.from_pretrained(folder)
    config.num_hidden_layers = 5
    config.layer_types = [*config.layer_types, "full_attention"]
    transformers.ModernBertModel.from_pretrained(folder).save_pretrained(tmp_path)
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks weights, so they would stay random: layers\.4"):
        ModernBERT(pretrained=str(tmp_path))


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("transformers.__version__", "5.22.0")
    with pytest.raises(ImportError, match=r"needs transformers 5\.23 or newer, this is 5\.22\.0"):
        ModernBERT(size="tiny")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'slap-audio\[hf\]'"):
        ModernBERT(size="tiny")
