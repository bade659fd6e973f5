"""Words of the corpora of `open_sounds`: captions of each class, and how scenes name it.

Labels of several corpora that mean the same sound, such as "dog" and "dog bark", share all their captions. So clips of
one class are never negatives of each other while a caption says nothing but the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from slap.datamodules.captions.grammar import Words
from slap.datamodules.corpora.ravdess import TEMPLATES as EMOTION_TEMPLATES
from slap.datamodules.corpora.speechcommands import WORDS

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

Captions = list[tuple[str, str]]
"""Captions, each with its field: "prompt" as in zero-shot tasks, "phrase", "sentence", or "detail" with who and how."""

SOUND, WORD, DIGIT = "the sound of {label}", "the word {label}", "the digit {label}"

PROMPTS = {
    "esc50": SOUND,
    "urbansound8k": SOUND,
    "esc10": SOUND,
    "speechcommands": WORD,
    "words10": WORD,
    "fsdd": DIGIT,
    "ravdess": EMOTION_TEMPLATES["speech"],
}
"""Prompts of the zero-shot tasks; each is one of the captions that training clips have."""


FAMILIES = {("esc50", "urbansound8k", "esc10"): 0.6, ("speechcommands", "fsdd"): 0.3, ("ravdess",): 0.1}
"""Shares of the events of scenes by families of tasks; without them, most would be words, of which there are many."""


def _lasting(nouns: tuple[str, ...], clauses: tuple[str, ...]) -> Words:
    return Words(nouns, clauses, lasting=True)


_SOUNDS: dict[tuple[str, ...], Words] = {
    ("dog", "dog bark"): Words(("a dog bark", "a barking dog"), ("a dog barks",), "dog barks"),
    ("rooster",): Words(("a rooster crow", "a crowing rooster"), ("a rooster crows",), "rooster crows"),
    ("pig",): Words(("a pig grunt", "a grunting pig"), ("a pig grunts", "a pig oinks"), "pig grunts"),
    ("cow",): Words(("a cow moo", "a mooing cow"), ("a cow moos",), "cow moos"),
    ("frog",): Words(("a frog croak", "a croaking frog"), ("a frog croaks",), "frog croaks"),
    ("cat",): Words(("a cat meow", "a meowing cat"), ("a cat meows",), "cat meows"),
    ("hen",): Words(("a hen cluck", "a clucking hen"), ("a hen clucks",), "hen clucks"),
    ("insects",): _lasting(("buzzing insects", "flying insects"), ("insects buzz",)),
    ("sheep",): Words(("a sheep bleat", "a bleating sheep"), ("a sheep bleats",), "sheep bleats"),
    ("crow",): Words(("a crow caw", "a cawing crow"), ("a crow caws",), "crow caws"),
    ("rain",): _lasting(("rain", "falling rain"), ("rain falls", "it rains")),
    ("sea waves",): _lasting(("sea waves", "surf on a beach"), ("waves roll in", "waves break on the shore")),
    ("crackling fire", "fire crackling"): _lasting(("a crackling fire", "burning wood"), ("a fire crackles",)),
    ("crickets",): _lasting(("chirping crickets", "crickets at night"), ("crickets chirp",)),
    ("chirping birds",): _lasting(("chirping birds", "birdsong"), ("birds chirp", "birds sing")),
    ("water drops",): _lasting(("dripping water", "water drops"), ("water drips",)),
    ("wind",): _lasting(("wind", "blowing wind"), ("the wind blows",)),
    ("pouring water",): _lasting(("pouring water", "water poured into a glass"), ("somebody pours water",)),
    ("toilet flush",): Words(("a toilet flush", "a flushing toilet"), ("a toilet flushes",), "toilet flushes"),
    ("thunderstorm",): Words(("thunder", "a thunderstorm"), ("thunder rolls", "it thunders")),
    ("crying baby", "baby cry"): Words(("a baby cry", "a crying baby"), ("a baby cries",), "baby cries"),
    ("sneezing", "person sneeze"): Words(("a sneeze", "a sneezing person"), ("a person sneezes",), "sneezes"),
    ("clapping",): _lasting(("applause", "clapping hands"), ("people clap", "an audience applauds")),
    ("breathing",): _lasting(("breathing", "a person's breath"), ("somebody breathes",)),
    ("coughing",): Words(("a cough", "a coughing person"), ("a person coughs",), "coughs"),
    ("footsteps",): _lasting(("footsteps", "steps on the ground"), ("somebody walks",)),
    ("laughing",): _lasting(("laughter", "a laughing person"), ("somebody laughs",)),
    ("brushing teeth",): _lasting(("tooth brushing", "a toothbrush"), ("somebody brushes their teeth",)),
    ("snoring",): Words(("a snore", "a snoring person"), ("somebody snores",), "snores"),
    ("drinking sipping",): Words(("a sip", "a sipping person"), ("somebody sips a drink",), "sips"),
    ("door wood knock",): Words(("a knock on wood", "a knock at the door"), ("somebody knocks",), "knocks on wood"),
    ("mouse click",): Words(("a mouse click", "a clicking mouse"), ("a computer mouse clicks",), "mouse clicks"),
    ("keyboard typing",): _lasting(("typing", "a clattering keyboard"), ("somebody types on a keyboard",)),
    ("door wood creaks",): Words(("a door creak", "a creaking door"), ("a door creaks",), "door creaks"),
    ("can opening",): Words(("a can opening", "the hiss of a can"), ("somebody opens a can",), "cans opening"),
    ("washing machine",): _lasting(("a washing machine", "a running washing machine"), ("a washing machine runs",)),
    ("vacuum cleaner",): _lasting(("a vacuum cleaner", "a running vacuum cleaner"), ("a vacuum cleaner runs",)),
    ("clock alarm",): _lasting(("an alarm clock", "a ringing alarm clock"), ("an alarm clock rings",)),
    ("clock tick",): _lasting(("a ticking clock", "clock ticks"), ("a clock ticks",)),
    ("glass breaking",): Words(
        ("a glass break", "breaking glass"), ("glass breaks", "a glass shatters"), "glass breaks"
    ),
    ("helicopter",): _lasting(("a helicopter", "the rotor of a helicopter"), ("a helicopter flies",)),
    ("chainsaw",): _lasting(("a chainsaw", "a running chainsaw"), ("a chainsaw runs",)),
    ("siren",): _lasting(("a siren", "a wailing siren"), ("a siren wails",)),
    ("car horn",): Words(("a car horn", "a honking car"), ("a car honks", "a driver honks"), "car horns"),
    ("engine", "engine idling"): _lasting(("an engine", "a running engine"), ("an engine runs", "a motor hums")),
    ("train",): _lasting(("a train", "a passing train"), ("a train passes",)),
    ("church bells",): _lasting(("church bells", "ringing church bells"), ("church bells ring", "bells toll")),
    ("airplane",): _lasting(("an airplane", "an airplane overhead"), ("an airplane flies by",)),
    ("fireworks",): _lasting(("fireworks", "exploding fireworks"), ("fireworks explode",)),
    ("hand saw",): _lasting(("a hand saw", "sawing by hand"), ("somebody saws wood",)),
    ("air conditioner",): _lasting(("an air conditioner", "a humming air conditioner"), ("an air conditioner hums",)),
    ("children playing",): _lasting(("playing children", "children on a playground"), ("children play",)),
    ("drilling",): _lasting(("a drill", "a whirring drill"), ("somebody drills", "a drill whirs")),
    ("gun shot",): Words(("a gun shot", "a fired gun"), ("a gun is fired", "somebody shoots"), "gun shots"),
    ("jackhammer",): _lasting(("a jackhammer", "a hammering jackhammer"), ("a jackhammer hammers",)),
    ("street music",): _lasting(("street music", "musicians in the street"), ("musicians play in the street",)),
}
"""Words of the sounds, by their names in ESC-50, UrbanSound8K and ESC-10."""

SOUNDS: dict[str, Words] = {name: words for names, words in _SOUNDS.items() for name in names}
"""Words of each sound by each of its names."""

_NAMES = {name: names for names in _SOUNDS for name in names}

ADVERBS = {emotion: f"{emotion}ly" for emotion in ("neutral", "calm", "sad", "fearful")}
ADVERBS |= {"happy": "happily", "angry": "angrily", "disgust": "with disgust", "surprised": "with surprise"}
ADJECTIVES = {"disgust": "disgusted"}  # where it is another word than the label
PEOPLE = {"male": ("a man", "a male voice"), "female": ("a woman", "a female voice")}


def sound_captions(name: str) -> Captions:
    """Return the captions of a sound by one of its names; the same for each of its names.

    Example:
        >>> [text for text, field in sound_captions("rain") if field == "sentence"]
        ['rain falls', 'it rains']
    """
    words = SOUNDS[name]
    prompts = [SOUND.format(label=label) for label in _NAMES[name]]
    heard = [template.format(noun) for noun in words.nouns for template in ("{}", "the sound of {}", "{} can be heard")]
    recorded = [f"a recording of {noun}" for noun in words.nouns]
    return _captions(prompt=prompts, phrase=[*heard, *recorded], sentence=words.clauses)


def word_captions(word: str) -> Captions:
    """Return the captions of a spoken word; a digit has those of a digit too."""
    words = spoken(word)
    prompts = [WORD.format(label=word)] + [DIGIT.format(label=word)] * (word in DIGITS)
    phrases = [*words.nouns, f"a voice saying {word}", word]
    return _captions(prompt=prompts, phrase=phrases, sentence=words.clauses)


def spoken(word: str) -> Words:
    """Return the words for somebody's saying a word."""
    nouns = (f"the word {word}", f"the spoken word {word}")
    return Words(nouns, (f"somebody says {word}", f"a person says {word}"), whole=True)


