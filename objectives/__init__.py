"""The built-in objectives. Importing this package registers them."""

from slap.objectives.captioning import Captioning as Captioning
from slap.objectives.classification import Classification as Classification
from slap.objectives.contrastive import Contrastive as Contrastive
from slap.objectives.frame_alignment import FrameAlignment as FrameAlignment
from slap.objectives.masked_distillation import MaskedDistillation as MaskedDistillation
from slap.objectives.sigmoid import Sigmoid as Sigmoid
