"""Audio of cuts: decode and load waveforms."""
