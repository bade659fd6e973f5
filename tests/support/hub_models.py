"""The smallest models of transformers that have all the parts of the published ones."""

from __future__ import annotations

AST = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_length": 64,
    "num_mel_bins": 32,
    "initializer_range": 0.3,
}

WHISPER = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "max_source_positions": 50,  # one second
    "num_mel_bins": 20,
    "vocab_size": 10,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "init_std": 0.2,
}

WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8, 8, 8],
    "conv_kernel": [10, 8, 8],
    "conv_stride": [5, 8, 8],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "initializer_range": 0.2,
    "hidden_dropout": 0.0,
    "activation_dropout": 0.0,
}
"""A row of 320 samples, as the published model's."""

CLAP = {
    "spec_size": 64,
    "num_mel_bins": 16,
    "patch_embeds_hidden_size": 16,
    "hidden_size": 32,
    "depths": [2, 2],
    "num_attention_heads": [2, 2],
    "window_size": 4,
    "hidden_dropout_prob": 0.0,
    "initializer_factor": 4.0,
}

CLAP_TEXT = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.0,
}

CLAP_EXTRACTOR = {
    "feature_size": 16,
    "sampling_rate": 8000,
    "hop_length": 80,
    "max_length_s": 1,
    "fft_window_size": 256,
    "frequency_max": 4000,
    "truncation": "rand_trunc",
}

BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 60,
}
