"""The corpora of YouTube clips as their authors publish the lists, with audio as people download it."""

import tree_tools as tools

CLASSES = """index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/05zppz,"Male speech, man speaking"
72,/m/068hy,"Domestic animals, pets"
74,/m/0bt9lr,"Dog"
137,/m/04rlf,"Music"
"""

HEADER = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids={0}, num_segs={0}, num_unique_labels=527, num_positive_labels=9
# YTID, start_seconds, end_seconds, positive_labels
"""


def audioset(root):
    """Five clips in the balanced list, four with audio in four namings; ids that begin with dashes and with Y."""
    (root / "metadata").mkdir(parents=True)
    (root / "metadata" / "class_labels_indices.csv").write_text(CLASSES)
    lists = {
        "balanced_train": [
            ("--4gqARaEJE", "0.000", "10.000", "/m/068hy,/m/0bt9lr"),
            ("YAb_cD-efGh", "30.000", "40.000", "/m/04rlf"),
            ("-0RWZT-miFs", "420.000", "430.000", "/m/09x0r,/m/05zppz"),
            ("abcdefghij_", "22.000", "27.000", "/m/09x0r"),
            ("gone-gone00", "5.000", "15.000", "/m/04rlf"),
        ],
        "unbalanced_train": [("unbalanced1", "1.000", "11.000", "/m/04rlf")],
        "eval": [("evaluation_", "1.000", "11.000", "/m/0bt9lr")],
    }
    for split, segments in lists.items():
        lines = [f'{", ".join(segment[:3])}, "{segment[3]}"\n' for segment in segments]
        (root / "metadata" / f"{split}_segments.csv").write_text(HEADER.format(len(lines)) + "".join(lines))
    audio = root / "audios"
    tools.tone(audio / "balanced_train_segments" / "Y--4gqARaEJE.wav", pitch=300)
    tools.tone(audio / "balanced_train_segments" / "YAb_cD-efGh_30000_40000.flac", pitch=350)
    tools.tone(audio / "balanced_train_segments" / "-0RWZT-miFs.mp3", pitch=400, rate=44100)
    (audio / "balanced_train_segments" / "abcdefghij_.wav").write_bytes(b"")
    tools.tone(audio / "unbalanced_train_segments" / "unbalanced_train_segments_part00" / "Yunbalanced1.wav", pitch=450)
    tools.tone(audio / "eval_segments" / "Yevaluation_.wav", pitch=500)


def vggsound(root):
    """No header, labels with commas, the test and training clips in one list; one clip has no audio."""
    tools.table(
        root / "vggsound.csv",
        None,
        [
            ("---g-f_I2yQ", 1, "people marching", "test"),
            ("--0PQM4-hqg", 30, "waterfall burbling", "train"),
            ("--56QUhyDQM", 185, "bird chirping, tweeting", "train"),
            ("Y-goneGone1", 10, "playing tennis", "train"),
        ],
    )
    tools.tone(root / "video" / "---g-f_I2yQ_000001.wav", pitch=300)
    tools.tone(root / "video" / "--0PQM4-hqg_000030.wav", pitch=350)
    tools.tone(root / "video" / "--56QUhyDQM_000185.flac", pitch=400)


def musiccaps(root):
    """Captions with line breaks and quotes, a list of aspects in Python's notation."""
    header = (
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval"
    )
    tools.table(
        root / "musiccaps-public.csv",
        header.split(","),
        [
            ("-0Gj8-vB1q4", 30, 40, "/m/04rlf", "['low quality', \"80's strings\"]", "Slow,\nsad.", 4, "False", "True"),
            ("_-kssA-FOzU", 0, 10, "/m/04rlf", "[]", 'The singer says "hey".', 0, "False", "False"),
            ("gone_gone_0", 120, 130, "/m/04rlf", "['drums']", "Drums.", 0, "True", "False"),
        ],
    )  # fmt: skip
    tools.tone(root / "wav" / "[-0Gj8-vB1q4]-[30-40].wav", pitch=300, channels=2)
    tools.tone(root / "wav" / "_-kssA-FOzU.wav", pitch=350)


def audiosetcaps(root):
    """Three lists that name clips in three ways."""
    tools.table(
        root / "Dataset" / "AudioSetCaps_caption.csv",
        ["id", "caption"],
        [("Y---1_cCGK4M", "A man speaks, then a dog barks."), ("Y--gone-gone", "Rain."), ("YYab_cd-efgh", " ")],
    )
    tools.table(
        root / "Dataset" / "VGGSound_AudioSetCaps_caption.csv", ["id", "caption"], [("OxPnZzn1_L8_000883", "Wind.")]
    )
    tools.table(
        root / "Dataset" / "YouTube-8M_AudioSetCaps_caption.csv", ["id", "caption"], [("_7Xe9vD3Hpg_4_10", "A cello.")]
    )


def autoacd(root):
    """Clips of AudioSet by their id, clips of VGGSound with the start; a clip twice, and something that is no id."""
    tools.table(
        root / "train.csv",
        ["youtube_id", "caption"],
        [
            ("---1_cCGK4M", "A man speaks in a hall."),
            ("OxPnZzn1_L8_000883", "Wind blows over a field."),
            ("OxPnZzn1_L8_000883", "Wind blows over a field."),
            ("https://youtu.be/abc", "A link."),
        ],
    )
    tools.table(root / "test.csv", ["youtube_id", "caption"], [("_7Xe9vD3Hpg", "A cello plays.")])


def shared_audio(root):
    """The audio that the two caption corpora share: below one folder, in the namings of their sources."""
    tools.tone(root / "audioset" / "Y---1_cCGK4M.wav", pitch=300)
    tools.tone(root / "vggsound" / "OxPnZzn1_L8_000883.wav", pitch=350)
    tools.tone(root / "youtube8m" / "_7Xe9vD3Hpg_4_10.mp3", pitch=400, rate=44100)
    tools.tone(root / "youtube8m" / "_7Xe9vD3Hpg.wav", pitch=450)
