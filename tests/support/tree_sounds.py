"""FSD50K, UrbanSound8K and GTZAN in their official layouts."""

import tree_tools as tools


def fsd50k(root):
    """Four clips of development and two for evaluation; one of each has no audio."""
    truth = root / "FSD50K.ground_truth"
    tools.table(
        truth / "vocabulary.csv",
        None,
        [(0, "Bark", "/m/05tny_"), (1, "Dog", "/m/0bt9lr"), (2, "Electric_guitar", "/m/02sgy")],
    )
    tools.table(
        truth / "dev.csv",
        ["fname", "labels", "mids", "split"],
        [
            (64760, "Electric_guitar", "/m/02sgy", "train"),
            (16399, "Electric_guitar,Dog", "/m/02sgy,/m/0bt9lr", "train"),
            (4282, "Bark,Dog", "/m/05tny_,/m/0bt9lr", "val"),
            (99999, "Dog", "/m/0bt9lr", "train"),
        ],
    )
    tools.table(
        truth / "eval.csv",
        ["fname", "labels", "mids"],
        [(37199, "Electric_guitar", "/m/02sgy"), (11111, "Dog", "/m/0bt9lr")],
    )
    for number, fname in enumerate((64760, 16399, 4282)):
        tools.tone(root / "FSD50K.dev_audio" / f"{fname}.wav", 0.1 + number / 10, 44100)
    tools.tone(root / "FSD50K.eval_audio" / "37199.wav", 0.5, 44100)


def urbansound8k(root):
    """Rates and channels that differ, a very short clip, a file that is gone, clips of one recording in one fold."""
    rows = [
        ("100032-3-0-0.wav", 100032, 0.0, 0.317551, 1, 5, 3, "dog_bark"),
        ("100263-2-0-117.wav", 100263, 58.5, 62.5, 1, 5, 2, "children_playing"),
        ("100263-2-0-121.wav", 100263, 60.5, 64.5, 1, 5, 2, "children_playing"),
        ("57320-0-0-15.wav", 57320, 7.5, 11.5, 2, 1, 0, "air_conditioner"),
        ("77751-4-0-3.wav", 77751, 1.5, 5.5, 1, 10, 4, "drilling"),
    ]
    header = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
    tools.table(root / "metadata" / "UrbanSound8K.csv", header, rows)
    tools.tone(root / "audio" / "fold5" / "100032-3-0-0.wav", 0.05, 44100, 2, 300)
    tools.tone(root / "audio" / "fold5" / "100263-2-0-117.wav", 0.4, 48000, 1, 350)
    tools.tone(root / "audio" / "fold5" / "100263-2-0-121.wav", 0.4, 8000, 2, 400)
    tools.tone(root / "audio" / "fold1" / "57320-0-0-15.wav", 0.4, 96000, 1, 450)
    (root / "audio" / "fold1" / ".DS_Store").write_bytes(b"\0")


def gtzan(root, folder="genres"):
    """Eleven pieces of 1,000: jazz.00054 is damaged as in common copies, one is .au, one has its macOS shadow."""
    pieces = ("blues.00000", "blues.00012", "classical.00011", "jazz.00001", "rock.00010", "rock.00099")
    for number, name in enumerate(pieces):
        tools.tone(root / folder / name.split(".")[0] / f"{name}.wav", 0.3, 22050, pitch=300 + 50 * number)
        tools.resource_fork(root / folder / name.split(".")[0] / f"{name}.wav")
    tools.tone(root / folder / "metal" / "metal.00013.au", 0.3, 22050, pitch=700, format="AU")
    (root / folder / "jazz" / "jazz.00054.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEjunkjunkjunk")
