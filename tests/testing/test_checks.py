"""The contract checks find each broken promise, and say which it is."""

import time

import pytest
import torch
from torch import nn

from slap import Objective
from slap.core.packed import Packed
from slap.testing import TinyAudio, TinyText, check_audio_encoder, check_objective, check_text_encoder, tiny_model
from slap.testing.tiny import FRAME, WIDTH


def test_honest_plugins_pass_and_stay_as_they_are():
    encoder = TinyAudio()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    check_audio_encoder(encoder)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    check_text_encoder(TinyText())
    check_objective(Spread())
    check_objective(Spread(), tiny_model())


class Memory(Objective):
    """A running mean of the clips, as a state that checkpoints hold."""

    def setup(self, model):
        self.register_buffer("mean", torch.zeros(model.embedding_dim))

    def forward(self, views):
        clips = views.full.embedding
        loss = (clips @ self.mean.clone()).mean() + clips[0, 0]
        if self.training:
            self.mean.lerp_(clips.detach().mean(0), 0.1)
        return loss


def test_an_objective_may_have_a_state_that_checkpoints_hold():
    check_objective(Memory())


class Spread(Objective):
    """The mean distance of clips, with a parameter and a view of each kind."""

    uses_teacher = True

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def setup(self, model):
        self.head = nn.Linear(model.embedding_dim, 3)

    def forward(self, views):
        students, teachers = self.head(views.masked.embedding), views.teacher.embedding
        loss = self.scale * (students.square().mean() + views.text.embedding[0, 0] + views.full.embedding[0, 0])
        return loss + teachers.mean(), {"scale": self.scale.detach()}


# -- audio ------------------------------------------------------------------------------------------------------------


class Crowd(TinyAudio):
    def forward(self, patches, hidden=None):
        x = super().forward(patches, hidden)
        return x.replace(x.values + x.values.mean(0))


class Peeks(TinyAudio):
    def forward(self, patches, hidden=None):
        x = super().forward(patches, hidden)
        return x if hidden is None else x.replace(x.values + patches.values[:, :WIDTH])


class Deaf(TinyAudio):
    def forward(self, patches, hidden=None):
        return super().forward(
            patches, torch.ones(len(patches.values), dtype=torch.bool) if hidden is not None else None
        )


class Idle(TinyAudio):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)


