"""Readers of published corpora in their official layouts, one file each. Importing this package registers them.

`slap prepare NAME ROOT OUT` turns a corpus into manifests; `base` explains how to add one.
"""

from slap.datamodules.corpora.audiocaps import AudioCaps as AudioCaps
from slap.datamodules.corpora.audioset import AudioSet as AudioSet
from slap.datamodules.corpora.audioset_strong import AudioSetStrong as AudioSetStrong
from slap.datamodules.corpora.audiosetcaps import AudioSetCaps as AudioSetCaps
from slap.datamodules.corpora.autoacd import AutoACD as AutoACD
from slap.datamodules.corpora.clotho import Clotho as Clotho
from slap.datamodules.corpora.cremad import CREMAD as CREMAD
from slap.datamodules.corpora.desed import DESED as DESED
from slap.datamodules.corpora.esc50 import ESC50 as ESC50
from slap.datamodules.corpora.fsd50k import FSD50K as FSD50K
from slap.datamodules.corpora.gtzan import GTZAN as GTZAN
from slap.datamodules.corpora.musiccaps import MusicCaps as MusicCaps
from slap.datamodules.corpora.own_folder import Folder as Folder
from slap.datamodules.corpora.own_tables import CSV as CSV
from slap.datamodules.corpora.own_tables import JSONLines as JSONLines
from slap.datamodules.corpora.ravdess import RAVDESS as RAVDESS
from slap.datamodules.corpora.speechcommands import SpeechCommands as SpeechCommands
from slap.datamodules.corpora.urbansound8k import UrbanSound8K as UrbanSound8K
from slap.datamodules.corpora.vggsound import VGGSound as VGGSound
from slap.datamodules.corpora.wavcaps import WavCaps as WavCaps
from slap.datamodules.corpora.webdataset import WebDataset as WebDataset
