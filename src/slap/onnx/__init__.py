"""Exported models without torch: embeddings and labels by onnxruntime.

    pip install slap-onnx          # numpy, soundfile, PyAV, sentencepiece and onnxruntime; no torch

    import slap.onnx

    model = slap.onnx.load("exported")  # what `slap export MODEL exported --onnx` wrote
    model.embed_audio(["sound.wav"]) @ model.embed_text(["a dog barks"]).T
    model.classify("sound.wav", ["dog", "rain"])

Files of any format, rate and length are read, resampled and cut into windows by the modules that do it for `slap.load`;
texts are cut into the same tokens. Results are numpy arrays, and differ from those of torch by less than 1e-4.
"""

from slap.onnx.load import load as load
from slap.onnx.model import OnnxModel as OnnxModel
