"""The corpora with strong labels as their authors publish the lists."""

import tree_tools as tools


def tsv(path, header, rows):
    """Write a list with tabs, as published: no quotes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [*([header] if header else []), *rows]
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")


def audioset_strong(root):
    """Four clips, of which one is gone and one shorter than its events; an id with a dash and an underscore."""
    header = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
    tsv(
        root / "mid_to_display_name.tsv",
        None,
        [("/m/0bt9lr", "Dog"), ("/m/05zppz", "Male speech, man speaking"), ("/m/06mb1", "Rain"), ("/m/04rlf", "Music")],
    )
    tsv(
        root / "audioset_train_strong.tsv",
        header,
        [
            ("b0RFKhbpFJA_30000", 0.0, 10.0, "/m/06mb1"),
            ("b0RFKhbpFJA_30000", 4.753, 5.72, "/m/0bt9lr"),
            ("b0RFKhbpFJA_30000", 0.0, 2.5, "/m/05zppz"),
            ("-_short-0_1_0", 0.05, 0.1, "/m/0bt9lr"),
            ("b0RFKhbpFJA_30000", 7.0, 7.0, "/m/04rlf"),
            ("-_short-0_1_0", 0.1, 10.0, "/m/06mb1"),
            ("gone-gone00_120000", 1.0, 2.0, "/m/04rlf"),
        ],
    )
    tsv(root / "audioset_eval_strong.tsv", header, [("s9d-2nhuJCQ_30000", 2.627, 7.237, "/m/0bt9lr")])
    tools.tone(root / "audio" / "train" / "b0RFKhbpFJA_30000.wav", seconds=10.0, rate=8000)
    tools.tone(root / "audio" / "train" / "Y-_short-0_1.wav", seconds=0.2)
    tools.tone(root / "audio" / "eval" / "Ys9d-2nhuJCQ.flac", seconds=10.0, rate=8000)


def desed(root):
    """The lists of 2019 to 2021 merged as published, with audio of some clips of each."""
    strong = ("filename", "onset", "offset", "event_label")
    tsv(
        root / "metadata" / "train" / "weak.tsv",
        ("filename", "event_labels"),
        [("Y-_T5NIAxUrA_30.000_40.000.wav", "Alarm_bell_ringing,Speech"), ("Ygone-gone00_0.000_10.000.wav", "Dog")],
    )
    tsv(
        root / "metadata" / "train" / "unlabel_in_domain.tsv",
        ("filename",),
        [("YKK227gPpRn4_30.000_40.000.wav",)],
    )
    tsv(
        root / "metadata" / "train" / "synthetic21_train" / "soundscapes.tsv",
        strong,
        [("0.wav", 2.0, 10.0, "Blender"), ("0.wav", 1.5, 3.25, "Electric_shaver_toothbrush"), ("1.jams", 0, 1, "Cat")],
    )
    tsv(
        root / "metadata" / "validation" / "validation.tsv",
        strong,
        [
            ("Y00pbt6aJV8Y_350.000_360.000.wav", 0.0, 9.971, "Vacuum_cleaner"),
            ("Y-0SdAVK79lg_1.000_11.000.wav", "", "", ""),
        ],
    )
    tsv(
        root / "metadata" / "eval" / "public.tsv",
        strong,
        [("1Ro0FgMWTUE_120_130.wav", 0.0, 2.081, "Speech"), ("1Ro0FgMWTUE_120_130.wav", 3.8, 10.0, "Frying")],
    )
    audio = root / "audio"
    for name in (
        "train/weak/Y-_T5NIAxUrA_30.000_40.000",
        "train/unlabel_in_domain/YKK227gPpRn4_30.000_40.000",
        "train/synthetic21_train/soundscapes/0",
        "train/synthetic21_train/soundscapes/1",
        "validation/validation/Y00pbt6aJV8Y_350.000_360.000",
        "validation/validation/Y-0SdAVK79lg_1.000_11.000",
        "eval/public/1Ro0FgMWTUE_120_130",
    ):
        tools.tone(audio / f"{name}.wav", seconds=10.0, rate=4000, pitch=300 + len(name))