def emotion_captions(labels: Mapping[str, str]) -> Captions:
    """Return the captions of a spoken sentence: how it is said, who says it, what is said.

    Args:
        labels: all labels of a clip of RAVDESS.
    """
    emotion, sentence = labels["ravdess"], labels["ravdess_statement"].lower()
    adjective, adverb = ADJECTIVES.get(emotion, emotion), ADVERBS[emotion]
    person, voice = PEOPLE[labels["ravdess_gender"]]
    words = speech(emotion)
    who = [f"{person} speaks {adverb}", f"{person} is talking, feeling {emotion}", f"{voice} that sounds {adjective}"]
    what = [f"{someone} says {adverb}: {sentence}" for someone in ("somebody", person)]
    how = [f"a very {adjective} voice", f"{person} speaks very {adverb}"]
    strong = labels["ravdess_intensity"] == "strong" and not adverb.startswith("with")
    return _captions(
        prompt=[PROMPTS["ravdess"].format(label=emotion)],
        phrase=[*words.nouns, f"speech that sounds {adjective}"],
        sentence=words.clauses,
        detail=[*who, *what, *(how if strong else ())],
    )


def speech(emotion: str) -> Words:
    """Return the words for a sentence that is said with an emotion."""
    adjective, adverb = ADJECTIVES.get(emotion, emotion), ADVERBS[emotion]
    nouns = tuple(f"{'an' if adjective[0] in 'aeiou' else 'a'} {adjective} {who}" for who in ("voice", "speaker"))
    return Words(nouns, (f"somebody speaks {adverb}", f"a person talks {adverb}"))


def scene_words() -> dict[str, Words]:
    """Return the words by which scenes name each class: by task and label, "esc50: dog"."""
    sounds = {f"{task}: {name}": words for task in ("esc50", "urbansound8k", "esc10") for name, words in SOUNDS.items()}
    said = {f"{task}: {word}": spoken(word) for task, known in _spoken() for word in known}
    return {**sounds, **said, **{f"ravdess: {emotion}": speech(emotion) for emotion in ADVERBS}}


def _spoken() -> Iterable[tuple[str, Iterable[str]]]:
    return ("speechcommands", WORDS), ("fsdd", DIGITS)


def _captions(**texts: Iterable[str]) -> Captions:
    found: dict[str, str] = {}
    for field, group in texts.items():
        for text in group:
            found.setdefault(text, field)
    return list(found.items())
