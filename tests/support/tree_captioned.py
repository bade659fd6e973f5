"""AudioCaps, Clotho, WavCaps and LAION's tar files in their official layouts."""

import io
import json
import tarfile

import tree_tools as tools

AUDIOCAPS = ["audiocap_id", "youtube_id", "start_time", "caption"]


def audiocaps(root):
    """Rows of one clip far apart, ids with `-` and `_`, five namings of files, one clip gone, one empty caption."""
    train = [
        (91139, "r1nicOVtvkQ", 130, "A woman talks nearby as water pours"),
        (58146, "-_DhQm-wJ5f", 30, "Multiple clanging sounds, then a bell"),
        (98777, "__2S1-GmTRU", 0, "Wind blows"),
        (96001, "5_zHmqPG09v", 250, "An engine hums"),
        (96002, "byNumber__x", 10, "Birds sing"),
        (96003, "gone-gone00", 10, "Nothing to hear any more"),
        (96004, "emptyemptyE", 10, " "),
    ]
    tools.table(root / "dataset" / "train.csv", AUDIOCAPS, train)
    clips = [("vfY_TJq7n_U", 130), ("tw76HGONaKg", 570)]
    val = [(100 * n + i, name, at, f"caption {n}, of {name}") for n in range(5) for i, (name, at) in enumerate(clips)]
    tools.table(root / "dataset" / "val.csv", AUDIOCAPS, val)
    tools.table(root / "dataset2.0" / "val.csv", AUDIOCAPS, [(*row[:3], f"edited {row[3]}") for row in val])
    audio = root / "audio"
    tools.tone(audio / "train" / "Yr1nicOVtvkQ.wav", 0.4)
    tools.tone(audio / "train" / "-_DhQm-wJ5f.flac", 0.3)
    tools.tone(audio / "train" / "__2S1-GmTRU_0.flac", 0.2)
    tools.tone(audio / "train" / "5_zHmqPG09v_250_260.wav", 0.1)
    tools.tone(audio / "train" / "96002.wav", 0.5)
    tools.tone(audio / "val" / "YvfY_TJq7n_U.wav", 0.4)
    tools.tone(audio / "val" / "Ytw76HGONaKg.wav", 0.3)


def clotho(root, split="evaluation"):
    """File names with spaces twice, in front, and with a letter that ISO-8859-1 and UTF-8 write differently."""
    files = ["Radio Garble.wav", "toy rattle  2.wav", " leading.wav", "Caf\xe9.wav", "gone.wav"]
    header = ["file_name", *(f"caption_{n}" for n in range(1, 6))]
    tools.table(root / f"clotho_captions_{split}.csv", header, [(f, *(f"{f}: {n}" for n in "abcde")) for f in files])
    columns = ["file_name", "keywords", "sound_id", "sound_link", "start_end_samples", "manufacturer", "license"]
    numbers = ["80399", "151300", "Not found", "77", "5"]
    metadata = [(f, "a;b", number, "link", "[0, 661500]", "x", "y") for f, number in zip(files, numbers, strict=True)]
    tools.table(root / "as_utf8.csv", columns, metadata)
    text = (root / "as_utf8.csv").read_text(encoding="utf-8")
    (root / "as_utf8.csv").unlink()
    (root / f"clotho_metadata_{split}.csv").write_bytes(text.encode("iso-8859-1"))
    for number, file in enumerate(files[:4]):
        tools.tone(root / split / file, 0.2 + number / 10, 44100)


def wavcaps(root):
    """Ids that end in .wav though the files are FLAC, lists with `data` and bare, blacklists as published."""
    lists = {
        "AudioSet_SL/as": [
            {"id": "Yb0RFKhbpFJA.wav", "caption": "Wind and a man speaking are heard.", "audio": "x", "duration": 10.0},
            {"id": "Yr1nicOVtvkQ.wav", "caption": "On the blacklist.", "audio": "x", "duration": 10.0},
        ],
        "BBC_Sound_Effects/bbc": [{"id": "07066104", "caption": "Someone is using a rip saw.", "duration": 138.36}],
        "FreeSound/fsd": [
            {"id": "180913", "file_name": "UK Mello.wav", "caption": "A ringtone is playing.", "duration": 3.2},
            {"id": "99", "caption": "", "duration": -1.0},
            {"id": "100", "caption": "On the other blacklist.", "duration": 1.0},
        ],
        "SoundBible/sb": [{"id": "2219", "caption": "An airplane is landing.", "duration": 14.14}],
    }
    for name, data in lists.items():
        path = root / "json_files" / f"{name}_final.json"
        path.parent.mkdir(parents=True)
        bare = name.startswith("SoundBible")
        path.write_text(json.dumps(data if bare else {"num_captions_per_audio": 1, "data": data}))
    blacklists = root / "json_files" / "blacklist"
    blacklists.mkdir()
    listed = {"AudioSet": ["Yr1nicOVtvkQ.wav"], "FreeSound": []}
    (blacklists / "blacklist_exclude_all_ac.json").write_text(json.dumps(listed))
    listed = {"AudioSet": [], "FreeSound": ["100"]}
    (blacklists / "blacklist_exclude_ub8k_esc50_vggsound.json").write_text(json.dumps(listed))
    inside = "mnt/fast/nobackup/scratch4weeks/xm00178/WavCaps/data/waveforms"
    tools.tone(root / "Zip_files/AudioSet_SL" / inside / "AudioSet_SL_flac/Yb0RFKhbpFJA.flac", 0.5, 32000)
    tools.tone(root / "Zip_files/AudioSet_SL" / inside / "AudioSet_SL_flac/Yr1nicOVtvkQ.flac", 0.5, 32000)
    tools.tone(root / "waveforms/BBC_Sound_Effects_flac/07066104.flac", 0.4, 32000)
    tools.tone(root / "Audio/FreeSound/180913.flac", 0.3, 32000)
    tools.tone(root / "Audio/FreeSound/100.flac", 0.3, 32000)
    tools.tone(root / "SoundBible/2219.flac", 0.2, 32000)


def tar(path, members):
    """A tar file of (name, bytes), or of ready-made members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = info.size or len(content)
            file.addfile(info, io.BytesIO(content))


def sample(folder, number, text, tags=(), seconds=0.2):
    """The two members of a sample."""
    tools.tone(folder / f"{number}.flac", seconds, 48000)
    about = {"text": text, "tag": list(tags), "original_data": {"title": "x"}}
    return [
        (f"{number}.flac", (folder / f"{number}.flac").read_bytes()),
        (f"{number}.json", json.dumps(about).encode()),
    ]


def laion(root, scratch):
    """Two splits of tar files with sizes.json: 11 tar files, so that the order of numbers shows, and odd samples."""
    for number in range(11):
        tar(root / "train" / f"{number}.tar", sample(scratch, number, [f"caption {number}", f"again {number}"]))
    first, second = sample(scratch, 1, []), sample(scratch, 2, "one text", ["dog"])
    odd = [
        *reversed(sample(scratch, 0, [], ["Harp", "Music"], 0.1)),  # the JSON first; no text, but tags
        *first,  # neither
        *second,
        ("3.flac", second[0][1]),  # no JSON
        ("4.json", b"\xff not JSON"),
        ("sub/2.flac", b"no audio"),
        ("sub/2.json", second[1][1]),
    ]
    tar(root / "test" / "0.tar", odd)
    (root / "train" / "sizes.json").write_text(json.dumps({f"{number}.tar": 1 for number in range(11)}))
    (root / "test" / "sizes.json").write_text(json.dumps({"0.tar": 4}))