class Snobbish(TinyAudio):
    def patchify(self, audio):
        frames = [clip[: len(clip) // FRAME * FRAME].view(-1, FRAME) for clip in audio.unpack()]
        frames = Packed.pack(frames)
        return Packed(frames.values, frames.lengths, frames.index[:, None])


class Nowhere(TinyAudio):
    def patchify(self, audio):
        patches = super().patchify(audio)
        return Packed(patches.values, patches.lengths)


class Trained(TinyAudio):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def patchify(self, audio):
        patches = super().patchify(audio)
        return patches.replace(patches.values * self.gain)


class Moody(TinyAudio):
    def forward(self, patches, hidden=None):
        x = super().forward(patches, hidden)
        return x.replace(x.values + torch.randn_like(x.values) * (hidden is None))


class Silent(TinyAudio):
    def forward(self, patches, hidden=None):
        x = super().forward(patches, hidden)
        return x.replace(x.values / patches.values.norm(dim=1, keepdim=True).clamp(max=1))


class Forgetful(TinyAudio):
    def __init__(self):
        super().__init__()
        self.secret = torch.ones(WIDTH)
        self.mix.own.weight.requires_grad_(False)

    def forward(self, patches, hidden=None):
        x = super().forward(patches, hidden)
        return x.replace(x.values * self.secret)

    def load_state_dict(self, state, *args, **kwargs):
        self.secret = torch.zeros(WIDTH)  # as if a buffer had been made and not saved
        return super().load_state_dict(state, *args, **kwargs)


class Sticky(TinyAudio):
    def __init__(self):
        super().__init__()
        self.function = lambda x: x  # nothing pickles a lambda


@pytest.mark.parametrize(
    ("encoder", "sentence"),
    [
        (Crowd, "treats each item of a packed batch as if it were alone; but the features differ"),
        (Peeks, "does not see what is in hidden patches"),
        (Deaf, "sees all when nothing is hidden"),
        (Idle, "finite gradient; but these get none: unused.weight, unused.bias"),
        (Snobbish, "makes patches of any clip, of one sample even"),
        (Nowhere, "gives each patch its coordinates"),
        (Trained, "trains nothing in `patchify`"),
        (Moody, "sees all when nothing is hidden|gives the same result twice in evaluation mode"),
        (Silent, "does not see what is in hidden patches; but the features differ by nan"),
        (Forgetful, "gives the same result after its state is saved and loaded"),
        (Sticky, "gives the same result after it is pickled; but .*lambda"),
    ],
)
def test_broken_audio_encoders(encoder, sentence):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=f"{encoder.__name__} breaks a promise: it .*({sentence})"):
        check_audio_encoder(encoder())


# -- text -------------------------------------------------------------------------------------------------------------


class Endless(TinyText):
    def tokenize(self, captions):
        return Packed.pack([item[:-1] for item in super().tokenize(captions).unpack()])


class Small(TinyText):
    vocab_size = 257

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(258, WIDTH)


class Learner(TinyText):
    """Learns an alphabet, and keeps it out of its state."""

    def prepare(self, captions):
        self.alphabet = sorted(set("".join(captions)))

    def tokenize(self, captions):
        ids = [[self.bos, *(self.alphabet.index(letter) for letter in caption), self.eos] for caption in captions]
        return Packed.pack([torch.tensor(item) for item in ids])

    def detokenize(self, tokens):
        return ["".join(self.alphabet[i] for i in item.tolist() if i < 256) for item in tokens.unpack()]


class Mumbling(TinyText):
    def detokenize(self, tokens):
        return [caption[1:] for caption in super().detokenize(tokens)]


@pytest.mark.parametrize(
    ("encoder", "sentence"),
    [
        (Endless, "begins every caption with `bos` and ends it with `eos`"),
        (Small, "makes int64 tokens on the CPU, from 0 to below `vocab_size`; but they go from 32 to 257, of 257"),
        (Learner, "carries what it tokenizes with in its state"),
        (Mumbling, "gives captions back from tokens, .* 'a dog barks' becomes ' dog barks'"),
    ],
)
def test_broken_text_encoders(encoder, sentence):
    with pytest.raises(AssertionError, match=f"{encoder.__name__} breaks a promise: it .*{sentence}"):
        check_text_encoder(encoder())


# -- objectives -------------------------------------------------------------------------------------------------------


class Vector(Objective):
    def forward(self, views):
        return views.full.embedding.mean(1)


class Mute(Objective):
    def forward(self, views):
        views.full.embedding.mean()


class Aloof(Objective):
    def forward(self, views):
        return views.full.embedding.mean().detach()


class Blind(Objective):
    def forward(self, views):
        return views.audio_full.embedding.mean()


class Hasty(Objective):
    def __init__(self):
        self.temperature = 0.1

    def forward(self, views):
        return views.full.embedding.mean()


class Boost(Objective):
    def setup(self, model):
        self.head = nn.Linear(model.embedding_dim, 1)

    def lr_scale(self, name):
        return None

    def forward(self, views):
        return self.head(views.full.embedding).mean()


class Dicey(Objective):
    def forward(self, views):
        return views.full.embedding.mean() * time.perf_counter_ns()


class Fragile(Objective):
    def forward(self, views):
        return views.full.embedding.std(0).mean()  # not a number for one clip


class Bossy(Objective):
    def forward(self, views):
        return views.full.embedding.mean() * views._model.trainer.max_steps


class Choosy(Objective):
    def forward(self, views):
        return (views.full if len(views.batch) > 1 else views.masked).embedding.mean()


class Pupil(Objective):
    def forward(self, views):
        return views.teacher.embedding.mean()


class Greedy(Objective):
    def setup(self, model):
        self.encoder = model.audio

    def forward(self, views):
        return views.full.embedding.mean()


class Restless(Objective):
    def setup(self, model):
        self.calls = 0

    def forward(self, views):
        self.calls += 1
        return views.full.embedding.mean() * self.calls


class Lazy(Objective):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, views):
        return views.full.embedding.mean()


class Chatty(Objective):
    def forward(self, views):
        return views.full.embedding.mean(), {"everything": views.full.embedding}


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (
            Vector,
            r"returns a scalar loss .* \(Vector\) returned a tensor of shape \(4,\); its `forward` returns the loss",
        ),
        (Mute, r"returns a scalar loss .* \(Mute\) returned a NoneType; its `forward` returns the loss"),
        (Aloof, "returns a scalar loss .* returned a loss without gradient, detached"),
        (Blind, "reads `views.audio_full`, which does not exist; .*valid are: .*full, .*masked, .*teacher, .*text"),
        (Hasty, r"sets itself up on any model; but .*Hasty cannot be used: its `__init__` must begin with `super\(\)"),
        (Boost, r"scales the learning rate of each of its parameters .* got \{'head.weight': None"),
        (Fragile, "gives a finite scalar for a batch of one clip, .* it is nan"),
        (Bossy, "without the trainer's help; .* asks the trainer for `max_steps`|not attached to a `Trainer`"),
        (Choosy, r"reads the same views whatever the data, .* it reads \['hidden', 'masked', 'masked.embedding'\]"),
        (Pupil, "the model keeps no teacher: set `uses_teacher = True`"),
        (Greedy, "registers no part of the model as its own"),
        (Restless, "gives the same loss after the model's state is saved and loaded"),
        (Dicey, "gives the same loss for the same batch, random numbers and state"),
        (Lazy, "finite gradient; but these get none: unused"),
        (Chatty, "gives scalars to log, by name"),
    ],
)
@pytest.mark.filterwarnings("ignore:std\\(\\)")  # of one clip, which is what Fragile is about
def test_broken_objectives(objective, sentence):
    with pytest.raises(AssertionError, match=f"{objective.__name__} breaks a promise: it .*({sentence})"):
        check_objective(objective())
