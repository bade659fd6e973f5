"""WebDataset: tar files of audio with captions beside it, read where they lie."""
