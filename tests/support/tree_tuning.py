"""Corpora in their official layouts with all splits, each of a few tones: enough to train, choose and test on."""

import json

import tree_tools as tools

SECONDS = 0.2


def audiocaps(root):
    """Six, three and three clips, with five captions each but in training."""
    for split, clips, captions in (("train", 6, 1), ("val", 3, 5), ("test", 3, 5)):
        rows = []
        for number in range(clips):
            name = f"{split:_<10.10}{number}"
            rows += [(100 * number + n, name, 10, f"sound {number} of {split}, {n}") for n in range(captions)]
            tools.tone(root / "audio" / split / f"Y{name}.wav", SECONDS, pitch=200 + 50 * number)
        tools.table(root / "dataset" / f"{split}.csv", ["audiocap_id", "youtube_id", "start_time", "caption"], rows)


def clotho(root):
    """Six, three and three clips with five captions."""
    for split, clips in (("development", 6), ("validation", 3), ("evaluation", 3)):
        header = ["file_name", *(f"caption_{n}" for n in range(1, 6))]
        rows = [(f"{split} {i}.wav", *(f"sound {i} of {split}, {n}" for n in range(5))) for i in range(clips)]
        tools.table(root / f"clotho_captions_{split}.csv", header, rows)
        for number in range(clips):
            tools.tone(root / split / f"{split} {number}.wav", SECONDS, 44100, pitch=200 + 50 * number)


def wavcaps(root):
    """Twelve clips of each of the four sources."""
    for source, short in {
        "AudioSet_SL": "as",
        "BBC_Sound_Effects": "bbc",
        "FreeSound": "fsd",
        "SoundBible": "sb",
    }.items():
        names = [f"{source[:9]:_<9}{n:02}" for n in range(12)]
        data = [
            {"id": f"Y{n}.wav" if source == "AudioSet_SL" else n, "caption": f"Sound {n}.", "duration": 0.2}
            for n in names
        ]
        path = root / "json_files" / source / f"{short}_final.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"num_captions_per_audio": 1, "data": data}))
        for number, item in enumerate(data):
            tools.tone(
                root / source / f"{item['id'].removesuffix('.wav')}.flac", SECONDS, 32000, pitch=200 + 20 * number
            )


def esc50(root, folds=5, classes=3, takes=2):
    """Some clips of a few classes in each fold."""
    rows = []
    for fold in range(1, folds + 1):
        for target in range(classes):
            for take in range(takes):
                name = f"{fold}-{100 * fold + 10 * target + take}-A-{target}.wav"
                rows.append((name, fold, target, f"class_{target}", target < 2, 100 * fold + 10 * target + take, "A"))
                tools.tone(root / "audio" / name, SECONDS, 44100, pitch=300 * (target + 1) + 10 * fold + take)
    header = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    tools.table(root / "meta" / "esc50.csv", header, rows)


def speechcommands(root):
    """Four words, six recordings of each for training, two for validation and two for test."""
    lists = {"validation": [], "testing": []}
    for place, word in enumerate(("yes", "no", "up", "down")):
        for number in range(10):
            name = f"{word}/{place}{number:03}_nohash_0.wav"
            tools.tone(root / name, SECONDS, pitch=300 * (place + 1) + 10 * number)
            if number >= 6:
                lists["validation" if number < 8 else "testing"].append(name)
    for kind, names in lists.items():
        (root / f"{kind}_list.txt").write_text("\n".join(names) + "\n")


def audioset(root):
    """Four classes, two of them on each clip; forty clips balanced, twenty not, six for evaluation."""
    mids = [f"/m/0{n}" for n in range(4)]
    (root / "metadata").mkdir(parents=True)
    classes = "".join(f'{n},{mid},"Class {n}"\n' for n, mid in enumerate(mids))
    (root / "metadata" / "class_labels_indices.csv").write_text("index,mid,display_name\n" + classes)
    for split, clips in (("balanced_train", 40), ("unbalanced_train", 20), ("eval", 6)):
        lines = ["# Segments csv", "# num_ytids", "# YTID, start_seconds, end_seconds, positive_labels"]
        for number in range(clips):
            name = f"{split[:8]:_<8}{number:03}"
            labels = sorted({mids[number % 4 if split != "unbalanced_train" else 0], mids[(number // 4) % 4]})
            lines.append(f'{name}, 0.000, 10.000, "{",".join(labels)}"')
            tools.tone(root / f"{split}_segments" / f"Y{name}.wav", SECONDS, pitch=200 + 30 * number)
        (root / "metadata" / f"{split}_segments.csv").write_text("\n".join(lines) + "\n")
