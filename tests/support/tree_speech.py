"""Speech Commands, CREMA-D and RAVDESS in their official layouts."""

import tree_tools as tools


def speechcommands(root):
    """Two lists, a word's recordings in all three splits, background noise, and a listed file that is gone."""
    present = {
        "yes/0a7c2a8d_nohash_0.wav": "test",
        "yes/004ae714_nohash_0.wav": "train",
        "yes/004ae714_nohash_1.wav": "train",
        "bed/0c40e715_nohash_0.wav": "validation",
        "wow/01d22d03_nohash_0.wav": "train",
    }
    for number, name in enumerate(present):
        tools.tone(root / name, 0.2 + 0.05 * number, pitch=300 + 50 * number)
    tools.tone(root / "_background_noise_" / "doing_the_dishes.wav", 0.5)
    (root / "_background_noise_" / "README.md").write_text("noise\n")
    tools.resource_fork(root / "yes" / "004ae714_nohash_0.wav")
    split = lambda wanted: [name for name, found in present.items() if found == wanted]  # noqa: E731
    (root / "validation_list.txt").write_text("\n".join([*split("validation"), "zero/gone_nohash_2.wav"]) + "\n")
    (root / "testing_list.txt").write_text("\n".join(split("test")) + "\n")


def cremad(root, listed=True):
    """Five clips; the audio of 1076_MTI_SAD_XX is empty, that of one is gone, and macOS left a shadow."""
    names = ("1001_DFA_ANG_XX", "1001_IEO_HAP_HI", "1076_MTI_SAD_XX", "1091_WSI_NEU_XX", "1002_TAI_FEA_XX")
    if listed:
        rows = [(number, name) for number, name in enumerate(names, start=1)]
        tools.table(root / "SentenceFilenames.csv", ["Stimulus_Number", "Filename"], rows)
    for number, name in enumerate(names[:4]):
        seconds = 0.0 if name == "1076_MTI_SAD_XX" else 0.2
        tools.tone(root / "AudioWAV" / f"{name}.wav", seconds, pitch=300 + 50 * number)
    tools.resource_fork(root / "AudioWAV" / "1001_DFA_ANG_XX.wav")


def ravdess(root, zipped=True):
    """Two clips of speech and two of song, one of them stereo; as unpacked from the archives, or together."""
    speech = root / "Audio_Speech_Actors_01-24" if zipped else root
    song = root / "Audio_Song_Actors_01-24" if zipped else root
    tools.tone(speech / "Actor_01" / "03-01-01-01-01-01-01.wav", 0.2, 48000, pitch=300)
    tools.tone(speech / "Actor_12" / "03-01-08-02-02-01-12.wav", 0.2, 48000, 2, pitch=350)
    tools.tone(song / "Actor_01" / "03-02-06-01-01-01-01.wav", 0.2, 48000, pitch=400)
    tools.tone(song / "Actor_24" / "03-02-02-02-01-02-24.wav", 0.2, 48000, pitch=450)
