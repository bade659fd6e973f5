"""The contracts of encoders and objectives, and the network that they form."""
